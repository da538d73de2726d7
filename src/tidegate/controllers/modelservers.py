"""ModelServers: what their specs say is made to run, and their statuses say what runs.

    spec → Fleet (replicas, probes) → endpoints → status → workers' tables

The status is the only thing that anybody else learns. A ModelServer with processes carries
our finalizer, so that it isn't gone before they are.
"""

import asyncio
import signal
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from tidegate.api.meta import Key
from tidegate.api.tidegate import EndpointStatus, ModelServer, ModelServerStatus
from tidegate.controllers.cache import Cache
from tidegate.controllers.conditions import condition, with_times
from tidegate.controllers.finalizers import set_finalizers
from tidegate.controllers.fleet import Fleet
from tidegate.controllers.loop import Loop
from tidegate.controllers.processes import Process
from tidegate.controllers.replica import EXIT_S, NOTICE_S, Place
from tidegate.controllers.roster import Record
from tidegate.controllers.templates import template_of
from tidegate.store.interface import Store

MANAGER: Final = "tidegate-modelservers"
FINALIZER: Final = "tidegate.dev/processes"

log = structlog.get_logger()


class ModelServers:
    """Reconciles ModelServers with the processes of this machine."""

    def __init__(self, cache: Cache, store: Store, place: Place, now: Callable[[], float]) -> None:
        self._cache = cache
        self._store = store
        self._place = place
        self._now = now
        self.fleets: dict[Key, Fleet] = {}
        """What runs, by the ModelServer's name."""
        self._survivors: dict[str, list[tuple[Record, Process]]] = {}
        self._begun = asyncio.Event()
        self._dropped = asyncio.Event()
        self._closing = False
        self.loop: Loop[Key] = Loop("modelservers", self.reconcile)

    async def run(self) -> None:
        """Reconcile until cancelled. The cache must be complete by now.

        Processes that an earlier run left are taken over; those whose ModelServer is gone
        are ended.
        """
        known = {server.metadata.uid for server in self._cache.all(ModelServer).values()}
        for record, process in self._place.roster.survivors():
            self._survivors.setdefault(record.uid, []).append((record, process))
        for key in self._cache.all(ModelServer):
            self.loop.add(key)
        self._begun.set()
        async with asyncio.TaskGroup() as group:
            for uid in self._survivors.keys() - known:
                for record, process in self._survivors.pop(uid):
                    group.create_task(self._put_away(record, process))
            group.create_task(self.loop.run())

    async def reconcile(self, key: Key) -> None:
        """Make the processes of one ModelServer what its spec says, and its status true."""
        server = self._cache.get(ModelServer, key)
        fleet = self._fleet(key, server)
        if fleet is None:
            return
        if server is None or fleet.uid != server.metadata.uid:
            fleet.stop()  # its object is gone, whatever has its name now
            done = fleet.empty
        elif self._closing:
            done = await self._stop(server, fleet, notice_s=0.0)
        elif server.metadata.deletion_timestamp:
            done = await self._stop(server, fleet, NOTICE_S)
            if done:
                await self._let_go(server)
        else:
            done = False
            await self._hold(server)
            fleet.want(server.spec)
            await self._publish(server, fleet)
        if done:
            self._drop(key)

    async def close(self) -> None:
        """End all processes in order, at the same time, and say so in the statuses.

        The gateway's workers are gone by now, and `run` still runs.
        """
        await self._begun.wait()
        self._closing = True
        for key in {*self.fleets, *self._cache.all(ModelServer)}:
            self.loop.add(key)
        while self.fleets or self._survivors:
            self._dropped.clear()
            await self._dropped.wait()

    def kill(self) -> None:
        """End all processes at once; `close` returns soon."""
        self._closing = True
        for fleet in self.fleets.values():
            fleet.kill()

    def _fleet(self, key: Key, server: ModelServer | None) -> Fleet | None:
        """Return the fleet of this name; make one where a ModelServer has none."""
        if key not in self.fleets and server is not None:
            survivors = self._survivors.pop(server.metadata.uid, [])
            if self._closing and not survivors:
                return None
            self.fleets[key] = Fleet(server, self._place, survivors, lambda: self.loop.add(key))
        return self.fleets.get(key)

    def _drop(self, key: Key) -> None:
        del self.fleets[key]
        self._dropped.set()
        self.loop.add(key)  # a new object may have the name

    async def _stop(self, server: ModelServer, fleet: Fleet, notice_s: float) -> bool:
        """Stop what runs; return whether nothing is left and the status says so."""
        fleet.stop(notice_s)
        done = fleet.empty
        await self._publish(server, fleet)
        return done

    async def _publish(self, server: ModelServer, fleet: Fleet) -> None:
        """Write the status if it is another than the stored one."""
        endpoints = fleet.endpoints()
        wanted = status_of(server, endpoints, fleet.outdated(server.spec), stopped=self._closing)
        status = with_times(wanted, msgspec.to_builtins(server.status), self._now())
        if msgspec.convert(status, ModelServerStatus) != server.status:
            await self._store.apply_status(ModelServer, server.key, status, manager=MANAGER)
        fleet.published(endpoints)

    async def _hold(self, server: ModelServer) -> None:
        """Put our finalizer on a ModelServer that is to have processes, before it has."""
        if template_of(server.spec) and FINALIZER not in server.metadata.finalizers:
            await self._finalizers(server, [FINALIZER])

    async def _let_go(self, server: ModelServer) -> None:
        if FINALIZER in server.metadata.finalizers:
            await self._finalizers(server, [])

    async def _finalizers(self, server: ModelServer, finalizers: list[str]) -> None:
        await set_finalizers(self._store, server, finalizers, manager=MANAGER)

    async def _put_away(self, record: Record, process: Process) -> None:
        log.warning("model server without a ModelServer is stopped", pid=process.pid)
        process.send(signal.SIGTERM)
        ended = asyncio.ensure_future(process.exited())
        await asyncio.wait((ended,), timeout=EXIT_S)
        process.send(signal.SIGKILL)
        await ended
        self._place.roster.forget(record.uid, record.replica)


