"""An HTTP/1.1 client that keeps connections and times what comes back.

One `Connection` carries one request at a time. A finished one goes back to the pool; one that
the server closed meanwhile leaves it at once. Nothing is retried: a failure is a result.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools
from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from tidegate.api.errors import TidegateError
from tidegate.load.events import DONE, EventReader
from tidegate.load.result import ErrorKind, Result

CONNECT_TIMEOUT_S: Final = 10.0
MAX_BODY_BYTES: Final = 16 << 20
ABORTED: Final = b'"finish_reason":"abort"'
"""How vLLM ends the answers that it cuts when it is stopped: with 200, and `[DONE]`."""

Clock = Callable[[], float]


class TargetError(TidegateError):
    """The URL can't be asked."""

    reason = "InvalidTarget"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go."""

    host: str
    port: int
    tls: bool
    prefix: str
    """The URL's path, put before the paths of the API."""

    def head(self, path: str, headers: bytes = b"", method: str = "POST") -> bytes:
        """Return a request's head up to the length of its body, which is still to come."""
        default = 443 if self.tls else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = host if self.port == default else f"{host}:{self.port}"
        return (
            (
                f"{method} {self.prefix}{path} HTTP/1.1\r\nhost: {authority}\r\n"
                "user-agent: tidegate-load\r\ncontent-type: application/json\r\n"
            ).encode()
            + headers
            + b"content-length: "
        )


def parse_target(url: str) -> Target:
    """Return the target that `url` names. Raises TargetError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _bad_url(url) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _bad_url(url)
    tls = parts.scheme == "https"
    port = port or (443 if tls else 80)
    return Target(parts.hostname, port, tls, parts.path.rstrip("/").removesuffix("/v1"))


def _bad_url(url: str) -> TargetError:
    return TargetError(f"url: found {url!r}, expected http://HOST:PORT or https://HOST:PORT")


class Exchange:
    """One request under way: fills its result and says when it is over."""

    __slots__ = (
        "_clock",
        "_last_at",
        "_over",
        "_reader",
        "_saw_done",
        "_stream",
        "done",
        "result",
        "size",
    )

    def __init__(self, result: Result, clock: Clock, done: "asyncio.Future[None]") -> None:
        self.result = result
        self.size = 0
        self.done = done
        self._clock = clock
        self._reader = EventReader()
        self._stream = False
        self._over = False
        self._saw_done = False
        self._last_at = 0.0

    def header(self, name: bytes, value: bytes) -> None:
        """Keep what matters of the answer's head."""
        name = name.lower()
        if name == b"x-tidegate-pool":
            self.result.pool = value.decode("latin-1")
        elif name == b"x-tidegate-endpoint":
            self.result.endpoint = value.decode("latin-1")
        elif name == b"content-type":
            self._stream = value.startswith(b"text/event-stream")

    def body(self, data: bytes) -> None:
        """Time a piece of the answer."""
        self.size += len(data)
        if not self._stream:
            if self.result.ttft_s is None:
                self.result.ttft_s = self._clock() - self.result.started_at
            if self.size <= MAX_BODY_BYTES:
                self.result.answer.append(data)
            return
        for event in self._reader.feed(data):
            self._event(event)

    def complete(self, status: int) -> None:
        """Judge a whole answer."""
        if not self._stream and status < 400:
            self._take_usage(b"".join(self.result.answer))
        if status >= 400:
            self.over("status", _start_of(b"".join(self.result.answer)))
        elif not self._stream and ABORTED in b"".join(self.result.answer):
            self.over("truncated", "the server aborted it")
        elif self._stream and not self._saw_done:
            self.over("truncated", "the stream ended without data: [DONE]")
        else:
            self.over(self.result.error, self.result.detail)

    def over(self, error: ErrorKind = "", detail: str = "") -> None:
        """End it; the first end counts."""
        if self._over:
            return
        self._over = True
        self.result.error, self.result.detail = error, detail
        self.result.duration_s = self._clock() - self.result.started_at
        if not self.done.done():  # a timeout has cancelled it
            self.done.set_result(None)

    def _take_usage(self, data: bytes) -> bool:
        """Keep the counts of an answer or event; return whether that is all it has."""
        try:
            counted = _COUNTED.decode(data)
        except (DecodeError, UnicodeDecodeError):
            return False
        if (usage := counted.usage) is None:
            return False
        details = usage.prompt_tokens_details
        self.result.prompt_tokens = usage.prompt_tokens
        self.result.output_tokens = usage.completion_tokens
        self.result.cached_tokens = (details.cached_tokens or 0) if details else 0
        return not counted.choices

    def _event(self, data: bytes) -> None:
        if data == DONE:
            self._saw_done = True
            return
        now = self._clock()
        result = self.result
        if b'"usage"' in data and b'"usage":null' not in data and self._take_usage(data):
            return  # it has no choice: no token came
        result.events += 1
        result.answer.append(data)
        if result.events == 1 and b'"role"' in data and _NO_TEXT.search(data):
            return  # it announces who speaks: some servers send it long before the first token
        if result.ttft_s is None:
            result.ttft_s = now - result.started_at
        else:
            result.gaps_s.append(now - self._last_at)
        self._last_at = now
        if ABORTED in data:
            result.error, result.detail = "truncated", "the server aborted it"
        if data.startswith(b'{"error"'):
            result.error, result.detail = "stream-error", _start_of(data)


