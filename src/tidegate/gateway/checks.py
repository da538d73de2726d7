"""Checks of answers: whether one keeps the format that was asked for, whether it refuses.

A check gets what was asked and what was answered, and returns what is wrong, as `Check` bits.
Those here are cheap and cautious: they only say what is sure. Others come from installed packages,
by the entry-point group `tidegate.checks`; each is called with the same two arguments.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

import msgspec
import structlog

from tidegate.gateway.answers import Answer
from tidegate.judge.record import Check

GROUP: Final = "tidegate.checks"

log = structlog.get_logger()


class _Schema(msgspec.Struct, frozen=True):
    required: list[str] = []


class _NamedSchema(msgspec.Struct, frozen=True):
    schema: _Schema = _Schema()


class _Format(msgspec.Struct, frozen=True):
    type: str = ""
    json_schema: _NamedSchema = _NamedSchema()


class _Name(msgspec.Struct, frozen=True):
    name: str = ""


class _Tool(msgspec.Struct, frozen=True):
    function: _Name = _Name()


class Asked(msgspec.Struct, frozen=True):
    """What of a request says what its answer must be like."""

    response_format: _Format | None = None
    tools: list[_Tool] = []


AnswerCheck = Callable[[Asked, Answer], Check]


def asked_of(body: bytes) -> Asked:
    """Return what a request asks for; nothing where that can't be read."""
    try:
        return msgspec.json.decode(body, type=Asked)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Asked()


def format_kept(asked: Asked, answer: Answer) -> Check:
    """JSON where JSON was asked for, with the keys that its schema requires at the top."""
    wanted = asked.response_format
    if wanted is None or wanted.type not in ("json_object", "json_schema") or answer.calls:
        return Check(0)
    found = _json(answer.text)
    if not isinstance(found, dict) and (wanted.type == "json_object" or found is None):
        return Check.INVALID
    required = wanted.json_schema.schema.required
    missing = isinstance(found, dict) and not set(required) <= found.keys()
    return Check.INVALID if missing else Check(0)


def calls_parse(asked: Asked, answer: Answer) -> Check:
    """Calls of tools that there are, with arguments that are a JSON object."""
    names = {tool.function.name for tool in asked.tools}
    for call in answer.calls:
        if call.name not in names or not isinstance(_json(call.arguments or "{}"), dict):
            return Check.INVALID
    return Check(0)


REFUSAL: Final = re.compile(
    r"(I('m| am) sorry,? (but )?(I |as an AI)|I can(no|')t (help|assist|comply|fulfil)"
    r"|I('m| am) (not able|unable) to (help|assist|comply|fulfil)|As an AI (language )?model, I)",
    re.IGNORECASE,
)
"""How refusals begin, in English; for other languages and models bring a check of your own."""


def refuses(_asked: Asked, answer: Answer) -> Check:
    """The model says that it won't, or a filter cut it."""
    filtered = answer.finish == "content_filter"
    said = REFUSAL.match(answer.text.lstrip()) is not None
    return Check.REFUSED if answer.refusal or filtered or said else Check(0)


CHECKS: Final[tuple[AnswerCheck, ...]] = (format_kept, calls_parse, refuses)


@cache
def all_checks() -> tuple[AnswerCheck, ...]:
    """Return the checks here and those of installed packages."""
    return (*CHECKS, *(one.load() for one in entry_points(group=GROUP)))


def check(
    asked: Asked, answer: Answer, checks: tuple[AnswerCheck, ...] | None = None
) -> Check | None:
    """Return what all checks together find; None if one of them broke."""
    found = Check(0)
    for each in all_checks() if checks is None else checks:
        try:
            found |= each(asked, answer)
        except Exception:
            # Somebody else's check must not be able to stop requests.
            log.exception("an answer's check is broken", check=getattr(each, "__name__", str(each)))
            return None
    return found


def _json(text: str) -> Any:
    """Return the value; None if it is no JSON (a bare null is no answer, either)."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
