"""Statuses of GatewayClasses, Gateways, HTTPRoutes and InferencePools.

They are a by-product of compiling, so they are written by compiling as the workers do. What
only the machine knows is added here: whether a listener's port can be had, and whether a pool's
servers say how busy they are.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from tidegate.api.gateway import Gateway
from tidegate.api.inference import InferencePool, LegacyInferencePool
from tidegate.api.meta import Key, Resource
from tidegate.controllers.cache import Cache
from tidegate.controllers.conditions import condition
from tidegate.controllers.freshness import CONDITION as FRESH
from tidegate.controllers.freshness import Verdict
from tidegate.controllers.loop import Retry
from tidegate.controllers.pickers import with_picker
from tidegate.controllers.ports import bind_problem
from tidegate.controllers.statuses import StatusWriter, with_condition
from tidegate.controllers.sweep import Sweep
from tidegate.routing.compile import compile as compile_table
from tidegate.routing.snapshot import KINDS, Snapshot
from tidegate.routing.statuses import StatusUpdate
from tidegate.store.interface import Store

MANAGER: Final = "tidegate-routes"
PORT_RETRY_S: Final = 5.0
"""How often we look whether a port that was taken is free."""
POOLS: Final[tuple[type[Resource], ...]] = (InferencePool, LegacyInferencePool)


class Routes(Sweep):
    """Reconciles the statuses of everything that the compiler looks at, all at once."""

    def __init__(
        self,
        cache: Cache,
        store: Store,
        now: Callable[[], float],
        *,
        host: str,
        addresses: Sequence[str],
        metrics: Callable[[Key], Verdict | None],
    ) -> None:
        """Make the controller.

        Args:
            cache: Where the resources are.
            store: Where statuses go.
            now: Seconds since the epoch.
            host: The address that workers bind.
            addresses: Where clients reach us.
            metrics: What is to be said of a pool's metrics; `changed` when it is something else.

        """
        self._cache = cache
        self._host = host
        self._addresses = tuple(addresses)
        self._metrics = metrics
        self._writer = StatusWriter(cache, store, now, MANAGER)
        super().__init__("routes")

    async def reconcile(self, _: str) -> Retry | None:
        """Compile, and write the statuses that differ."""
        resources = [one for kind in KINDS for one in self._cache.all(kind).values()]
        # Some 10 ms for a hundred routes: the API, which shares our loop, must not wait.
        snapshot = Snapshot.of(resources)
        compiled = await asyncio.to_thread(compile_table, snapshot, addresses=self._addresses)
        taken = self._taken_ports(compiled.statuses)
        await self._writer.write_all(
            [self._told(update, taken, snapshot) for update in compiled.statuses]
        )
        return Retry(PORT_RETRY_S) if taken else None

    def _taken_ports(self, updates: Iterable[StatusUpdate]) -> dict[int, str]:
        """Return why ports of our Gateways can't be had, by port."""
        ours = (self._cache.get(Gateway, u.key) for u in updates if u.kind is Gateway)
        ports = {listener.port for one in ours if one for listener in one.spec.listeners}
        problems = {port: bind_problem(self._host, port, shared=True) for port in ports}
        return {port: problem for port, problem in problems.items() if problem}

    def _told(
        self, update: StatusUpdate, taken: Mapping[int, str], snapshot: Snapshot
    ) -> StatusUpdate:
        if update.kind in POOLS:
            return self._told_of_pool(update, snapshot)
        if update.kind is not Gateway or not taken:
            return update
        gateway = self._cache.get(Gateway, update.key)
        return update if gateway is None else with_ports(update, gateway, self._host, taken)

    def _told_of_pool(self, update: StatusUpdate, snapshot: Snapshot) -> StatusUpdate:
        pool = snapshot.get(InferencePool, update.key)
        if update.kind is InferencePool and pool is not None:
            update = with_picker(update, pool, snapshot)
        known, resource = self._metrics(update.key), snapshot.get(update.kind, update.key)
        if known is None or resource is None:
            return update
        words = known.status, known.reason, known.message
        return with_condition(update, condition(FRESH, *words, resource.metadata.generation))


def with_ports(
    update: StatusUpdate, gateway: Gateway, host: str, taken: Mapping[int, str]
) -> StatusUpdate:
    """Return a Gateway's status that says which of its listeners' ports can't be had.

    Args:
        update: The status as compiled.
        gateway: Whose it is.
        host: The address that workers bind.
        taken: The system's reasons, by port.

    """
    ports = {listener.name: listener.port for listener in gateway.spec.listeners}
    generation = gateway.metadata.generation
    listeners = []
    for listener in update.status["listeners"]:
        port = ports.get(listener["name"], 0)
        if port in taken:
            problem = f"port {port} on {host}: {taken[port]}; {_advice(port, taken[port])}"
            listener = _put(listener, "Accepted", "PortUnavailable", problem, generation)
            listener = _put(listener, "Programmed", "Invalid", problem, generation)
        listeners.append(listener)
    status = {**update.status, "listeners": listeners}
    bad = [one["name"] for one in listeners if not _holds(one, "Programmed")]
    if len(bad) == len(listeners):
        text = "no listener can serve: see status.listeners"
        status = _put(status, "Accepted", "ListenersNotValid", text, generation)
        status = _put(status, "Programmed", "Invalid", text, generation)
    elif bad:
        text = f"not serving: {', '.join(bad)}; see status.listeners"
        status = _put(status, "Accepted", "ListenersNotValid", text, generation, holds="True")
    return replace(update, status=status)


def _advice(port: int, reason: str) -> str:
    if "denied" in reason:
        return f"ports below 1024 need privileges: choose another than {port}"
    return "end the program that has it, or choose another port"


def _holds(item: Mapping[str, Any], kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in item["conditions"])


def _put(
    item: Mapping[str, Any],
    kind: str,
    reason: str,
    message: str,
    generation: int,
    *,
    holds: Any = "False",
) -> dict[str, Any]:
    """Return `item` with its condition of this kind replaced."""
    new = condition(kind, holds, reason, message, generation)
    return {**item, "conditions": [new if c["type"] == kind else c for c in item["conditions"]]}
