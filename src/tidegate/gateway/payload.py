"""The bytes of a request as an endpoint gets it: rebuilt, never passed through.

The head is written anew from checked parts, with exactly one length, so that client, gateway
and endpoint can't disagree about where a request ends.
"""

from typing import Final

from tidegate.gateway.plane import Plane
from tidegate.gateway.request import Incoming
from tidegate.routing.filters import edit_headers, rewrite_path
from tidegate.routing.table import Arm, HeaderEdits, Rule

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
_HOST: Final = b"host"


def request_payload(
    request: Incoming,
    plane: Plane,
    rule: Rule,
    arm: Arm,
    prefix: str,
    heads: dict[int, bytes] | None = None,
) -> bytes:
    """Return head and body for the endpoint.

    `heads` keeps by the arm's id what was made of the same request head under the same match.
    """
    body = request.body
    head = heads.get(id(arm)) if heads is not None else None
    if head is None:
        head = _head(request, rule, arm, prefix)
        if heads is not None:
            heads[id(arm)] = head
    number = b""
    if request.request_id is None:
        number = b"x-request-id: %016x\r\n" % plane.rng.getrandbits(64)
    if body or request.method in _WITH_BODY:
        return b"%b%bcontent-length: %d\r\n\r\n%b" % (head, number, len(body), body)
    return b"%b%b\r\n" % (head, number)


def _head(request: Incoming, rule: Rule, arm: Arm, prefix: str) -> bytes:
    """Return all of the head that is the same with another body, without its end.

    The rule's filters come first, then the arm's.
    """
    rewrite = arm.filters.rewrite or rule.filters.rewrite
    target, authority = request.target, request.authority
    if rewrite is not None and rewrite.path is not None:
        target = rewrite_path(target, rewrite.path, prefix)
    if rewrite is not None and rewrite.hostname:
        authority = rewrite.hostname.encode("ascii")
    headers = request.headers
    for edits in (rule.filters.request, arm.filters.request):
        if edits:
            headers, authority = _edited(headers, authority, edits)
    parts = [
        f"{request.method} {target} HTTP/1.1\r\nhost: ".encode("latin-1"),
        authority,
        b"\r\n",
    ]
    for name, value in headers:
        parts.append(name)
        parts.append(b": ")
        parts.append(value)
        parts.append(b"\r\n")
    parts.append(_forwarded(request))
    return b"".join(parts)


def _edited(
    headers: list[tuple[bytes, bytes]], authority: bytes, edits: HeaderEdits
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and Host after `edits`; Host can be set and not removed."""
    edited = edit_headers([(_HOST, authority), *headers], edits)
    hosts = [value for name, value in edited if name == _HOST]
    return [header for header in edited if header[0] != _HOST], (hosts or [authority])[0]


def _forwarded(request: Incoming) -> bytes:
    peer = request.peer.encode("ascii", "replace")
    chain = b"%b, %b" % (request.forwarded_for, peer) if request.forwarded_for else peer
    scheme = b"https" if request.secure else b"http"
    return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (chain, scheme)
