"""A worker's side door: readiness and numbers.

Each worker answers on a Unix socket in the run folder. The metrics port is shared by all
workers, so whoever is asked collects its siblings' numbers from their sockets; one that
doesn't answer is left out and the others' numbers are served.

    /metrics   all workers, Prometheus text        (metrics port)
    /healthz   200 while the process runs          (both)
    /readyz    200 from when the ports of the table are bound until the drain begins  (both)
    /snapshot  this worker's numbers, msgpack      (socket)
    /records   this worker's blocks, msgpack       (socket; see `recorder`)
    /heard     when its endpoints' metrics were last heard, msgpack  (socket)
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from tidegate.gateway import reply
from tidegate.telemetry.ask import ask

SIBLING_TIMEOUT_S: Final = 1.0
CLIENT_TIMEOUT_S: Final = 5.0
TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"

MSGPACK: Final = b"application/msgpack"

Render = Callable[[Mapping[str, bytes]], bytes]
Handler = Callable[[str], Awaitable[bytes]]


class Admin:
    """The socket of one worker, and its part in the metrics port."""

    def __init__(
        self,
        socket: Path,
        *,
        snapshot: Callable[[], bytes],
        records: Callable[[str], bytes],
        heard: Callable[[], bytes],
        render: Render,
        ready: Callable[[], bool],
    ) -> None:
        self._socket = socket
        self._snapshot = snapshot
        self._records = records
        self._heard = heard
        self._render = render
        self._ready = ready
        self._servers: list[asyncio.Server] = []

    async def start(self, host: str, metrics_port: int) -> None:
        """Serve the socket, and the metrics port unless it is 0."""
        # A worker that was killed left its socket behind.
        self._socket.unlink(missing_ok=True)
        self._servers.append(
            await asyncio.start_unix_server(_serving(self._private), str(self._socket))
        )
        self._socket.chmod(0o600)
        if metrics_port:
            self._servers.append(
                await asyncio.start_server(
                    _serving(self._public), host, metrics_port, reuse_port=True
                )
            )

    def close(self) -> None:
        """Stop serving."""
        for server in self._servers:
            server.close()
        self._socket.unlink(missing_ok=True)

    async def _private(self, target: str) -> bytes:
        path, _, query = target.partition("?")
        if path == "/snapshot":
            return reply.render(200, self._snapshot(), content_type=MSGPACK)
        if path == "/records":
            return reply.render(200, self._records(query), content_type=MSGPACK)
        if path == "/heard":
            return reply.render(200, self._heard(), content_type=MSGPACK)
        return self._state(path)

    async def _public(self, target: str) -> bytes:
        path = target.partition("?")[0]
        if path == "/metrics":
            return reply.render(200, self._render(await self._collect()), content_type=TEXT)
        return self._state(path)

    def _state(self, path: str) -> bytes:
        if path == "/healthz" or (path == "/readyz" and self._ready()):
            return reply.render(200, b"ok\n", content_type=TEXT)
        if path == "/readyz":
            return reply.render(503, b"no routes yet\n", content_type=TEXT)
        return reply.render(404, b"try /metrics, /healthz or /readyz\n", content_type=TEXT)

    async def _collect(self) -> dict[str, bytes]:
        siblings = sorted(self._socket.parent.glob("*.sock"))
        texts = await asyncio.gather(*(self._numbers(path) for path in siblings))
        return {
            path.stem: text for path, text in zip(siblings, texts, strict=True) if text is not None
        }

    async def _numbers(self, socket: Path) -> bytes | None:
        if socket == self._socket:
            return self._snapshot()
        try:
            async with asyncio.timeout(SIBLING_TIMEOUT_S):
                return await ask(socket, "/snapshot")
        except (OSError, EOFError, ValueError, TimeoutError):
            return None


def _serving(
    handler: Handler,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(CLIENT_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                words = head.split(b" ", 2)
                writer.write(await handler(words[1].decode("latin-1") if len(words) > 1 else ""))
                await writer.drain()
        writer.close()

    return serve
