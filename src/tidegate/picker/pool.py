"""What is known of a pool's endpoints, in vectors that are kept in place.

A pick looks at all endpoints at once, so each number that scorers ask for is one numpy vector
over the pool's slots, and an event changes one element of it. A slot belongs to an endpoint as
long as that is in the pool; a slot whose endpoint left is empty until another takes it.

Beside the vectors stand what a profile may need: the prefix index, the latency model, the
residency of models. They are made when the scheduler that is in use asks for them, so a pool
with a simple profile pays for none of them.

Invariant: `vector[slot]` is what `endpoints[slot].state` says, after every event.
"""

import math
from collections.abc import Sequence
from heapq import heappop
from typing import TYPE_CHECKING, Final, Protocol
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tidegate.picker.endpoint import Endpoint
from tidegate.picker.latency import LatencyModel
from tidegate.picker.prefix import Blocks, PrefixIndex
from tidegate.picker.residency import Residency
from tidegate.picker.state import UNSEEN, EndpointState
from tidegate.picker.vectors import Flags, Slots, Vector

if TYPE_CHECKING:
    from tidegate.picker.config import Scheduler


ALL: Final = slice(None)
STALE_S: Final = 5.0
"""Age of metrics that are worth a look by somebody."""


class Prefilling(Protocol):
    """A request whose prompt is being computed."""

    def prefilled(self, now: float) -> None:
        """Note that it is."""


