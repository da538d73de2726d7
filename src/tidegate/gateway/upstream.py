"""Connections to endpoints: pooled, HTTP/1.1, one exchange at a time.

A connection belongs to its `Receiver` from the request's first byte to the answer's last; then
it goes back to the pool, or is closed when anything about it is odd. Who receives never sees
a socket.
"""

import asyncio
import errno
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol, cast

import httptools
import structlog

from tidegate.gateway.framing import AnswerHead
from tidegate.gateway.hops import HOP_BY_HOP, Headers, without_named
from tidegate.gateway.repeat import TRIES, KnownAnswer, learn_answer
from tidegate.gateway.settings import Limits

log = structlog.get_logger("tidegate.gateway")

__all__ = ["Dialing", "Failed", "Headers", "Receiver", "Upstream", "UpstreamPool"]

CONTINUE, SWITCHING, NO_CONTENT, NOT_MODIFIED = 100, 101, 204, 304
STALE_S: Final = 1.0
"""A server that closes an idle connection does so before our request reaches it; one that
closes later than this had taken the request."""
_OUT_OF: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}
)
"""This machine has no more files, memory or ports."""


class BadAnswerError(Exception):
    """An answer breaks HTTP/1.1, or wants what we don't do."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an upstream exchange did not end well."""

    kind: Literal["connect", "reset", "protocol"]
    detail: str
    stale: bool = False
    """A reused connection was closed before it brought a byte: the endpoint is not to blame."""
    ours: bool = False
    """This machine lacks what a connection takes: no endpoint is to blame."""


class Receiver(Protocol):
    """Who gets the answer. Called on the event loop, in this order, each at most once but body."""

    def upstream_started(self, connection: "Upstream") -> None:
        """The request is being sent on `connection`."""

    def upstream_head(self, head: AnswerHead, length: int | None) -> None:
        """The answer's head; `length` is None when it must be framed anew."""

    def upstream_body(self, data: bytes) -> None:
        """A piece of the body."""

    def upstream_chunk(self, data: bytes, size: int) -> None:
        """A chunk of `size` bytes, framing included, that came alone; nothing is to be flushed."""

    def upstream_flush(self) -> None:
        """All of one read was handed over and there is more to come: a good moment to write."""

    def upstream_end(self) -> None:
        """The answer is whole."""

    def upstream_failed(self, failed: Failed) -> None:
        """There will be no more of it."""


