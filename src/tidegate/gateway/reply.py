"""Answers that the gateway gives by itself: errors in OpenAI's shape, redirects, models.

Every error has a stable CamelCase reason, in the body's `code` and in `x-tidegate-reason`.
"""

from http import HTTPStatus
from typing import Final

import msgspec

STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}

REASONS: Final = {
    "MalformedRequest": "The request breaks HTTP/1.1.",
    "InvalidPath": "The path has dot segments or is no path.",
    "HeadersTooLarge": "Request line and headers are larger than the limit.",
    "BodyTooLarge": "The body is larger than the limit.",
    "RequestTimeout": "The request came too slowly.",
    "ExpectationFailed": "Only `Expect: 100-continue` is understood.",
    "MethodNotSupported": "CONNECT is not offered.",
    "TooManyConnections": "The worker has as many connections as it may.",
    "Overloaded": "The worker holds as many request bodies as it may.",
    "NotReady": "The worker has no routes yet.",
    "Misdirected": "A TLS connection for one listener carried a request for another.",
    "RouteNotFound": "No HTTPRoute matches.",
    "ModelNotFound": "No endpoint behind the route serves the model.",
    "NoEndpoints": "The backend that was drawn has no endpoint.",
    "QueueFull": "As many requests of this priority wait for the pool as may; try again later.",
    "QueueTimeout": "The request waited for a place at the pool as long as it may.",
    "Evicted": "The request made room for one of a higher priority, or of another tenant.",
    "ConnectFailed": "No connection to the endpoint.",
    "UpstreamReset": "The endpoint closed the connection before it answered.",
    "UpstreamProtocolError": "The endpoint's answer breaks HTTP/1.1.",
    "UpstreamTimeout": "The endpoint did not answer in time.",
    "RequestDeadline": "The route's request timeout is over.",
    "InternalError": "A bug of the gateway; its log has the details.",
    "NoWeight": "All weights of the rule are 0.",
    "UnsupportedProtocol": "The backend speaks a protocol that the gateway doesn't.",
}
"""Every reason of the data path with its meaning; compile errors bring reasons of their own."""

_TYPES: Final = {
    400: "invalid_request_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "invalid_request_error",
    417: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    504: "timeout_error",
}


def status_line(status: int) -> bytes:
    """Return the status line, CRLF included; unknown codes get an empty phrase."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def error_body(status: int, reason: str, message: str) -> bytes:
    """Return the JSON body that the OpenAI clients understand."""
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": None, "code": reason}}
    )


def render(
    status: int,
    body: bytes,
    *,
    content_type: bytes = b"application/json",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    head_only: bool = False,
    close: bool = False,
) -> bytes:
    """Return a whole answer; `head_only` leaves the body out (HEAD), its length stays."""
    parts = [status_line(status)]
    parts += [b"%b: %b\r\n" % header for header in headers]
    if content_type and (body or not headers):
        parts.append(b"content-type: %b\r\n" % content_type)
    parts.append(b"content-length: %d\r\n" % len(body))
    if close:
        parts.append(b"connection: close\r\n")
    parts.append(b"\r\n")
    if not head_only:
        parts.append(body)
    return b"".join(parts)


def error(
    status: int, reason: str, message: str, *, head_only: bool = False, close: bool = False
) -> bytes:
    """Return a whole error answer."""
    return render(
        status,
        error_body(status, reason, message),
        headers=((b"x-tidegate-reason", reason.encode()),),
        head_only=head_only,
        close=close,
    )
