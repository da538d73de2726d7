"""The head of an answer as its client gets it: status, headers, and what frames the body.

An endpoint's head is nearly always its last one, so what was made of it is kept with it
(`Written`): what the head is made of decides what it becomes, and nothing else.
"""

from typing import Final

import msgspec

from tidegate.gateway import reply
from tidegate.gateway.hops import Headers
from tidegate.gateway.request import Incoming
from tidegate.routing.filters import edit_headers
from tidegate.routing.table import Arm, Rule

MOST: Final = 16
"""Arms for which one head is kept as it was written."""


class Written:
    """What was made of one head of an endpoint, by the arm that it answered for."""

    __slots__ = ("_by_arm",)

    def __init__(self) -> None:
        self._by_arm: dict[int, tuple[Rule, Arm, bytes]] = {}

    def find(self, rule: Rule, arm: Arm) -> bytes | None:
        """Return the head for that arm without what frames the body."""
        found = self._by_arm.get(id(arm))
        # Another table's arm may lie where this one's lay.
        if found is None or found[1] is not arm or found[0] is not rule:
            return None
        return found[2]

    def keep(self, rule: Rule, arm: Arm, head: bytes) -> None:
        """Remember it, if there is room."""
        if len(self._by_arm) < MOST or id(arm) in self._by_arm:
            self._by_arm[id(arm)] = rule, arm, head


class AnswerHead(msgspec.Struct, frozen=True):
    """The head of an endpoint's answer."""

    status: int
    headers: Headers
    """End to end; names in lower case."""
    written: Written | None = None
    """Set where the head is expected again; all answers with that head share it."""


def frame(
    status: int, length: int | None, request: Incoming, *, keep_alive: bool
) -> tuple[bytes, bool, bool]:
    """Return the lines that frame a body, whether it comes in chunks, and `keep_alive` then.

    `length` is None where nobody knows it.
    """
    lines, chunked = b"", False
    if length is not None:
        # 204 must not have it (RFC 9110 section 8.6); for HEAD and 304 it tells of a GET.
        if status != 204:
            lines = b"content-length: %d\r\n" % length
    elif request.method == "HEAD" or status in {204, 304}:
        pass
    elif request.http10:
        keep_alive = False
    else:
        chunked = True
        lines = b"transfer-encoding: chunked\r\n"
    if not keep_alive:
        lines += b"connection: close\r\n"
    elif request.http10:
        lines += b"connection: keep-alive\r\n"
    return lines + b"\r\n", chunked, keep_alive


def edited(headers: Headers, rule: Rule, arm: Arm | None) -> Headers:
    """Return an answer's headers after the rule's filters and the arm's."""
    headers = edit_headers(headers, rule.filters.response)
    return edit_headers(headers, arm.filters.response) if arm is not None else headers


def head(status: int, headers: Headers) -> bytes:
    """Return status line and headers."""
    return reply.status_line(status) + b"".join([b"%b: %b\r\n" % header for header in headers])


def is_stream(headers: Headers) -> bool:
    """Whether a head announces events."""
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )


def is_coded(headers: Headers) -> bool:
    """Whether a body can't be read as it is."""
    return any(name == b"content-encoding" and value != b"identity" for name, value in headers)
