"""What all exchanges of a worker share: the live table, endpoints, connections, chance, time.

There is one `Plane` a worker. The table and what was derived from it are swapped together as
one `Live`; an exchange keeps the `Live` that it began with.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

import structlog

from tidegate.api.errors import FieldError
from tidegate.gateway.adapters import Adapters
from tidegate.gateway.gate import Gate
from tidegate.gateway.retry import RetryBudget
from tidegate.gateway.settings import WorkerSettings
from tidegate.gateway.upstream import UpstreamPool
from tidegate.judge.record import Record
from tidegate.picker.config import default_scheduler, parse_config, simple_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.state import Event
from tidegate.routing.table import Backend, RoutingTable

log = structlog.get_logger("tidegate.gateway")

SIMPLE: Final = simple_scheduler()
DEFAULT: Final = default_scheduler()
NO_POOL: Final = Pool("", SIMPLE)
"""Of a backend that the table doesn't list: nobody serves."""


@dataclass(frozen=True, slots=True)
class Live:
    """A table and, by its backends' identities, their endpoints with all that is known of them."""

    table: RoutingTable
    pools: Mapping[str, Pool]
    gates: Mapping[str, Gate]
    """Of those that are InferencePools."""

    def pool(self, backend: Backend) -> Pool:
        """Return who may serve for `backend`."""
        return self.pools.get(backend.identity, NO_POOL)

    def spare(self, backend: Backend, now: float) -> bool:
        """Whether there is room for what nobody waits for: copies, warm-up."""
        gate = self.gates.get(backend.identity)
        return gate is None or gate.flow.spare(now)

    def endpoints(self, backend: Backend) -> tuple[Endpoint, ...]:
        """Return the endpoints that may serve for `backend`, maybe none."""
        return self.pool(backend).members


class Registry:
    """Endpoints by address and pools by backend. They outlive tables, and what is known of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_address: dict[str, Endpoint] = {}
        self._pools: dict[str, Pool] = {}
        self._gates: dict[str, Gate] = {}
        self._configs: dict[str, str] = {}

    def live(self, table: RoutingTable) -> Live:
        """Return `table` with its endpoints; those that it no longer names are forgotten."""
        known, before = self._by_address, self._pools
        self._by_address, self._pools = {}, {}
        for backend in table.backends:
            pool = before.pop(backend.identity, None) or Pool(backend.key, SIMPLE)
            self._pools[backend.identity] = pool
            self._configure(pool, backend)
            endpoints = [self._adopt(address, known) for address in backend.endpoints]
            pool.set_endpoints(endpoints)
            for endpoint in endpoints if backend.labels else ():
                endpoint.labels = backend.labels[endpoint.address]
            pool.relabel()
        for identity, gone in before.items():
            self._configs.pop(identity, None)
            self._gates.pop(identity, None)
            gone.set_endpoints(())
        return Live(table, self._pools, dict(self._gates))

    def _configure(self, pool: Pool, backend: Backend) -> None:
        """Have the pool pick by its config; a bad one changes nothing (its status says why)."""
        if self._configs.get(backend.identity) == backend.picker:
            return
        self._configs[backend.identity] = backend.picker
        if backend.kind != "InferencePool":
            return
        try:
            pool.use(parse_config(backend.picker) if backend.picker else DEFAULT)
        except FieldError as error:
            log.warning("picker config refused", pool=backend.key, error=str(error))
            if pool.scheduler is SIMPLE:
                pool.use(DEFAULT)
        gate = self._gates.setdefault(backend.identity, Gate(pool, self._clock))
        gate.use(pool.scheduler.flow)

    def _adopt(self, address: str, known: Mapping[str, Endpoint]) -> Endpoint:
        endpoint = self._by_address.get(address) or known.get(address) or Endpoint(address)
        self._by_address[address] = endpoint
        return endpoint

    def note(self, address: str, event: Event) -> None:
        """Fold what was learnt of `address` into its state; unknown addresses are ignored."""
        endpoint = self._by_address.get(address)
        if endpoint is not None:
            endpoint.note(event, self._clock())

    def all(self) -> Mapping[str, Endpoint]:
        """Return the endpoints that the live table names."""
        return self._by_address


@dataclass(slots=True)
class Plane:
    """One worker's data plane."""

    loop: asyncio.AbstractEventLoop
    settings: WorkerSettings
    rng: Random
    pool: UpstreamPool
    clock: Callable[[], float]
    """Seconds, monotonic and fine: for durations and for the states of endpoints."""
    now: Callable[[], float]
    """Seconds since the epoch: for records."""
    emit: Callable[[Record], None]
    """Takes each finished request's record."""
    reject: Callable[[str], None]
    """Counts what was refused before it was a request, by reason."""
    paired: Callable[[Record, Record, bool | None], None] = lambda _canary, _stable, _differ: None
    """Takes a pair of a shadow: the canary's record, the stable's, whether the answers differ."""
    adapters: Adapters | None = None
    """Looks for models that no endpoint lists; None: nobody does."""
    live: Live | None = None
    budget: RetryBudget = field(default_factory=RetryBudget)
    draining: bool = False
    connections: int = 0
    in_flight: int = 0
    running: dict[int, Record] = field(default_factory=dict)
    """The records of the requests under way, by their exchange's id."""
    mirrors: int = 0
    body_bytes: int = 0
    """Of requests that were not answered yet; bounded by `Limits.bodies_bytes`."""