class Pool:
    """The endpoints of one backend, and the scheduler that picks among them."""

    __slots__ = (
        "_seats",
        "at",
        "blocks",
        "cached_tokens",
        "capacity",
        "endpoints",
        "expected",
        "hashes",
        "kv_usage",
        "label_flags",
        "last_miss",
        "latency",
        "load",
        "name",
        "news",
        "pending",
        "picks",
        "prefix",
        "prompt_tokens",
        "queue",
        "requests",
        "residency",
        "running",
        "sampled_at",
        "scheduler",
        "size",
        "tokens",
        "unwell_until",
        "usable_from",
        "waiting",
    )

    def __init__(self, name: str, scheduler: "Scheduler") -> None:
        self.name = name
        self.endpoints: tuple[Endpoint | None, ...] = ()
        """By slot; None where a slot is empty."""
        self._seats: dict[Endpoint, int] = {}
        self.size = 0
        """How many endpoints there are."""
        self.at: Slots = ALL
        """The slots that aren't empty."""
        empty = np.zeros(0)
        self.load: Vector = empty
        """Requests at the endpoint now: ours, the siblings', others'."""
        self.requests: Vector = empty
        """Of those, ours and the siblings'."""
        self.waiting: Vector = empty
        """Requests that wait, as the server last said."""
        self.running: Vector = empty
        """Requests that run, as the server last said."""
        self.queue: Vector = empty
        """Requests that wait now: `load` less those that ran, at a server where some waited."""
        self.kv_usage: Vector = empty
        """0..1."""
        self.pending: Vector = empty
        """Prompt tokens of requests, ours and the siblings', that have no first token yet."""
        self.tokens: Vector = empty
        """All tokens of requests, ours and the siblings'."""
        self.capacity: Vector = empty
        """Tokens that the KV cache holds; 0 if unknown."""
        self.sampled_at: Vector = empty
        """When the server was last heard; minus infinity if never."""
        self.usable_from: Vector = empty
        """See `EndpointState.usable_from`."""
        self.last_miss: Vector = empty
        """When a prompt was last sent there of which nothing was cached."""
        self.picks: Vector = empty
        """Requests sent so far."""
        self.hashes: NDArray[np.uint64] = np.zeros(0, np.uint64)
        """Of the addresses: for draws that all workers make alike."""
        self.prompt_tokens = self.cached_tokens = 0.0
        """Of the prompts sent so far: all, and those that should have been cached."""
        self.unwell_until = -math.inf
        """No slot's `usable_from` is later."""
        self.label_flags: dict[int, Flags] = {}
        """What filters by labels have found, by the plugin's id."""
        self.residency = Residency()
        self.scheduler = scheduler
        self.expected: list[tuple[float, int, Prefilling]] = []
        """A heap of when prompts should be computed whose first token nobody will see."""
        self.news: list[tuple[int, int, Sequence[int]]] | None = None
        """What prompts went where, for others to know: slot, hashes left out, the other hashes.
        None: nobody wants to."""
        self.blocks: Blocks | None = None
        self.prefix: PrefixIndex | None = None
        self.latency: LatencyModel | None = None
        self.use(scheduler)

    def use(self, scheduler: "Scheduler") -> None:
        """Pick by `scheduler` from now on. What was learnt stays, unless its settings changed."""
        before, self.scheduler = self.scheduler, scheduler
        settings, slots = scheduler.prefix, len(self.endpoints)
        self.relabel()
        if settings is None:
            self.blocks = self.prefix = None
        elif self.prefix is None or settings != before.prefix:
            self.blocks = Blocks(settings)
            self.prefix = PrefixIndex(settings, self.blocks.tokens)
            self.prefix.resize(slots)
        if scheduler.latency is None:
            self.latency = None
        elif self.latency is None or scheduler.latency != before.latency:
            self.latency = LatencyModel(scheduler.latency)
            self.latency.resize(slots)
        for slot, endpoint in enumerate(self.endpoints):
            if endpoint is not None:
                self.see_all(slot, endpoint.state)

    def set_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """Have exactly these endpoints; those that stay keep their slots and what is known."""
        wanted = dict.fromkeys(endpoints)
        if wanted.keys() == self._seats.keys():
            return
        slots = [one if one in wanted else None for one in self.endpoints]
        for endpoint in [one for one in self._seats if one not in wanted]:
            self._vacate(endpoint)
        empty = [slot for slot, one in enumerate(slots) if one is None]
        for endpoint in wanted:
            if endpoint not in self._seats:
                slot = empty.pop(0) if empty else len(slots)
                slots[slot:slot + 1] = [endpoint]  # fmt: skip
                self._seats[endpoint] = slot
        self._resize(len(slots))
        self.endpoints = tuple(slots)
        self.relabel()
        self.size = len(wanted)
        full = self.size == len(slots)
        taken = [slot for slot, one in enumerate(slots) if one is not None]
        self.at = ALL if full else np.array(taken, np.intp)
        for endpoint, slot in self._seats.items():
            if (self, slot) not in endpoint.seats:
                endpoint.seats += ((self, slot),)
                self.hashes[slot] = _spread(endpoint.address)
            self.see_all(slot, endpoint.state)

    def settle(self, now: float) -> None:
        """Take the prompts as computed that should be by `now`."""
        while self.expected and self.expected[0][0] <= now:
            heappop(self.expected)[2].prefilled(now)

    def relabel(self) -> None:
        """Look at the endpoints' labels anew: some changed."""
        self.label_flags = {}

    @property
    def members(self) -> tuple[Endpoint, ...]:
        """The endpoints, without the gaps."""
        return tuple(one for one in self.endpoints if one is not None)

    def stale(self, now: float) -> int:
        """Return at how many endpoints only this gateway's own counts tell the load at `now`."""
        told = [one.state for one in self.members if not one.state.blind]
        fresh = [at for one in told if (at := one.sampled_at) is not None]
        return self.size - sum(now - at <= STALE_S for at in fresh)

    def slot_of(self, endpoint: Endpoint) -> int | None:
        """Return the slot of an endpoint, or None if it isn't in the pool."""
        return self._seats.get(endpoint)

    def see_load(self, slot: int, state: EndpointState) -> None:
        """Take what a request's start or end changes."""
        siblings = state.siblings
        load = self.load[slot] = state.load
        self.requests[slot] = state.in_flight + siblings.in_flight
        self.pending[slot] = state.prefill + siblings.prefill
        self.tokens[slot] = state.tokens + siblings.tokens
        # A request that comes where some wait will wait too; elsewhere it runs at once.
        self.queue[slot] = max(0, load - state.running) if state.waiting else 0
        usable_from = self.usable_from[slot] = state.usable_from
        if usable_from > self.unwell_until:
            self.unwell_until = usable_from

    def see_all(self, slot: int, state: EndpointState) -> None:
        """Take all that a state says."""
        self.waiting[slot] = state.waiting
        self.running[slot] = state.running
        self.kv_usage[slot] = state.kv_usage
        self.capacity[slot] = state.capacity
        self.sampled_at[slot] = -math.inf if state.sampled_at is None else state.sampled_at
        self.see_load(slot, state)
        self.residency.see(slot, state)
        if self.prefix is not None:
            self.prefix.set_capacity(slot, state.capacity)
        if self.unwell_until == math.inf:
            self.unwell_until = float(self.usable_from.max(initial=-math.inf))

    def narrow(self, at: Slots, keep: Flags) -> NDArray[np.intp]:
        """Return those of the slots `at` where `keep`, which stands in their order, is true."""
        return np.flatnonzero(keep) if isinstance(at, slice) else at[keep]

    def _vacate(self, endpoint: Endpoint) -> None:
        slot = self._seats.pop(endpoint)
        endpoint.seats = tuple(seat for seat in endpoint.seats if seat[0] is not self)
        self.see_all(slot, UNSEEN)
        self.residency.forget(slot)
        self.last_miss[slot] = self.picks[slot] = 0.0
        if self.prefix is not None:
            self.prefix.forget(slot)
        if self.latency is not None:
            self.latency.forget(slot)

    def _resize(self, slots: int) -> None:
        more = slots - len(self.load)
        if more <= 0:
            return
        for name in _VECTORS:
            vector = getattr(self, name)
            setattr(self, name, np.concatenate([vector, np.zeros(more, vector.dtype)]))
        self.residency.resize(slots)
        if self.prefix is not None:
            self.prefix.resize(slots)
        if self.latency is not None:
            self.latency.resize(slots)


_VECTORS: Final = (
    "capacity", "hashes", "kv_usage", "last_miss", "load", "pending", "picks", "queue", "requests",
    "running", "sampled_at", "tokens", "usable_from", "waiting",
)  # fmt: skip


def _spread(address: str) -> int:
    """Return 64 bits of an address, the same in every process."""
    data = address.encode()
    return crc32(data) << 32 | crc32(b"endpoint" + data)
