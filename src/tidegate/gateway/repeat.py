"""A connection's next head is nearly always its last, but for the length of the body.

What a head parses to depends on its bytes alone. So a connection to a client or an endpoint
keeps its last head, cut at the digits of Content-Length; bytes that are equal to it need no
parser, and what was made of it stands as long as what else it was made of. A read that isn't
exactly this head and its whole body goes to the parser, as every first one does.
"""

import re
from typing import Final

from msgspec.structs import replace

from tidegate.gateway.framing import AnswerHead, Written
from tidegate.gateway.hops import Headers
from tidegate.gateway.request import Incoming, Memo

LONGEST: Final = 4096
"""Bytes of a head that is kept: what a connection holds stays small."""
TRIES: Final = 8
"""New heads in a row after which a connection stops to look: its heads differ each time."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]{1,8})\r\n", re.IGNORECASE)
_OK: Final = 200
_WELL: Final = b"HTTP/1.1 200 "
"""No informational answer comes before it, and a body comes after it."""
_END: Final = b"\r\n\r\n"
_CHANGING: Final = frozenset({b"expect", b"transfer-encoding", b"x-request-id"})
"""Heads with one of these don't come again, or not with a plain body."""


class _Cut:
    """A head in two pieces; between them are the digits of its length."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    def body(self, data: bytes) -> bytes | None:
        """Return the body, if `data` is this head with some length and a body of that length."""
        at = len(self._before)
        if not data.startswith(self._before):
            return None
        end = data.find(b"\r", at, at + 9)
        if not data.startswith(self._after, end):
            return None
        digits = data[at:end]
        start = end + len(self._after)
        if digits.isdigit() and int(digits) == len(data) - start:
            return data[start:]
        return None


class KnownRequest(_Cut):
    """A client's last head."""

    __slots__ = ("_request",)

    def __init__(self, before: bytes, after: bytes, request: Incoming) -> None:
        super().__init__(before, after)
        self._request = request

    def request(self, body: bytes, began: float) -> Incoming:
        """Return a request with this head; it began on the plane's clock at `began`."""
        return replace(self._request, body=body, began=began)


class KnownAnswer(_Cut):
    """An endpoint's last head."""

    __slots__ = ("head",)

    def __init__(self, before: bytes, after: bytes, head: AnswerHead) -> None:
        super().__init__(before, after)
        self.head = head


def learn_answer(data: bytes, headers: Headers, length: int) -> KnownAnswer | None:
    """Return what to compare the next answer with; None if this one won't come again.

    Args:
        data: One read, which was the whole answer.
        headers: What is passed on of its head.
        length: Of the body.

    """
    end = data.find(_END) + len(_END)
    if end > LONGEST or not data.startswith(_WELL):
        return None
    found = _LENGTH.search(data, 0, end)
    if found is None or not int(found[1]) == length == len(data) - end:
        return None
    head = AnswerHead(_OK, headers, Written())
    return KnownAnswer(data[: found.start(1)], data[found.end(1) : end], head)


def learn_request(
    data: bytes, request: Incoming, special: dict[bytes, bytes]
) -> KnownRequest | None:
    """Return what to compare the next read with; None if this request won't come again.

    Args:
        data: One read, which began with the request.
        request: What it was parsed to.
        special: Its headers that are not passed on as they are.

    """
    end = data.find(_END) + len(_END)
    if end > LONGEST or not request.keep_alive or special.keys() & _CHANGING:
        return None
    length = _LENGTH.search(data, 0, end)
    if length is None or length[1] != special.get(b"content-length"):
        return None
    if int(length[1]) != len(data) - end:
        return None
    request = replace(request, body=b"", memo=Memo())
    return KnownRequest(data[: length.start(1)], data[length.end(1) : end], request)
