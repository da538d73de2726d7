"""One request as it came off the wire: checked, bounded, without hop-by-hop headers."""

import re
from typing import Final

import msgspec

from tidegate.routing.table import Match

_AUTHORITY: Final = re.compile(
    rb"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?"
)
_UNRESERVED: Final = re.compile(r"%(?:2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
"""Letters, digits and -._~ in their encoded form, which means the same (RFC 3986 section 2.3)."""
_DOT_SEGMENT: Final = re.compile(
    r"(?:^|[/\\]|%2f|%5c)\.{1,2}(?:[/\\;]|%2f|%5c|%3b|$)", re.IGNORECASE
)
"""With all that some server takes for a slash, and with the parameters that some cut off."""


MODELS: Final = 16
"""Models of one head whose matches are kept."""


class Found(msgspec.Struct, frozen=True, gc=False):
    """What a head and a model lead to in one table."""

    match: Match
    heads: dict[int, bytes] = {}
    """The heads that endpoints get, by the arm's id: the match keeps its arms."""


class Memo:
    """What was found for a head in one table, so that it needn't be found again."""

    __slots__ = ("_found", "_live")

    def __init__(self) -> None:
        self._live: object = None
        self._found: dict[str | None, Found] = {}

    def find(self, live: object, model: str | None) -> Found | None:
        """Return what was found in this table for the body's model."""
        if live is not self._live:
            self._live = live
            self._found = {}
        return self._found.get(model)

    def keep(self, model: str | None, match: Match) -> Found:
        """Remember the match of `model`, which `find` has just missed, if there is room."""
        found = Found(match)
        if len(self._found) < MODELS:
            self._found[model] = found
        return found


class BadTargetError(Exception):
    """The request target can't be routed safely."""


class Incoming(msgspec.Struct):
    """A whole request."""

    method: str
    target: str
    """Path and query as on the wire."""
    path: str
    query: str
    host: str
    """Lower case, without port; '' when an HTTP/1.0 client sent none."""
    authority: bytes
    """The Host header as it came."""
    headers: list[tuple[bytes, bytes]]
    """End-to-end headers with lower-case names, without Host."""
    body: bytes
    http10: bool
    keep_alive: bool
    began: float
    """On the plane's clock, when the first byte was read."""
    port: int
    """The listener's."""
    secure: bool
    sni: str | None
    """The server name of the TLS handshake."""
    peer: str
    """The client's address."""
    request_id: bytes | None = None
    forwarded_for: bytes | None = None
    memo: Memo | None = None
    """Set where the head is expected again; all requests with that head share it."""


def split_target(target: bytes) -> tuple[bytes | None, str]:
    """Return the authority (of an absolute-form target, else None) and path with query.

    A path must have one reading, or a prefix match on one would be served under another: what
    was encoded without need is decoded, and dot segments are refused, not resolved.

    Raises:
        BadTargetError: Neither origin-form nor absolute-form (RFC 9112 section 3.2), or a path
            with dot segments.

    """
    authority: bytes | None = None
    if not target.startswith(b"/"):
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in {b"http", b"https"}:
            raise BadTargetError("the request target must begin with / or http://")
        authority, slash, path = rest.partition(b"/")
        target = slash + path if slash else b"/"
    text = target.decode("latin-1")
    if "#" in text:
        raise BadTargetError("the request target must not have a fragment")
    path_text, mark, query = text.partition("?")
    if "%" in path_text:
        path_text = _UNRESERVED.sub(lambda found: chr(int(found[0][1:], 16)), path_text)
    if "." in path_text and _DOT_SEGMENT.search(path_text):
        raise BadTargetError("the path must not have . or .. segments")
    return authority, path_text + mark + query


def host_of(authority: bytes) -> str | None:
    """Return the host of a Host header or authority, lower case; None if it is malformed."""
    match = _AUTHORITY.fullmatch(authority)
    return match["host"].decode("ascii").lower() if match else None
