"""A scripted model server on a real socket: what it gets is recorded, what it says is yours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key == name.lower()), None)


Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def answer(
    status: int = 200,
    body: bytes = b"{}",
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),),
) -> bytes:
    """Return a whole answer with a Content-Length."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
    lines += [f"content-length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def says(data: bytes) -> Script:
    """Return a script that answers every request with `data`."""

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return script


@dataclass
class ScriptedEndpoint:
    """A server that does what `script` says, request by request."""

    script: Script
    address: str = ""
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    """Open now."""
    accepted: int = 0
    """Ever."""
    tasks: set["asyncio.Task[None] | None"] = field(default_factory=set)
    """Of connections; asyncio itself would let one that waits be collected."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        self.connections += 1
        self.accepted += 1
        self.tasks.add(asyncio.current_task())
        try:
            while True:
                request = await _read(reader)
                self.seen.append(request)
                await self.script(request, writer)
                await writer.drain()
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections -= 1
            self.tasks.discard(asyncio.current_task())
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Seen:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = [
        (name.lower(), value.strip())
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    ]
    length = next((int(value) for name, value in headers if name == "content-length"), 0)
    return Seen(method, target, headers, await reader.readexactly(length))


@asynccontextmanager
async def scripted(script: Script, port: int = 0) -> AsyncIterator[ScriptedEndpoint]:
    """Run a scripted endpoint on a free port of 127.0.0.1."""
    endpoint = ScriptedEndpoint(script)
    server = await asyncio.start_server(endpoint.handle, "127.0.0.1", port)
    endpoint.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield endpoint
    finally:
        server.close()
        waiting = [task for task in endpoint.tasks if task is not None]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
