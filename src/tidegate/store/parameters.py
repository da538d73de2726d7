"""What a request's query says, checked: how to select, how to watch, how to write."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from starlette.requests import Request

from tidegate.api.errors import BadRequestError, FieldError, InvalidError
from tidegate.store.selectors import Selector, parse_selector

Strictness = Literal["Strict", "Warn", "Ignore"]

MAX_MANAGER: Final = 128
TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE: Final = frozenset({"", "0", "f", "F", "false", "FALSE", "False"})
"""What Go's ParseBool takes; clients in other languages send `True`."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How to watch."""

    version: str
    """What the client has seen; "" and "0" mean: begin with what there is."""
    bookmarks: bool
    initial_events: bool
    """Begin with what there is and say when that is done (`sendInitialEvents`)."""
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How to write."""

    manager: str
    dry_run: bool
    strict: Strictness
    force: bool | None
    """None where the request doesn't say."""


def selector_of(request: Request) -> Selector:
    """Return which objects the request is about."""
    query = request.query_params
    return parse_selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Return a boolean of the query; false where it is missing. Raises BadRequestError."""
    found = query.get(name, "")
    if found not in TRUE | FALSE:
        raise BadRequestError(f'{name}: found "{found}", expected true or false')
    return found in TRUE


def watch_options(query: Mapping[str, str]) -> WatchOptions:
    """Return how the request wants to watch. Raises BadRequestError, InvalidError."""
    options = WatchOptions(
        version=_version(query.get("resourceVersion", "")),
        bookmarks=is_true(query, "allowWatchBookmarks"),
        initial_events=is_true(query, "sendInitialEvents"),
        timeout_s=_seconds(query.get("timeoutSeconds", "")),
    )
    _check_match(query)
    return options


def _version(text: str) -> str:
    if text and not (text.isascii() and text.isdigit()):
        raise BadRequestError(f'resourceVersion: found "{text}", expected one of a list')
    return text


def _check_match(query: Mapping[str, str]) -> None:
    match = query.get("resourceVersionMatch", "")
    if "sendInitialEvents" in query and match != "NotOlderThan":
        expected = "NotOlderThan where sendInitialEvents is set"
        raise InvalidError([FieldError("resourceVersionMatch", match, expected)])
    if "sendInitialEvents" not in query and match:
        expected = "nothing: it is forbidden for a watch without sendInitialEvents"
        raise InvalidError([FieldError("resourceVersionMatch", match, expected)])


def _seconds(text: str) -> float | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadRequestError(f'timeoutSeconds: found "{text}", expected a number of seconds')
    return float(text) or None


def write_options(request: Request) -> WriteOptions:
    """Return how the request wants to write. Raises InvalidError, BadRequestError."""
    query = request.query_params
    return WriteOptions(
        manager=_manager(query.get("fieldManager", ""), request.headers.get("user-agent", "")),
        dry_run=is_dry(query.getlist("dryRun")),
        strict=_strictness(query.get("fieldValidation", "")),
        force=is_true(query, "force") if "force" in query else None,
    )


def is_dry(values: list[str]) -> bool:
    """Whether nothing is to be stored. Raises InvalidError for anything but `All`."""
    for value in values:
        if value not in ("", "All"):
            raise InvalidError([FieldError("dryRun", value, '"All"', "FieldValueNotSupported")])
    return "All" in values


def _strictness(text: str) -> Strictness:
    if text not in ("", "Strict", "Warn", "Ignore"):
        expected = '"Ignore", "Strict" or "Warn"'
        raise InvalidError(
            [FieldError("fieldValidation", text, expected, "FieldValueNotSupported")]
        )
    return cast("Strictness", text or "Warn")


def _manager(asked: str, user_agent: str) -> str:
    """Return who writes: as asked, else the program's name as its User-Agent says."""
    if len(asked) > MAX_MANAGER or not asked.isprintable():
        expected = f"at most {MAX_MANAGER} printable characters"
        raise InvalidError([FieldError("fieldManager", asked, expected)])
    found = asked or user_agent.split("/")[0]
    printable = "".join(letter for letter in found if letter.isprintable())
    return printable[:MAX_MANAGER] or "unknown"
