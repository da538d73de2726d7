"""The client's side of a connection: bytes to checked requests, one served at a time.

llhttp refuses most of what request smuggling lives on (both lengths, two lengths, bad chunks,
bare CR or LF, obs-fold); what it lets pass (`gzip, chunked`, a second Host) is refused here.
After a refusal nothing more is parsed: the answer goes out, and the connection is closed
slowly so that the client can read it.
"""

import asyncio
from collections import deque
from typing import Final, NoReturn, cast

import httptools
import structlog

from tidegate.gateway import reply
from tidegate.gateway.exchange import Exchange
from tidegate.gateway.plane import Plane
from tidegate.gateway.request import BadTargetError, Incoming, host_of, split_target
from tidegate.gateway.tls import SNI

log = structlog.get_logger("tidegate.gateway")

_IDLE, _HEAD, _BODY, _REFUSED = range(4)
LINGER_S: Final = 2.0
"""How long a refused client may go on sending before it is cut off."""
DRAIN_IDLE_S: Final = 0.5
"""While draining, an idle connection is closed after this: a request may be on its way."""

_SPECIAL: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-request-id",
    }
)
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
        "_head_bytes",
        "_headers",
        "_idle_since",
        "_limits",
        "_linger_until",
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
        "_upgrade",
        "_waiting",
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
        self._reading = True
        self._linger_until: float | None = None
        self._upgrade = False
        self._began = self._at = 0.0
        self._body: list[bytes] = []
        self._body_bytes = self._head_bytes = self._raw_bytes = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._special: dict[bytes, bytes] = {}
        self._target = b""

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
        self._waiting.clear()
        self._phase = _REFUSED
        current, self._current = self._current, None
        if current is not None:
            current.client_gone()

    def data_received(self, data: bytes) -> None:
        """Parse; whole requests are served from the parser's callbacks."""
        if self._phase == _REFUSED:
            return
        in_head = self._phase == _HEAD
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as err:
            self._after_upgrade(data[err.args[0] :])
        except httptools.HttpParserError as err:
            # Refused already, when it was one of our callbacks that raised.
            if self._phase != _REFUSED:
                self._refuse(400, "MalformedRequest", f"malformed HTTP request: {err}")
        if in_head and self._phase == _HEAD:
            # llhttp shows a header only once it is whole: an endless one must not fill memory.
            self._raw_bytes += len(data)
            if self._raw_bytes > self._limits.header_bytes:
                self._refuse(431, "HeadersTooLarge", self._head_message())
        if len(self._waiting) > self._limits.pipelined and self._reading:
            self._reading = False
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """The client reads slower than the endpoint writes."""
        if self._current is not None:
            self._current.pause()

    def resume_writing(self) -> None:
        """The client caught up."""
        if self._current is not None:
            self._current.resume()

    # the exchange's side

    def write(self, data: bytes) -> None:
        """Send a part of the current answer."""
        self.transport.write(data)

    def done(self, *, keep_alive: bool) -> None:
        """The current answer is out; serve the next request, if any."""
        self._current = None
        self._idle_since = self._plane.loop.time()
        if not keep_alive:
            self._close_slowly()
            return
        if self._waiting:
            # Not from here: a long pipeline would grow the stack.
            self._plane.loop.call_soon(self._serve_next)

    def abort(self) -> None:
        """Cut the connection, so that the client can't take a half answer for a whole one."""
        self._current = None
        self.transport.abort()

    # the worker's side

    def sweep(self, now: float) -> None:
        """End what takes too long; `now` is the loop's time. Called about once a second."""
        if self._linger_until is not None:
            if now > self._linger_until:
                self.transport.abort()
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
                self.transport.close()

    @property
    def busy(self) -> bool:
        """Whether a request is read or served."""
        return self._current is not None or bool(self._waiting) or self._phase in {_HEAD, _BODY}

    # the parser's side

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._phase = _HEAD
        self._at = self._plane.loop.time()
        self._began = self._plane.clock()
        self._headers = []
        self._special = {}
        self._body = []
        self._body_bytes = self._head_bytes = self._raw_bytes = 0
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
        if b"host" not in special and version != "1.0":
            self._stop(400, "MalformedRequest", "an HTTP/1.1 request must have a Host header")
        length = int(special.get(b"content-length", b"0"))
        if length > self._limits.body_bytes:
            self._too_large()
        if self._parser.get_method() == b"CONNECT":
            self._stop(405, "MethodNotSupported", "CONNECT is not offered")
        self._phase = _BODY
        self._upgrade = self._parser.should_upgrade()
        expect = special.get(b"expect")
        if expect is not None and version != "1.0":
            self._expect(expect, wanted=bool(length or coding))

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body_bytes:
            self._too_large()
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is whole: serve it, or let it wait for its turn."""
        if self._upgrade or self._phase == _REFUSED:
            return
        self._phase = _IDLE
        request = self._request()
        if self._current is None and not self._waiting:
            self._serve(request)
        else:
            self._waiting.append(request)

    # inside

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
        body = self._body
        return Incoming(
            method=self._parser.get_method().decode("ascii"),
            target=target,
            path=path,
            query=query,
            host=host,
            authority=authority,
            headers=self._without_named(special.get(b"connection")),
            body=body[0] if len(body) == 1 else b"".join(body),
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

    def _without_named(self, connection: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return the headers without those that `Connection` names (RFC 9110 section 7.6.1)."""
        if connection is None:
            return self._headers
        named = {option.strip().lower() for option in connection.split(b",")}
        if named <= {b"close", b"keep-alive"}:
            return self._headers
        return [header for header in self._headers if header[0] not in named]

    def _serve(self, request: Incoming) -> None:
        exchange = Exchange(self._plane, self, request)
        self._current = exchange
        try:
            exchange.begin()
        except Exception:
            # Not up through the parser, which would take it for the client's fault.
            log.exception("request failed by a bug", route=exchange.record.route)
            exchange.crash()

    def _serve_next(self) -> None:
        if self._current is not None or not self._waiting or self.transport.is_closing():
            return
        following = self._waiting.popleft()
        if isinstance(following, bytes):
            self._say_last(following)
            return
        if not self._reading and len(self._waiting) <= self._limits.pipelined:
            self._reading = True
            self.transport.resume_reading()
        self._serve(following)

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
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _after_upgrade(self, rest: bytes) -> None:
        """Serve a request that asks for an upgrade as if it didn't.

        RFC 9110 section 7.8 lets a server ignore Upgrade; Java's HttpClient asks for h2c with
        every first request. llhttp stops parsing there, so the body is read by a new parser
        that gets the same head without the question.
        """
        special = self._special
        head = [self._parser.get_method() + b" " + self._target + b" HTTP/1.1\r\n"]
        kept = [(n, special[n]) for n in special if n not in {b"connection", b"upgrade", b"expect"}]
        head += [b"%b: %b\r\n" % header for header in kept + self._headers]
        self._upgrade = False
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"".join(head) + b"\r\n" + rest)

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
        self._phase = _REFUSED
        self.transport.write(answer)
        self._close_slowly()

    def _close_slowly(self) -> None:
        """Close once the client has read: bytes of its that we didn't would reset our answer."""
        self._phase = _REFUSED
        self._waiting.clear()
        if self._secure or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._linger_until = self._plane.loop.time() + LINGER_S
        self.transport.write_eof()
