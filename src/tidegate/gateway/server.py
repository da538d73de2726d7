"""Listeners: the ports that the table wants, bound, swept and drained.

Workers share ports by SO_REUSEPORT: the kernel spreads new connections, and a dead worker's
share goes to the others. A port that can't be bound is tried again with every sweep; the
others don't wait for it.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from tidegate.gateway.downstream import Downstream
from tidegate.gateway.plane import Plane
from tidegate.gateway.tls import PortContexts
from tidegate.routing.table import PortTable, RoutingTable

log = structlog.get_logger("tidegate.gateway")

SWEEP_S: Final = 0.5
DRAIN_SWEEP_S: Final = 0.05
BACKLOG: Final = 4096


@dataclass(slots=True)
class _Bound:
    server: asyncio.Server
    contexts: PortContexts | None


class Listeners:
    """All ports of one worker and the client connections that came in through them."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._bound: dict[int, _Bound] = {}
        self._wanted: Mapping[int, PortTable] = {}
        self._refused: dict[int, str] = {}
        self._connections: set[Downstream] = set()
        self._drained: asyncio.Future[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._binding = asyncio.Lock()
        self._rebind: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep."""
        self._sweep()

    async def apply(self, table: RoutingTable) -> None:
        """Bind what `table` wants anew and close what it doesn't; connections stay."""
        self._wanted = table.ports
        await self._bind_missing()

    async def drain(self, timeout_s: float) -> bool:
        """Accept no more, finish what is under way; say whether all ended in time."""
        self._plane.draining = True
        self._drained = self._plane.loop.create_future()
        self._wanted = {}
        await self._bind_missing()
        self._sweep()
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Cut what is left."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for bound in self._bound.values():
            bound.server.close()
        for connection in list(self._connections):
            connection.transport.abort()

    @property
    def unbound(self) -> Mapping[int, str]:
        """Ports that can't be bound, with the reason."""
        return self._refused

    async def _bind_missing(self) -> None:
        async with self._binding:
            for port in [port for port in self._bound if port not in self._wanted]:
                self._bound.pop(port).server.close()
            for port, wanted in self._wanted.items():
                try:
                    await self._bind(port, wanted)
                    self._refused.pop(port, None)
                except (OSError, ssl.SSLError) as err:
                    if self._refused.get(port) != str(err):
                        log.warning("listener not bound", port=port, error=str(err))
                    self._refused[port] = str(err)

    async def _bind(self, port: int, wanted: PortTable) -> None:
        secure = wanted.protocol == "HTTPS"
        bound = self._bound.get(port)
        if bound is not None and (bound.contexts is not None) != secure:
            self._bound.pop(port).server.close()
            bound = None
        contexts = bound.contexts if bound else PortContexts() if secure else None
        if contexts is not None:
            contexts.update(wanted.certificates)
        if bound is not None:
            return
        server = await self._plane.loop.create_server(
            lambda: Downstream(self._plane, self._connections, port, secure=secure),
            self._plane.settings.host,
            port,
            reuse_port=True,
            backlog=BACKLOG,
            ssl=contexts.base if contexts is not None else None,
        )
        self._bound[port] = _Bound(server, contexts)

    def _sweep(self) -> None:
        plane = self._plane
        if self._sweeper is not None:
            self._sweeper.cancel()
        now = plane.loop.time()
        for connection in list(self._connections):
            connection.sweep(now)
        plane.pool.sweep(now)
        if self._drained is not None and not self._drained.done() and not self._connections:
            self._drained.set_result(None)
        if self._refused and (self._rebind is None or self._rebind.done()):
            self._rebind = plane.loop.create_task(self._bind_missing())
        pause = SWEEP_S if self._drained is None else DRAIN_SWEEP_S
        self._sweeper = plane.loop.call_later(pause, self._sweep)
