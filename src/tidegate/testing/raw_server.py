"""A server that says exactly the bytes it is told to: for clients that must bear anything."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self


@dataclass(frozen=True, slots=True)
class Reply:
    """Raw bytes, and what becomes of the connection after them."""

    data: bytes = b""
    then: Literal["keep", "close", "reset", "hang"] = "keep"


def ok(body: bytes, content_type: str = "text/plain") -> Reply:
    """Return a proper 200."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return Reply(head.encode() + body)


def status(code: int) -> Reply:
    """Return an empty answer with this status."""
    return Reply(f"HTTP/1.1 {code} X\r\nContent-Length: 0\r\n\r\n".encode())


class RawServer:
    """Serves on a free port of 127.0.0.1 while its `async with` block runs.

    `paths` lists what was asked for, `connections` counts all that were ever opened and
    `open` those that are.
    """

    def __init__(self, respond: Callable[[str], Reply], port: int = 0) -> None:
        self.respond = respond
        self.paths: list[str] = []
        self.connections = 0
        self.open = 0
        self._port = port
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server:
            self._server.close()
        for handler in list(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # a coroutine runs in a task
        self._handlers.add(task)
        self.connections += 1
        self.open += 1
        try:
            await self._serve(reader, writer)
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self._handlers.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            self.paths.append(path)
            reply = self.respond(path)
            writer.write(reply.data)
            await writer.drain()
            match reply.then:
                case "close":
                    writer.close()
                    await writer.wait_closed()
                    return
                case "reset":
                    writer.transport.abort()
                    return
                case "hang":
                    await reader.read()
                    return
