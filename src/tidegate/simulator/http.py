"""A small HTTP/1.1 server for one purpose: JSON in, JSON or server-sent events out.

Requests of a connection are answered one after the other; pipelined ones wait. A `Reply` is
answered once, at any later time, by `send` or by `start_events` ... `end`. When the client
leaves before that, the reply's `on_gone` is called once, and whatever is written is dropped.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast

import httptools

MAX_BODY_BYTES: Final = 32 << 20
MAX_PIPELINED: Final = 64
EVENT_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\n"
)
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request."""

    method: str
    path: str
    """Without the query."""
    body: bytes
    request_id: str
    """The header `x-request-id`, '' without one."""
    content_type: str
    """The header `content-type`, '' without one."""


Handler = Callable[[Request, "Reply"], None]


class Reply:
    """The answer to one request."""

    __slots__ = ("_chunked", "_connection", "_head_only", "_keep_alive", "on_gone")

    def __init__(self, connection: "Connection", version: str, method: str, keep: bool) -> None:
        self._connection: Connection | None = connection
        self._chunked = version == "1.1"
        self._keep_alive = keep
        self._head_only = method == "HEAD"
        self.on_gone: Callable[[], None] | None = None

    def send(self, status: int, body: bytes = b"", content_type: str = "application/json") -> None:
        """Answer with a whole body."""
        if (connection := self._connection) is None:
            return
        keep = self._keep_alive and not connection.closing
        connection.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n%s"
            % (
                status,
                _REASONS.get(status, b"Unknown"),
                content_type.encode(),
                len(body),
                b"" if keep else b"connection: close\r\n",
                b"" if self._head_only else body,
            )
        )
        self._done(keep)

    def start_events(self) -> None:
        """Send the head of an event stream."""
        if (connection := self._connection) is None:
            return
        if connection.closing or not self._chunked:
            self._keep_alive = False
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        ending = b"" if self._keep_alive else b"connection: close\r\n"
        connection.write(EVENT_HEAD + framing + ending + b"\r\n")

    def events(self, data: bytes) -> None:
        """Send whole events (`data: ...` and an empty line each)."""
        if self._connection is not None:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
            self._connection.write(chunk)

    def events_if(self, data: bytes) -> None:
        """Send events if there are any: an empty chunk would end the body."""
        if data:
            self.events(data)

    def end(self) -> None:
        """End the event stream."""
        if self._connection is not None:
            if self._chunked:
                self._connection.write(b"0\r\n\r\n")
            self._done(self._keep_alive)

    def reset(self) -> None:
        """Break the connection with a TCP reset, whatever was sent so far."""
        if (connection := self._connection) is not None:
            self._connection = None
            connection.reset()

    def gone(self) -> None:
        """Learn that the client has left."""
        self._connection = None
        if (tell := self.on_gone) is not None:
            self.on_gone = None
            tell()

    def _done(self, keep: bool) -> None:
        connection, self._connection, self.on_gone = self._connection, None, None
        if connection is not None:
            connection.replied(keep and not connection.closing)


class Connection(asyncio.Protocol):
    """One client's connection. `closing` is set when it may not take another request."""

    def __init__(self, handler: Handler, connections: "set[Connection]") -> None:
        self.closing = False
        self._handler = handler
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, Reply]] = deque()
        self._reply: Reply | None = None
        self._transport: asyncio.Transport
        self._start_message()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the one who answers that nobody listens."""
        self._connections.discard(self)
        self._queue.clear()
        if self._reply is not None:
            self._reply.gone()

    def data_received(self, data: bytes) -> None:
        """Parse; a broken request is answered with 400 and ends the connection."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(HTTPStatus.BAD_REQUEST)

    # What httptools calls while it parses.

    def on_message_begin(self) -> None:
        """Forget the last request."""
        self._start_message()

    def on_url(self, url: bytes) -> None:
        """Collect the target; it may come in pieces."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the headers that matter here."""
        if len(name) == 12 and name.lower() == b"x-request-id":
            self._request_id = value.decode("latin-1")
        elif len(name) == 12 and name.lower() == b"content-type":
            self._content_type = value.decode("latin-1")
        elif len(name) == 6 and name.lower() == b"expect":
            self._expect = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """Ask for the body where the client waits for that."""
        if self._expect:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Collect the body up to its limit."""
        self._size += len(body)
        if self._size <= MAX_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """Handle the request, or queue it behind the one that is being answered."""
        if self.closing:
            return
        if self._size > MAX_BODY_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        method = self._parser.get_method().decode("ascii")
        path = self._target.partition(b"?")[0].decode("latin-1")
        body = b"".join(self._body)
        request = Request(method, path, body, self._request_id, self._content_type)
        keep = self._parser.should_keep_alive()
        reply = Reply(self, self._parser.get_http_version(), method, keep)
        if self._reply is None:
            self._reply = reply
            self._handler(request, reply)
        else:
            self._queue.append((request, reply))
            if len(self._queue) >= MAX_PIPELINED:
                self._transport.pause_reading()

    # What replies and the server call.

    def write(self, data: bytes) -> None:
        """Send bytes of the reply."""
        self._transport.write(data)

    def replied(self, keep: bool) -> None:
        """Go on with the next request, or close."""
        self._reply = None
        if not keep:
            self.closing = True
            self._transport.close()
        elif self._queue:
            if len(self._queue) >= MAX_PIPELINED:
                self._transport.resume_reading()
            request, self._reply = self._queue.popleft()
            self._handler(request, self._reply)

    def drain(self) -> None:
        """Close after the reply that is being written, or now."""
        self.closing = True
        self._queue.clear()
        if self._reply is None:
            self._transport.close()

    def reset(self) -> None:
        """Close with a TCP reset, at once."""
        self.closing = True
        self._reply = None
        sock = self._transport.get_extra_info("socket")
        # Linger for zero seconds: close() then sends RST and not FIN.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def _start_message(self) -> None:
        self._target = b""
        self._body: list[bytes] = []
        self._size = 0
        self._request_id = ""
        self._content_type = ""
        self._expect = False

    def _refuse(self, status: HTTPStatus) -> None:
        self.closing = True
        if self._reply is None:
            self._transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                % (status, status.phrase.encode())
            )
            self._transport.close()
