"""Request bodies to values; what can't be read is refused where and as vLLM refuses it.

vLLM's web framework names the place of each problem (`body.max_tokens`), which becomes the
error's `param`. The places are the same here, the sentences are our own.
"""

import re
from http import HTTPStatus
from typing import Any, Final

import msgspec

from tidegate.simulator.errors import RequestError, bare, invalid
from tidegate.simulator.http import Request

_AT: Final = re.compile(r" - at `\$(.*)`$")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_INDEX: Final = re.compile(r"\[(\d+|\.\.\.)\]")


def parse(parser: msgspec.json.Decoder[Any], request: Request) -> Any:
    """Return the body of a request that says that it is JSON. Raises RequestError."""
    if request.content_type.partition(";")[0].strip().lower() != "application/json":
        raise _wrong_type()
    return parse_any(parser, request.body)


def parse_any(parser: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Return a body, whatever its sender calls it. Raises RequestError."""
    if not body:
        raise invalid("Field required", "body")
    try:
        return parser.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_value(str(error)) from error
    except msgspec.DecodeError as error:
        if not _is_text(body):
            raise _no_text() from error
        at = _BYTE.search(str(error))
        place = at[1] if at else str(len(body))
        raise invalid("JSON decode error", f"body.{place}") from error
    except UnicodeDecodeError as error:
        raise _no_text() from error


def _wrong_type() -> RequestError:
    status = HTTPStatus.BAD_REQUEST
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return RequestError(status, status.phrase, message)


def _no_text() -> RequestError:
    return bare(HTTPStatus.BAD_REQUEST, "There was an error parsing the body")


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _wrong_value(problem: str) -> RequestError:
    at = _AT.search(problem)
    place = "body" + (_INDEX.sub(r".\1", at[1]) if at else "")
    if missing := _MISSING.search(problem):
        return invalid("Field required", f"{place}.{missing[1]}")
    return invalid(_AT.sub("", problem).replace("`", ""), place)