class Upstream(asyncio.Protocol):
    """One connection to one endpoint."""

    __slots__ = (
        "_between_chunks",
        "_chunked",
        "_head_only",
        "_headers",
        "_in_head",
        "_known",
        "_length",
        "_options",
        "_overhead",
        "_parser",
        "_pool",
        "_reusable",
        "_reused",
        "_sent_at",
        "_silent",
        "_tries",
        "_until_close",
        "_whole",
        "address",
        "idle_since",
        "receiver",
        "transport",
    )

    def __init__(self, pool: "UpstreamPool", address: str) -> None:
        self._pool = pool
        self.address = address
        self.receiver: Receiver | None = None
        self.idle_since = 0.0
        self._reused = False
        self._headers: Headers = []
        self._length: int | None = None
        self._chunked = self._until_close = self._head_only = False
        self._whole = self._reusable = self._between_chunks = False
        self._silent = True
        self._in_head = True
        self._overhead = 0
        self._options = b""
        self._sent_at = 0.0
        self._known: KnownAnswer | None = None
        self._tries = TRIES

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The endpoint accepted."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse, and hand over what is there."""
        if self.receiver is None:
            # An idle connection has nothing to say: whatever it is, it isn't our answer.
            self.transport.abort()
            return
        if self._between_chunks:
            size = chunk_size(data)
            if size:
                self.receiver.upstream_chunk(data, size)
                return
        first, self._silent = self._silent, False
        if first and self._known is not None and self._pass_known(self._known, data):
            return
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as err:
            if not self._whole:
                self._fail(Failed("protocol", _reason(err)))
                return
            # The answer came as it should; what follows it is nobody's.
            self._reusable = False
        if self._overhead > self._pool.head_bytes and not self._whole:
            # llhttp shows trailers once they are whole: endless ones must not fill memory.
            self._fail(Failed("protocol", "the answer's headers or trailers are too large"))
            return
        if self._whole:
            if first and self._tries:
                self._learn(data)
            self._release()
        elif self.receiver is not None:
            # A piece of the next chunk's head would not end so.
            self._between_chunks = self._between_chunks and data.endswith(b"\r\n")
            self.receiver.upstream_flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of an answer that is framed by it, or a failure."""
        self._pool.forget(self)
        receiver = self.receiver
        if receiver is None:
            return
        if self._until_close and exc is None and not self._in_head:
            self.receiver = None
            receiver.upstream_end()
            return
        detail = str(exc) if exc else "the endpoint closed the connection"
        early = self._pool.now() - self._sent_at < STALE_S
        self._fail(Failed("reset", detail, stale=self._reused and self._silent and early))

    def pause_writing(self) -> None:
        """The request waits in memory, whole as it is: nothing to slow down."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    # the pool's side

    def start(self, receiver: Receiver, payload: bytes, *, head_only: bool, reused: bool) -> None:
        """Send `payload` and hand its answer to `receiver`."""
        self.receiver = receiver
        if not reused or head_only or self._head_only:
            # llhttp can't know of HEAD: its parser waits for a body that doesn't come.
            self._parser = httptools.HttpResponseParser(self)
        self._reused = reused
        self._head_only = head_only
        self._silent = True
        self._whole = self._until_close = self._reusable = False
        self._headers = []
        self._in_head = True
        self._overhead = 0
        self._sent_at = self._pool.now()
        receiver.upstream_started(self)
        self.transport.write(payload)

    # the receiver's side

    def cancel(self) -> None:
        """Drop the exchange: the endpoint sees its client leave."""
        self.receiver = None
        self.transport.abort()

    def pause(self) -> None:
        """Read no more for now: the client is slower than the endpoint."""
        # Once the answer is whole, the next receiver's may come at any moment.
        if self.receiver is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.receiver is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # the parser's side

    def on_message_begin(self) -> None:
        """Start a head: an informational answer comes before the real one."""
        if self._whole:
            raise BadAnswerError("an answer that nobody asked for")
        self._headers = []
        self._length = None
        self._chunked = False
        self._options = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep end-to-end headers; remember how the body is framed. Trailers are dropped."""
        if not self._in_head:
            return
        name = name.lower()
        if name not in HOP_BY_HOP:
            self._headers.append((name, value))
        elif name == b"content-length":
            self._length = int(value)
        elif name == b"transfer-encoding":
            if self._chunked or value.strip(b" \t").lower() != b"chunked":
                raise BadAnswerError("the only transfer coding understood is chunked")
            self._chunked = True
        elif name == b"connection":
            self._options += b"," + value

    def on_headers_complete(self) -> None:
        """Hand the head over, unless it is informational."""
        status = self._parser.get_status_code()
        if status < 200:
            if status < CONTINUE or status == SWITCHING:
                raise BadAnswerError(f"nobody asked for status {status:03}")
            return
        if self._overhead > self._pool.head_bytes:
            self._check_size()
        self._overhead = 0
        bodiless = self._head_only or status in {NO_CONTENT, NOT_MODIFIED}
        if not (bodiless or self._chunked or self._length is not None):
            self._until_close = True
        self._in_head = False
        # llhttp can't know that the request was HEAD and would wait for a body.
        self._whole = self._head_only
        receiver = self.receiver
        if receiver is not None:
            headers = without_named(self._headers, self._options)
            receiver.upstream_head(AnswerHead(status, headers), self._length)

    def on_body(self, data: bytes) -> None:
        """Pass a piece on."""
        self._overhead = 0
        receiver = self.receiver
        # Some servers answer HEAD with a body: the client would take it for the next answer.
        if receiver is not None and not self._head_only:
            receiver.upstream_body(data)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """The parser stands between two chunks; if the read ends here, so does the next begin."""
        self._between_chunks = True

    def on_message_complete(self) -> None:
        """Mark the answer whole; an informational one isn't."""
        self._between_chunks = False
        if not self._in_head:
            self._whole = True
            # llhttp forgets it with the message.
            self._reusable = self._parser.should_keep_alive()

    # inside

    def _pass_known(self, known: KnownAnswer, data: bytes) -> bool:
        """Hand `data` over without parsing it, if its head is the last one's; say whether it was.

        The parser stands between two answers and needn't hear of one that begins and ends here.
        """
        receiver, body = self.receiver, None if self._head_only else known.body(data)
        if body is None or receiver is None:
            return False
        self._tries = TRIES
        self._in_head = False
        receiver.upstream_head(known.head, len(body))
        if self.receiver is receiver:
            if body:
                receiver.upstream_body(body)
            self._whole = self._reusable = True
            self._release()
        return True

    def _learn(self, data: bytes) -> None:
        self._tries -= 1
        length = self._length
        if self._reusable and length is not None and not self._head_only and not self._chunked:
            self._known = learn_answer(data, without_named(self._headers, self._options), length)

    def _check_size(self) -> None:
        """Raise if it is the head that is large, and not what came with it."""
        if sum(len(name) + len(value) for name, value in self._headers) > self._pool.head_bytes:
            raise BadAnswerError("the headers are too large")

    def _release(self) -> None:
        receiver, self.receiver = self.receiver, None
        if self._reusable:
            self._pool.keep(self)
        else:
            self.transport.close()
        if receiver is not None:
            receiver.upstream_end()

    def _fail(self, failed: Failed) -> None:
        receiver, self.receiver = self.receiver, None
        self.transport.abort()
        if receiver is not None:
            receiver.upstream_failed(failed)


