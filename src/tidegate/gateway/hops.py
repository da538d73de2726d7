"""What belongs to one connection and is never passed on, in either direction.

RFC 9110 section 7.6.1: some names always, and whatever `Connection` names besides.
"""

from typing import Final

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"http2-settings",
    }
)
"""Never forwarded; Content-Length is among them because it is set anew by the sender."""

_USUAL: Final = frozenset({b"", b"close", b"keep-alive", b"upgrade"})


def without_named(headers: Headers, connection: bytes) -> Headers:
    """Return the headers without those that `connection` (the header's value) names."""
    if not connection:
        return headers
    named = {option.strip(b" \t").lower() for option in connection.split(b",")} - _USUAL
    return [header for header in headers if header[0] not in named] if named else headers