class _Details(Struct, frozen=True):
    cached_tokens: int | None = 0


class _Usage(Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Counted(Struct, frozen=True):
    choices: list[Raw] = []
    usage: _Usage | None = None


_NO_TEXT: Final = re.compile(rb'"content": ?(?:""|null)')
_COUNTED: Final = Decoder(_Counted)


def _start_of(data: bytes) -> str:
    return data[:200].decode("utf-8", "replace")


class Connection(asyncio.Protocol):
    """One connection of the pool."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._exchange: Exchange | None = None
        self._parser: httptools.HttpResponseParser
        self._transport: asyncio.Transport
        self._status = 0
        self._framed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the pool; a request under way has failed."""
        self._client.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            where = f"after {exchange.size} bytes" if self._status else "before the answer"
            exchange.over("reset", f"{exc or 'connection closed'} {where}")

    def eof_received(self) -> None:
        """End a body that ends with its connection."""
        if self._exchange is not None and self._status and not self._framed:
            self.on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Parse; what nobody asked for ends the connection."""
        if self._exchange is None:
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail("garbage", str(error))

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Start a request."""
        self._exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._status = 0
        self._framed = False
        self._transport.write(request)

    def leave(self, exchange: Exchange) -> None:
        """Break the connection if `exchange` is still on it: its rest is of no use."""
        if self._exchange is exchange:
            self._exchange = None
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self._transport.close()

    def _fail(self, error: ErrorKind, detail: str) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.over(error, detail)
        self._transport.abort()

    # What httptools calls while it parses.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Hand on a header."""
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._framed = True
        if self._exchange is not None:
            self._exchange.header(name, value)

    def on_headers_complete(self) -> None:
        """Take the status."""
        self._status = self._parser.get_status_code()
        if self._exchange is not None:
            self._exchange.result.status = self._status

    def on_body(self, data: bytes) -> None:
        """Hand on a piece of the body."""
        if self._exchange is not None:
            self._exchange.body(data)

    def on_message_complete(self) -> None:
        """End the request and give the connection back."""
        if 100 <= self._status < 200:  # an interim answer: the real one follows
            return
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        exchange.complete(self._status)
        if self._framed and self._parser.should_keep_alive():
            self._client.give_back(self)
        else:
            self._transport.close()


class Client:
    """Sends requests to one target.

    Args:
        target: Where to.
        clock: Returns seconds; `time.perf_counter` has the resolution that this needs.
        timeout_s: How long a request may take from its start to its end.

    """

    def __init__(self, target: Target, clock: Clock, timeout_s: float = 120.0) -> None:
        self.target = target
        self._clock = clock
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if target.tls else None
        self._idle: list[Connection] = []

    async def send(self, result: Result, head: bytes, body: bytes) -> Result:
        """Send one request and return `result`, filled in. Never raises for a failure."""
        loop = asyncio.get_running_loop()
        exchange = Exchange(result, self._clock, loop.create_future())
        result.started_at = self._clock()
        connection = None
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = self._idle.pop() if self._idle else await self._dial()
                connection.send(exchange, b"%b%d\r\n\r\n%b" % (head, len(body), body))
                await exchange.done
        except TimeoutError:
            exchange.over("timeout" if connection else "connect", "it took too long")
        except OSError as error:
            exchange.over("connect", str(error))
        finally:
            if connection is not None:
                connection.leave(exchange)
        return result

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Drop a connection that is no more."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _dial(self) -> Connection:
        loop = asyncio.get_running_loop()
        target = self.target
        _, connection = await asyncio.wait_for(
            loop.create_connection(
                lambda: Connection(self), target.host, target.port, ssl=self._tls
            ),
            CONNECT_TIMEOUT_S,
        )
        return connection
