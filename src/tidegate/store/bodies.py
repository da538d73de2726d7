"""Request bodies: bytes in, JSON values out, and nothing that JSON couldn't say.

YAML is read as Kubernetes reads it: `yes` and dates are strings, keys are strings; a key that
looks like a number keeps the text it was written as. Aliases are refused: they can make a small
document huge.
"""

import contextlib
import math
import re
from collections.abc import Hashable, Mapping
from typing import Any, Final

import msgspec
import yaml
from starlette.requests import ClientDisconnect, Request

from tidegate.api.errors import BadRequestError
from tidegate.store.protobuf import PROTOBUF, decode_protobuf
from tidegate.store.statuses import RequestError

MAX_BODY: Final = 3 * 1024 * 1024
"""Bytes; the limit of a real API server too."""
MAX_DEPTH: Final = 100
JSON: Final = "application/json"
YAML: Final = "application/yaml"


_TAGS_OF_KEYS: Final = frozenset(f"tag:yaml.org,2002:{tag}" for tag in ("bool", "int", "float"))


class _Loader(yaml.CSafeLoader):
    """YAML with the scalars of JSON: no dates, no octals, and only true and false are booleans."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        for key, _ in node.value:
            if key.tag in _TAGS_OF_KEYS:
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)\Z", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


async def read_body(request: Request) -> bytes:
    """Return the body of `request`.

    Raises:
        RequestError: It is longer than MAX_BODY (413).

    """
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY:
                raise RequestError(
                    413, "RequestEntityTooLarge", f"Request entity too large: limit is {MAX_BODY}"
                )
            parts.append(part)
    except ClientDisconnect as error:
        raise BadRequestError("the client closed the connection within the body") from error
    return b"".join(parts)


def media_type(request: Request) -> str:
    """Return the media type of the body without parameters; JSON where none is given."""
    return request.headers.get("content-type", JSON).split(";")[0].strip().lower()


def unsupported(found: str, accepted: tuple[str, ...]) -> RequestError:
    """Return the error for a body in a media type that isn't spoken."""
    return RequestError(
        415,
        "UnsupportedMediaType",
        f'the body of the request was in an unknown format ("{found}") - '
        f"accepted media types include: {', '.join(accepted)}",
    )


def decode_object(body: bytes, media: str) -> dict[str, Any]:
    """Return the object in `body`.

    Raises:
        BadRequestError: There is none.
        RequestError: `media` is none of JSON, YAML and Kubernetes' protobuf (415).

    """
    match media:
        case "application/json":
            found = decode_json(body)
        case "application/yaml":
            found = decode_yaml(body)
        case "application/vnd.kubernetes.protobuf":
            found = decode_protobuf(body)
        case _:
            raise unsupported(media, (JSON, YAML, PROTOBUF))
    if not isinstance(found, dict):
        raise BadRequestError(f"the body must be an object, found {_sort_of(found)}")
    return found


def decode_json(body: bytes) -> Any:
    """Return the JSON value in `body`. Raises BadRequestError."""
    try:
        return _plain(msgspec.json.decode(body), 0)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise BadRequestError(f"the body isn't JSON: {error}") from error


def decode_yaml(body: bytes) -> Any:
    """Return the value of the one YAML document in `body`; JSON is YAML. Raises BadRequestError."""
    with contextlib.suppress(BadRequestError):  # clients send JSON as YAML, and it is faster
        return decode_json(body)
    try:
        found = yaml.load(body, _Loader)  # noqa: S506 - a safe loader
        _refuse_aliases(found, set())
        return _plain(found, 0)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BadRequestError(f"the body isn't YAML: {' '.join(str(error).split())}") from error


def _refuse_aliases(value: Any, seen: set[int]) -> None:
    """Raise where a container stands in two places: it was written once and aliased."""
    if not isinstance(value, (dict, list)) or not value:
        return
    if id(value) in seen:
        raise BadRequestError("the body has YAML aliases: write the values out")
    seen.add(id(value))
    for child in value.values() if isinstance(value, dict) else value:
        _refuse_aliases(child, seen)


def _plain(value: Any, depth: int) -> Any:
    """Return `value` as JSON has it, or raise BadRequestError."""
    if depth > MAX_DEPTH:
        raise BadRequestError(f"the body is nested deeper than {MAX_DEPTH} levels")
    match value:
        case None | bool():
            return value
        case str():
            value.encode()  # half a surrogate pair can't be stored
            return value
        case int():
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            return [_plain(item, depth + 1) for item in value]
        case dict():
            return {_key(key): _plain(item, depth + 1) for key, item in value.items()}
        case _:
            raise BadRequestError(f"the body has a value that JSON lacks: {value!r:.40}")


def _key(key: Any) -> str:
    match key:
        case str():
            key.encode()
            return key
        case _:
            raise BadRequestError(f"the body has a key that JSON lacks: {key!r:.40}")


def _sort_of(value: Any) -> str:
    return {list: "a list", str: "text", type(None): "nothing"}.get(type(value), "a plain value")


def text_of(obj: Mapping[str, Any], *path: str) -> str:
    """Return the text at `path` of `obj`; empty where there is none, whatever is there instead."""
    found: Any = obj
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""
