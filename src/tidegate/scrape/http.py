"""A small HTTP/1.1 client for one endpoint: GET over one kept connection.

Scraping a hundred endpoints several times a second must cost next to nothing, so this does
just that: no pool, no redirects, no TLS. One request at a time. Whatever a server does ends
as an answer or as `UnavailableError`; the caller bounds the time.
"""

import asyncio
from typing import Final, NamedTuple, cast

import httptools

from tidegate.api.errors import UnavailableError

MAX_BYTES: Final = 4 * 1024 * 1024
"""Of one answer, head and body."""


class Answer(NamedTuple):
    """A complete answer."""

    status: int
    body: bytes


class Client:
    """Sends GETs to one endpoint, connecting when needed."""

    def __init__(self, address: str, max_bytes: int = MAX_BYTES) -> None:
        self._address = address
        self._max_bytes = max_bytes
        self._exchange: _Connection | None = None

    async def get(self, path: str) -> Answer:
        """Return the answer to `GET path`.

        A cancelled get closes its connection: the rest of its answer must not meet the next.

        Raises:
            UnavailableError: No connection, or no proper answer.

        """
        kept = self._exchange
        if kept and kept.reusable:
            try:
                return await self._ask(kept, path)
            except _IdleClosedError:
                pass  # The server closed it while it was idle, as it may: ask on a new one.
        return await self._ask(await self._connect(), path)

    def close(self) -> None:
        """Drop the connection."""
        if self._exchange:
            self._exchange.abort()
            self._exchange = None

    async def _ask(self, connection: "_Connection", path: str) -> Answer:
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {self._address}\r\nUser-Agent: tidegate\r\n"
            "Accept: text/plain;version=0.0.4, application/json, */*;q=0.1\r\n\r\n"
        )
        try:
            return await connection.ask(request.encode())
        except BaseException:
            connection.abort()
            raise

    async def _connect(self) -> "_Connection":
        self.close()
        host, _, port = self._address.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            _, self._exchange = await loop.create_connection(
                lambda: _Connection(self._max_bytes), host.strip("[]"), int(port)
            )
        except (OSError, ValueError, OverflowError) as error:
            raise UnavailableError(f"{self._address}: can't connect: {error}") from error
        return self._exchange


class _IdleClosedError(UnavailableError):
    """A kept connection ended before anything of an answer came."""


class _Connection(asyncio.Protocol):
    """One connection. Answers are parsed as they come; at most one is awaited."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Answer] | None = None
        self._body: list[bytes] = []
        self._received = 0
        self._answers = 0
        self._in_body = False
        self._until_close = True
        self.reusable = True

    async def ask(self, request: bytes) -> Answer:
        """Send `request`, return its answer."""
        if self._transport is None or self._transport.is_closing():
            raise _IdleClosedError("the connection is closed")
        self._received = 0
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def abort(self) -> None:
        """End the connection at once."""
        self.reusable = False
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._max_bytes:
            self._fail(f"the answer is larger than {self._max_bytes} bytes")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"the answer is no HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._waiter is None or not self._awaited:
            return
        if self._received == 0 and self._answers:
            self._waiter.set_exception(_IdleClosedError("closed while idle"))
        elif exc is None and self._in_body and self._until_close:
            self._complete()
        else:
            self._waiter.set_exception(UnavailableError(f"connection lost: {exc or 'closed'}"))

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if not self._awaited:
            self.abort()  # An answer that nobody asked for must not become the next one's.
        self._body = []
        self._in_body = False
        self._until_close = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Without these the body ends with the connection (RFC 9112, section 6.3).
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._until_close = False

    def on_headers_complete(self) -> None:
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # below: an interim answer, the real one follows
            self._complete()

    def _complete(self) -> None:
        self._answers += 1
        if not self._parser.should_keep_alive():
            self.reusable = False
            if self._transport:
                self._transport.close()
        if self._waiter and self._awaited:
            self._waiter.set_result(Answer(self._parser.get_status_code(), b"".join(self._body)))

    def _fail(self, reason: str) -> None:
        if self._waiter and self._awaited:
            self._waiter.set_exception(UnavailableError(reason))
        self.abort()

    @property
    def _awaited(self) -> bool:
        return self._waiter is not None and not self._waiter.done()
