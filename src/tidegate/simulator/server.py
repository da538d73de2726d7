"""A simulated server on a socket, and its end.

SIGTERM or SIGINT stops new connections, lets the running requests finish and then exits. A
second signal, or the deadline, cuts what is left.
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Self

from tidegate.simulator.app import App
from tidegate.simulator.errors import CrashError, SettingsError
from tidegate.simulator.faults import OUT_OF_MEMORY, Crash
from tidegate.simulator.http import Connection
from tidegate.simulator.settings import Settings

BACKLOG = 4096


class Server:
    """One simulated server. Also an async context manager that ends it at once.

    Args:
        settings: Models, speed and limits.
        wall: Returns the time in seconds since the epoch.
        host: The address to listen on.
        port: The port; 0 takes a free one.

    """

    def __init__(
        self,
        settings: Settings,
        wall: Callable[[], float],
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.settings = settings
        self.app: App
        self.crashed: asyncio.Future[Crash]
        """Done when a fault has ended it."""
        self._wall = wall
        self._host = host
        self._port = port
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises SettingsError where the address can't be had."""
        loop = asyncio.get_running_loop()
        self.crashed = loop.create_future()
        self.app = App(self.settings, loop, self._wall, self._crash)
        self.app.use_faults(self.settings.faults)
        try:
            self._server = await loop.create_server(
                lambda: Connection(self.app.handle, self._connections),
                self._host,
                self._port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise SettingsError(f"can't listen on {self.address}: {error.strerror}") from error
        self._port = self._server.sockets[0].getsockname()[1]

    async def drain(self, deadline_s: float) -> bool:
        """Stop taking connections and wait for the running requests; False if some were cut."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while self._connections and loop.time() < end:
            await _pause(0.02)
        return self.close()

    def close(self) -> bool:
        """Cut everything at once; False if requests were cut."""
        if self._server is not None:
            self._server.close()
        cut = bool(self._connections)
        for connection in list(self._connections):
            connection.reset()
        return not cut

    def _crash(self, kind: Crash) -> None:
        self.close()
        if not self.crashed.done():
            self.crashed.set_result(kind)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def _pause(seconds: float) -> None:
    wake = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, wake.set)
    await wake.wait()


async def run(server: Server, drain_s: float, ready: Callable[[str], None]) -> bool:
    """Serve until a signal, then drain; False if requests were cut.

    Raises CrashError when a fault has ended it.

    Args:
        server: Not started yet.
        drain_s: How long running requests may take to finish.
        ready: Called with the address once connections are taken.

    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    await server.start()
    ready(server.address)
    server.crashed.add_done_callback(lambda _: stop.set())
    await stop.wait()
    if server.crashed.done():
        raise CrashError(OUT_OF_MEMORY if server.crashed.result() == "oom" else "")
    draining = asyncio.ensure_future(server.drain(drain_s))
    hurrying = asyncio.ensure_future(hurry.wait())
    await asyncio.wait({draining, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    if draining.done():
        return draining.result()
    draining.cancel()
    return server.close()