def _reason(err: Exception) -> str:
    """Return what is wrong with an answer; the parser hides what its callbacks raised."""
    cause = err.__context__ if isinstance(err, httptools.HttpParserCallbackError) else err
    if not isinstance(cause, BadAnswerError | httptools.HttpParserError):
        log.error("answer failed by a bug", exc_info=cause)
        return "the gateway can't read the answer"
    return f"the answer is malformed: {cause}"


def chunk_size(data: bytes) -> int:
    """Return the size of the chunk that `data` is; 0 if it isn't exactly one in plain writing.

    Only for sizes from 16 to 4095, which events have: others are left to the parser.
    """
    size = len(data) - (6 if len(data) < 262 else 7)
    plain = 16 <= size < 4096 and data.startswith(b"%x\r\n" % size) and data.endswith(b"\r\n")
    return size if plain else 0


class Dialing:
    """A connection that is being made for a receiver."""

    __slots__ = ("_task",)

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self._task = task

    def cancel(self) -> None:
        """Stop: the receiver hears nothing more."""
        self._task.cancel()

    def pause(self) -> None:
        """Nothing is read yet."""

    def resume(self) -> None:
        """Nothing is read yet."""


class UpstreamPool:
    """Idle connections by address, the most recently used first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        self.head_bytes = limits.upstream_head_bytes
        self._loop = loop
        self.now: Final = loop.time
        self._connect_timeout_s = limits.connect_timeout_s
        self._idle_s = limits.upstream_idle_s
        self._idle_per_endpoint = limits.upstream_idle
        self._idle: dict[str, list[Upstream]] = {}
        self._all: set[Upstream] = set()
        self._dialing: set[asyncio.Task[None]] = set()

    def send(
        self,
        address: str,
        payload: bytes,
        receiver: Receiver,
        *,
        head_only: bool = False,
        fresh: bool = False,
    ) -> "Upstream | Dialing":
        """Send `payload` (a whole request) to `address`; the answer goes to `receiver`.

        Args:
            address: `host:port`.
            payload: Head and body.
            receiver: Gets the answer, or the failure.
            head_only: The request is HEAD: the answer has no body whatever its head says.
            fresh: Use a new connection, because an idle one just failed.

        Returns:
            What to cancel, pause and resume.

        """
        idle = self._idle.get(address)
        while idle and not fresh:
            connection = idle.pop()
            if not connection.transport.is_closing():
                connection.start(receiver, payload, head_only=head_only, reused=True)
                return connection
        task = self._loop.create_task(self._dial(address, payload, receiver, head_only=head_only))
        self._dialing.add(task)
        task.add_done_callback(self._dialing.discard)
        return Dialing(task)

    def keep(self, connection: Upstream) -> None:
        """Take back a connection whose answer was whole."""
        idle = self._idle.setdefault(connection.address, [])
        transport = connection.transport
        # An answer may come before all of its request was sent.
        unsent = transport.get_write_buffer_size()
        if transport.is_closing() or unsent or len(idle) >= self._idle_per_endpoint:
            transport.close()
            return
        connection.idle_since = self._loop.time()
        idle.append(connection)

    def forget(self, connection: Upstream) -> None:
        """A connection is closed."""
        self._all.discard(connection)
        idle = self._idle.get(connection.address)
        if idle and connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.address, None)

    def sweep(self, now: float) -> None:
        """Close what was idle for too long; `now` is the loop's time."""
        for idle in list(self._idle.values()):
            while idle and now - idle[0].idle_since > self._idle_s:
                idle.pop(0).transport.close()

    def close(self) -> None:
        """Close everything; receivers hear of a reset."""
        for task in list(self._dialing):
            task.cancel()
        for connection in list(self._all):
            connection.transport.abort()

    @property
    def open(self) -> int:
        """Connections, idle and busy."""
        return len(self._all)

    async def _dial(
        self, address: str, payload: bytes, receiver: Receiver, *, head_only: bool
    ) -> None:
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await self._loop.create_connection(
                    partial(Upstream, self, address), host.strip("[]"), int(port)
                )
        except TimeoutError:
            receiver.upstream_failed(
                Failed("connect", f"no connection in {self._connect_timeout_s} s")
            )
            return
        except OSError as err:
            ours = err.errno in _OUT_OF
            receiver.upstream_failed(Failed("connect", err.strerror or str(err), ours=ours))
            return
        except (ValueError, OverflowError) as err:
            receiver.upstream_failed(Failed("connect", f"{address} is no address: {err}"))
            return
        self._all.add(connection)
        if connection.transport.is_closing():
            receiver.upstream_failed(Failed("reset", "closed as soon as it was open"))
            return
        connection.start(receiver, payload, head_only=head_only, reused=False)