def status_of(
    server: ModelServer,
    endpoints: tuple[EndpointStatus, ...],
    outdated: int,
    *,
    stopped: bool = False,
) -> dict[str, Any]:
    """Return the status that says this, without times.

    Args:
        server: The ModelServer.
        endpoints: What it has.
        outdated: How many replicas run an older template.
        stopped: Whether everything is ended because Tidegate is.

    """
    spec, generation = server.spec, server.metadata.generation
    wanted = spec.replicas if template_of(spec) else len(spec.addresses)
    ready = sum(endpoint.state == "Ready" for endpoint in endpoints)
    reason = _reason(endpoints, ready, wanted, outdated, stopped=stopped)
    status: Any = "True" if reason == "Ready" else "False"
    words = [f"{ready} of {wanted} ready", *_troubles(endpoints)]
    return {
        "observedGeneration": generation,
        "replicas": len(endpoints),
        "readyReplicas": ready,
        "endpoints": [_endpoint(endpoint) for endpoint in endpoints],
        "conditions": [condition("Ready", status, reason, "; ".join(words), generation)],
    }


def _reason(
    endpoints: tuple[EndpointStatus, ...], ready: int, wanted: int, outdated: int, *, stopped: bool
) -> str:
    if stopped:
        return "Stopped"
    if ready == len(endpoints) == wanted and not outdated:
        return "Ready"
    if any(endpoint.state == "Unhealthy" for endpoint in endpoints):
        return "Unhealthy"
    if outdated:
        return "Updating"
    return "Stopping" if len(endpoints) > wanted else "Starting"


def _troubles(endpoints: tuple[EndpointStatus, ...]) -> list[str]:
    return [f"{e.address}: {e.message}" for e in endpoints if e.message and e.state != "Ready"]


def _endpoint(endpoint: EndpointStatus) -> dict[str, Any]:
    """Return an endpoint with the fields that people look for, defaults or not."""
    fields: dict[str, Any] = msgspec.to_builtins(endpoint)
    return {"state": endpoint.state, "replica": endpoint.replica, **fields}
