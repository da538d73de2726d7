"""Listeners: the ports that the table wants, bound, swept and drained.

Workers share ports by SO_REUSEPORT: the kernel spreads new connections, and a dead worker's
share goes to the others. A port that can't be bound is tried again with every sweep; the
others don't wait for it. When a socket stops listening, the kernel resets what waits in its
queue, so the queue is emptied first: those clients think that they are connected.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypedDict

import structlog

from tidegate.gateway.downstream import DRAIN_IDLE_S, Downstream
from tidegate.gateway.plane import Plane
from tidegate.gateway.tls import PortContexts
from tidegate.routing.table import PortTable, RoutingTable

log = structlog.get_logger("tidegate.gateway")

SWEEP_S: Final = 0.5
DRAIN_SWEEP_S: Final = 0.05
BACKLOG: Final = 4096
HANDSHAKE_S: Final = 10.0
"""For a TLS handshake: until then nobody counts the connection."""


@dataclass(slots=True)
class _Bound:
    server: asyncio.Server
    contexts: PortContexts | None
    protocol: Callable[[], Downstream]

    def close(self) -> list[socket.socket]:
        """Stop listening; return the connections that waited to be accepted."""
        # The copies keep the sockets listening until their queues are empty.
        copies = [socket.socket(fileno=os.dup(each.fileno())) for each in self.server.sockets]
        self.server.close()
        return [accepted for copy in copies for accepted in _emptied(copy)]


def _emptied(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield what waits in the queue of a non-blocking socket, then close it."""
    with listening:
        for _ in range(BACKLOG):
            try:
                yield listening.accept()[0]
            except OSError:
                return


class _Tls(TypedDict, total=False):
    ssl: ssl.SSLContext
    ssl_handshake_timeout: float


class Listeners:
    """All ports of one worker and the client connections that came in through them."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._bound: dict[int, _Bound] = {}
        self._wanted: Mapping[int, PortTable] = {}
        self._refused: dict[int, str] = {}
        self._connections: set[Downstream] = set()
        self._adopting: set[asyncio.Task[None]] = set()
        self._drained: asyncio.Future[None] | None = None
        self._handshakes_until = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._binding = asyncio.Lock()
        self._rebind: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to sweep."""
        self._sweep()

    async def apply(self, table: RoutingTable) -> None:
        """Bind what `table` wants anew and close what it doesn't; connections stay."""
        if not self._plane.draining:
            self._wanted = table.ports
            await self._bind_missing()

    async def drain(self, timeout_s: float) -> bool:
        """Accept no more, finish what is under way; say whether all ended in time."""
        self._plane.draining = True
        self._drained = self._plane.loop.create_future()
        # Connections in their TLS handshake are in no list: they get a moment.
        if any(bound.contexts is not None for bound in self._bound.values()):
            self._handshakes_until = self._plane.loop.time() + DRAIN_IDLE_S
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
        for task in self._adopting:
            task.cancel()
        for connection in list(self._connections):
            connection.transport.abort()

    @property
    def settled(self) -> bool:
        """Whether each port that the table wants is bound, or can't be."""
        return all(port in self._bound or port in self._refused for port in self._wanted)

    @property
    def unbound(self) -> Mapping[int, str]:
        """Ports that can't be bound, with the reason."""
        return self._refused

    async def _bind_missing(self) -> None:
        async with self._binding:
            for port in [port for port in self._bound if port not in self._wanted]:
                self._unbind(port)
            self._refused = {p: why for p, why in self._refused.items() if p in self._wanted}
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
            self._unbind(port)
            bound = None
        contexts = bound.contexts if bound else PortContexts() if secure else None
        if contexts is not None:
            contexts.update(wanted.certificates)
        if bound is not None:
            return
        protocol = partial(Downstream, self._plane, self._connections, port, secure=secure)
        server = await self._plane.loop.create_server(
            protocol,
            self._plane.settings.host,
            port,
            reuse_port=True,
            backlog=BACKLOG,
            **_tls(contexts),
        )
        self._bound[port] = _Bound(server, contexts, protocol)

    def _unbind(self, port: int) -> None:
        bound = self._bound.pop(port)
        for accepted in bound.close():
            task = self._plane.loop.create_task(self._adopt(bound, accepted))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _adopt(self, bound: _Bound, accepted: socket.socket) -> None:
        """Serve a connection that nobody had accepted when its port was closed."""
        try:
            await self._plane.loop.connect_accepted_socket(
                bound.protocol, accepted, **_tls(bound.contexts)
            )
        except OSError:
            accepted.close()  # Its client left, or doesn't speak TLS.

    def _sweep(self) -> None:
        plane = self._plane
        if self._sweeper is not None:
            self._sweeper.cancel()
        pause = SWEEP_S if self._drained is None else DRAIN_SWEEP_S
        self._sweeper = plane.loop.call_later(pause, self._sweep)
        now = plane.loop.time()
        for connection in list(self._connections):
            try:
                connection.sweep(now)
            except Exception:
                # The others' time limits don't depend on it.
                log.exception("connection failed by a bug")
                connection.transport.abort()
        plane.pool.sweep(now)
        if self._drained is not None and not self._drained.done() and self._quiet(now):
            self._drained.set_result(None)
        if self._refused and (self._rebind is None or self._rebind.done()):
            self._rebind = plane.loop.create_task(self._bind_missing())

    def _quiet(self, now: float) -> bool:
        return not self._connections and not self._adopting and now >= self._handshakes_until


def _tls(contexts: PortContexts | None) -> _Tls:
    if contexts is None:
        return {}
    return {"ssl": contexts.base, "ssl_handshake_timeout": HANDSHAKE_S}
