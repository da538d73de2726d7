"""The client's side of a connection: bytes to checked requests, one served at a time.

llhttp refuses most of what request smuggling lives on (both lengths, two lengths, bad chunks,
bare CR or LF, obs-fold); what it lets pass (`gzip, chunked`, a second Host, HTTP/2.0) is
refused here. After a refusal nothing more is parsed: the answer goes out, and the connection is
closed slowly so that the client can read it.

Nothing that a client does makes the worker keep more for it than the limits say: bytes are
parsed in small pieces and only while there is room for requests, the next request is served
once the client has taken the answers before, and what moves neither way is cut.
"""

import asyncio
from collections import deque
from socket import SO_ERROR, SOL_SOCKET
from typing import Final, NoReturn, cast

import httptools
import structlog

from tidegate.gateway import reply
from tidegate.gateway.exchange import Exchange
from tidegate.gateway.hops import HOP_BY_HOP, without_named
from tidegate.gateway.plane import Plane
from tidegate.gateway.repeat import TRIES, KnownRequest, learn_request
from tidegate.gateway.request import BadTargetError, Incoming, host_of, split_target
from tidegate.gateway.tls import SNI
from tidegate.gateway.upgrade import without_upgrade

log = structlog.get_logger("tidegate.gateway")

_IDLE, _HEAD, _BODY, _REFUSED = range(4)
PROBE_S: Final = 0.02
"""How long the reset of a client that left may take; if it takes longer, a sweep sees it."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
PIECE: Final = 16 * 1024
"""Bytes parsed at once: one read may bring ten thousand small requests."""
SMALL: Final = 1024
"""Pieces of a body below this are put together as they come."""
WAITING_BYTES: Final = 1024 * 1024
"""Bodies that may wait behind the request that is served."""
DRAIN_IDLE_S: Final = 0.5
"""While draining, an idle connection is closed after this: a request may be on its way."""

_SPECIAL: Final = HOP_BY_HOP | {
    b"expect", b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id",
}  # fmt: skip
"""Kept apart from the headers that are passed on as they are."""
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_OURS: Final = (b"x-gateway-", b"x-tidegate-")


class _RefusedError(Exception):
    """Unwinds the parser after a refusal."""


class Downstream(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_at",
        "_began",
        "_body",
        "_body_bytes",
        "_connections",
        "_current",
        "_due",
        "_half_closed",
        "_head_bytes",
        "_headers",
        "_holds",
        "_idle_since",
        "_known",
        "_length",
        "_limits",
        "_linger_until",
        "_moved_at",
        "_parser",
        "_peer",
        "_phase",
        "_plane",
        "_port",
        "_raw_bytes",
        "_reading",
        "_secure",
        "_sni",
        "_special",
        "_target",
        "_tries",
        "_turn",
        "_unparsed",
        "_unsent",
        "_upgrade",
        "_waiting",
        "_waiting_bytes",
        "_writable",
        "transport",
    )

    def __init__(
        self, plane: Plane, connections: "set[Downstream]", port: int, *, secure: bool
    ) -> None:
        self._plane = plane
        self._limits = plane.settings.limits
        self._connections = connections
        self._port = port
        self._secure = secure
        self._parser = httptools.HttpRequestParser(self)
        self._phase = _IDLE
        self._current: Exchange | None = None
        self._waiting: deque[Incoming | bytes] = deque()
        self._waiting_bytes = self._holds = self._unsent = 0
        self._unparsed = b""
        self._reading = self._writable = True
        self._due = self._half_closed = self._turn = self._upgrade = False
        self._linger_until: float | None = None
        self._began = self._at = self._moved_at = 0.0
        self._body: list[bytes | bytearray] = []
        self._body_bytes = self._head_bytes = self._raw_bytes = self._length = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._special: dict[bytes, bytes] = {}
        self._target = b""
        self._known: KnownRequest | None = None
        self._tries = TRIES

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self.transport = cast("asyncio.Transport", transport)
        plane = self._plane
        plane.connections += 1
        self._connections.add(self)
        self._idle_since = plane.loop.time()
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._sni: str | None = getattr(transport.get_extra_info("ssl_object"), SNI, None)
        if plane.connections > self._limits.connections:
            self._refuse(503, "TooManyConnections", "too many connections; try again later")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: nobody reads what is still to come."""
        self._plane.connections -= 1
        self._connections.discard(self)
        self._forget()
        current, self._current = self._current, None
        if current is not None:
            current.client_gone()

    def data_received(self, data: bytes) -> None:
        """Parse; whole requests are served from the parser's callbacks."""
        between = self._between()
        if between and self._known is not None and self._serve_known(self._known, data):
            return
        self._turn = True
        if len(data) > PIECE or self._unparsed:
            self._unparsed += data
            self._parse()
        elif self._phase != _REFUSED:
            self._feed(data)
            if self._waiting:
                self._pause_when_full()
        if between and self._tries and self._current is not None and self._phase == _IDLE:
            self._tries -= 1
            self._known = learn_request(data, self._current.request, self._special)

    def eof_received(self) -> bool:
        """The client sends no more: it left, or it only waits, as `nc` does. Find out.

        An informational answer tells: clients must bear it (RFC 9110 section 15.2), and a
        socket that was closed answers it with a reset. Where it can't be sent, the client
        counts as gone, for a model server must not work for nobody.
        """
        if self._secure or (self._current is not None and not self._current.can_inform()):
            return False
        if self._current is None and not self._waiting:
            return False
        self._half_closed = True
        self.transport.write(CONTINUE)
        # Nothing is read any more, so nobody tells us of the reset.
        self._plane.loop.call_later(PROBE_S, self._look_for_reset)
        return True

    def pause_writing(self) -> None:
        """The client reads slower than the endpoint writes."""
        self._writable = False
        if self._current is not None:
            self._current.pause()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._writable = True
        self._unsent = 0
        if self._current is not None:
            self._current.resume()
        elif self._waiting:
            self._serve_soon()

    # the exchange's side

    def write(self, data: bytes) -> None:
        """Send a part of the current answer."""
        self.transport.write(data)

    def done(self, *, keep_alive: bool) -> None:
        """The current answer is out; serve the next request, if any."""
        self._current = None
        # A request that comes in pieces didn't have to hurry while another was served.
        self._idle_since = self._at = self._plane.loop.time()
        if not keep_alive:
            self._close_slowly()
        elif self._waiting:
            self._serve_soon()
        elif self._half_closed:
            self.transport.close()

    def abort(self) -> None:
        """Cut the connection, so that the client can't take a half answer for a whole one."""
        self._current = None
        self.transport.abort()

    # the worker's side

    def sweep(self, now: float) -> None:
        """End what takes too long; `now` is the loop's time. Called about twice a second."""
        if self._half_closed:
            self._look_for_reset()
        if not self._writable and self._stuck(now):
            self.transport.abort()
        elif self._linger_until is not None:
            if now > self._linger_until:
                self._end_lingering(now)
        elif self._current is not None:
            self._current.sweep()
        elif self._phase == _HEAD:
            if now - self._at > self._limits.header_timeout_s:
                self._refuse(408, "RequestTimeout", "the request's headers came too slowly")
        elif self._phase == _BODY:
            allowed = self._limits.body_timeout_s + self._body_bytes / self._limits.body_rate
            if now - self._at > allowed:
                self._refuse(408, "RequestTimeout", "the request's body came too slowly")
        elif not self._waiting:
            limit = DRAIN_IDLE_S if self._plane.draining else self._limits.keep_alive_s
            if now - self._idle_since > limit:
                self._close_idle(now)

    def _end_lingering(self, now: float) -> None:
        if self._stuck(now) or not self._unsent:
            self.transport.abort()
        else:
            self._linger_until = now + self._limits.linger_s

    def _close_idle(self, now: float) -> None:
        if self._stuck(now):
            self.transport.abort()
        elif not self._unsent:
            self.transport.close()

    def _look_for_reset(self) -> None:
        client = self.transport.get_extra_info("socket")
        if not self.transport.is_closing() and client.getsockopt(SOL_SOCKET, SO_ERROR):
            self.transport.abort()

    def _stuck(self, now: float) -> bool:
        """Whether the client has taken nothing of what waits for it for too long."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._moved_at = unsent, now
        return now - self._moved_at > self._limits.client_stall_s

    # the parser's side

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        if self._phase == _REFUSED:
            raise _RefusedError
        self._phase = _HEAD
        self._at = self._plane.loop.time()
        self._began = self._plane.clock()
        self._headers = []
        self._special = {}
        self._body = []
        self._body_bytes = self._head_bytes = 0
        # What lies before it in its piece is not its own.
        self._raw_bytes = -PIECE
        self._target = b""

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; trailers are dropped."""
        if self._phase != _HEAD:
            return
        name = name.lower()
        if name in _SPECIAL:
            self._keep_special(name, value.strip(b" \t"))
            if name == b"x-request-id":
                self._headers.append((name, value))
        elif name.startswith(_OURS) and not self._plane.settings.trust_client_headers:
            return
        else:
            self._headers.append((name, value))
        self._count_head(len(name) + len(value) + 4)
        if len(self._headers) > self._limits.headers:
            self._stop(431, "HeadersTooLarge", f"more than {self._limits.headers} headers")

    def on_headers_complete(self) -> None:
        """Decide whether the body is wanted."""
        special = self._special
        version = self._parser.get_http_version()
        coding = special.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
            self._stop(400, "MalformedRequest", "the only transfer coding understood is chunked")
        if version not in _VERSIONS:
            self._stop(400, "MalformedRequest", "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if b"host" not in special and version != "1.0":
            self._stop(400, "MalformedRequest", "an HTTP/1.1 request must have a Host header")
        length = int(special.get(b"content-length", b"0"))
        if length > self._limits.body_bytes:
            self._too_large()
        if self._parser.get_method() == b"CONNECT":
            self._stop(405, "MethodNotSupported", "CONNECT is not offered")
        self._phase = _BODY
        self._length = length
        self._raw_bytes = -PIECE
        self._upgrade = self._parser.should_upgrade()
        expect = special.get(b"expect")
        if expect is not None and version != "1.0":
            self._expect(expect, wanted=bool(length or coding))

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body_bytes:
            self._too_large()
        self._hold(len(data))
        if self._body and len(data) < SMALL:
            # Pieces may be as small as a byte: each by itself would weigh forty times as much.
            last = self._body[-1]
            if not isinstance(last, bytearray):
                last = bytearray()
                self._body.append(last)
            last += data
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole: serve it, or let it wait for its turn."""
        if self._upgrade or self._phase == _REFUSED:
            return
        self._phase = _IDLE
        request = self._request()
        if self._turn and self._current is None and self._writable and not self._waiting:
            # One a read at once: what we answer by ourselves must not keep others waiting.
            self._turn = False
            self._serve(request)
        else:
            self._waiting.append(request)
            self._waiting_bytes += len(request.body)
            self._serve_soon()

    # inside

    def _parse(self) -> None:
        """Parse what came, as long as there is room for more requests."""
        data, at = memoryview(self._unparsed), 0
        while at < len(data) and self._phase != _REFUSED and not self._full():
            # What is known to be a body needn't be cut.
            rest_of_body = self._length - self._body_bytes if self._phase == _BODY else 0
            end = at + max(PIECE, rest_of_body)
            self._feed(data[at:end])
            at = end
        self._unparsed = b"" if self._phase == _REFUSED else bytes(data[at:])
        self._pause_when_full()

    def _pause_when_full(self) -> None:
        if self._reading and self._full() and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def _feed(self, data: bytes | memoryview) -> None:
        size, body_bytes = len(data), self._body_bytes
        while data:
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as err:
                data = self._without_upgrade(data[err.args[0] :])
            except httptools.HttpParserError as err:
                # Refused already, when it was one of our callbacks that raised.
                if self._phase != _REFUSED:
                    self._refuse(400, "MalformedRequest", f"malformed HTTP request: {err}")
                return
        if self._phase == _HEAD or self._phase == _BODY:
            self._count_unseen(size if self._body_bytes == body_bytes else 0)

    def _count_unseen(self, size: int) -> None:
        """Count what brought nothing; a piece of the body ends the count.

        llhttp shows a header or trailer once it is whole, and of chunk extensions nothing:
        endless ones must not fill memory.
        """
        self._raw_bytes = self._raw_bytes + size if size else -PIECE
        if self._raw_bytes > self._limits.header_bytes:
            self._refuse(431, "HeadersTooLarge", self._head_message())

    def _full(self) -> bool:
        waiting = len(self._waiting)
        return waiting > self._limits.pipelined or self._waiting_bytes > WAITING_BYTES

    def _between(self) -> bool:
        """Whether whatever comes is the beginning of a request that may be served at once."""
        return (
            self._phase == _IDLE
            and self._current is None
            and self._writable
            and not self._waiting
            and not self._unparsed
        )

    def _serve_known(self, known: KnownRequest, data: bytes) -> bool:
        """Serve `data` without parsing it, if its head is the last one's; say whether it was."""
        body = known.body(data)
        limits, plane = self._limits, self._plane
        if body is None or len(body) > limits.body_bytes:
            return False
        if plane.body_bytes + len(body) > limits.bodies_bytes:
            return False
        self._tries = TRIES
        self._begin(known.request(body, plane.clock()))
        return True

    def _request(self) -> Incoming:
        special = self._special
        try:
            authority, target = split_target(self._target)
        except BadTargetError as err:
            self._stop(400, "InvalidPath", str(err))
        authority = special.get(b"host", b"") if authority is None else authority
        host = host_of(authority)
        if host is None:
            self._stop(400, "MalformedRequest", "the Host header is malformed")
        path, _, query = target.partition("?")
        pieces, self._body = self._body, []
        return Incoming(
            method=self._parser.get_method().decode("ascii"),
            target=target,
            path=path,
            query=query,
            host=host,
            authority=authority,
            headers=without_named(self._headers, special.get(b"connection", b"")),
            body=bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces),
            http10=self._parser.get_http_version() == "1.0",
            keep_alive=self._parser.should_keep_alive(),
            began=self._began,
            port=self._port,
            secure=self._secure,
            sni=self._sni,
            peer=self._peer,
            request_id=special.get(b"x-request-id"),
            forwarded_for=special.get(b"x-forwarded-for"),
        )

    def _serve(self, request: Incoming) -> None:
        # From here on the exchange holds it.
        self._let_go(len(request.body))
        self._begin(request)

    def _begin(self, request: Incoming) -> None:
        exchange = Exchange(self._plane, self, request)
        self._current = exchange
        try:
            exchange.begin()
        except Exception:
            # Not up through the parser, which would take it for the client's fault.
            log.exception("request failed by a bug", route=exchange.record.route)
            exchange.crash()

    def _serve_soon(self) -> None:
        """Serve what waits, but not from here: a long pipeline would grow the stack."""
        if not self._due and self._current is None:
            self._due = True
            self._plane.loop.call_soon(self._serve_next)

    def _serve_next(self) -> None:
        self._due = False
        if self._current is not None or not self._waiting or not self._writable:
            return
        if self.transport.is_closing():
            return
        following = self._waiting.popleft()
        if isinstance(following, bytes):
            self._say_last(following)
            return
        self._waiting_bytes -= len(following.body)
        self._serve(following)
        if not self._reading and not self._full():
            self._read_on()

    def _read_on(self) -> None:
        self._parse()
        if not self._reading and not self._full() and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def _keep_special(self, name: bytes, value: bytes) -> None:
        special = self._special
        if name not in special:
            special[name] = value
        elif name == b"host":
            self._stop(400, "MalformedRequest", "a request must have one Host header")
        else:
            special[name] += b", " + value

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.header_bytes:
            self._stop(431, "HeadersTooLarge", self._head_message())

    def _head_message(self) -> str:
        return f"request line and headers are over {self._limits.header_bytes} bytes"

    def _too_large(self) -> None:
        message = f"the body is over {self._limits.body_bytes} bytes"
        self._stop(413, "BodyTooLarge", message)

    def _expect(self, expect: bytes, *, wanted: bool) -> None:
        if expect.lower() != b"100-continue":
            self._stop(417, "ExpectationFailed", "only Expect: 100-continue is understood")
        if wanted and self._current is None and not self._waiting:
            self.transport.write(CONTINUE)

    def _without_upgrade(self, rest: bytes | memoryview) -> bytes:
        """Return the request as if it didn't ask for an upgrade, to be parsed anew."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        start = b"%b %b HTTP/%b\r\n" % (method, self._target, version.encode("ascii"))
        self._upgrade = False
        self._tries = 0
        self._phase = _IDLE
        self._parser = httptools.HttpRequestParser(self)
        return without_upgrade(start, self._special, self._headers, rest)

    def _hold(self, size: int) -> None:
        """Count `size` bytes of a body against what all connections may hold."""
        self._holds += size
        self._plane.body_bytes += size
        if self._plane.body_bytes > self._limits.bodies_bytes:
            self._stop(503, "Overloaded", "the worker holds too many request bodies; try again")

    def _let_go(self, size: int) -> None:
        self._holds -= size
        self._plane.body_bytes -= size

    def _forget(self) -> None:
        """Drop what came in and isn't served."""
        self._phase = _REFUSED
        self._waiting.clear()
        self._waiting_bytes = 0
        self._unparsed = b""
        self._body = []
        self._let_go(self._holds)

    def _stop(self, status: int, reason: str, message: str) -> NoReturn:
        self._refuse(status, reason, message)
        raise _RefusedError

    def _refuse(self, status: int, reason: str, message: str) -> None:
        """Answer with an error after what was asked before, then close."""
        self._phase = _REFUSED
        self._plane.reject(reason)
        answer = reply.error(status, reason, message, close=True)
        if self._current is None and not self._waiting:
            self._say_last(answer)
        else:
            self._waiting.append(answer)

    def _say_last(self, answer: bytes) -> None:
        self.transport.write(answer)
        self._close_slowly()

    def _close_slowly(self) -> None:
        """Close once the client has read: bytes of its that we didn't would reset our answer."""
        self._forget()
        if self.transport.is_closing():
            return
        if self._secure or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._linger_until = self._plane.loop.time() + self._limits.linger_s
        self.transport.write_eof()
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()
