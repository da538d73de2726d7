"""A request that asks for an upgrade is served as if it didn't.

RFC 9110 section 7.8 lets a server ignore Upgrade; Java's HttpClient asks for h2c with every
first request. llhttp stops parsing there, so the body is read by a new parser that gets the same
head without the question.
"""

from typing import Final

from tidegate.gateway.hops import Headers

_ANSWERED: Final = frozenset({b"upgrade", b"expect", b"x-request-id"})
"""Not repeated when a request is parsed anew: settled, or among the other headers as well."""


def without_upgrade(
    start: bytes, special: dict[bytes, bytes], headers: Headers, rest: bytes | memoryview
) -> bytes:
    """Return a request's bytes anew.

    Args:
        start: The request line.
        special: The headers that are not passed on as they are.
        headers: The others.
        rest: What followed the head.

    """
    known = dict(special)
    options = known.pop(b"connection", b"").split(b",")
    others = [each for each in options if each.strip().lower() != b"upgrade"]
    known[b"connection"] = b",".join(others) or b"keep-alive"
    kept = [(name, known[name]) for name in known if name not in _ANSWERED]
    lines = [b"%b: %b\r\n" % header for header in kept + headers]
    return b"".join([start, *lines, b"\r\n", rest])
