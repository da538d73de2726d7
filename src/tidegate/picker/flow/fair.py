"""A queue that is fair between tenants: start-time fair queueing.

Each tenant that waits has a start tag; the smallest goes next. A tenant's next tag is its last
one plus the cost of what was dispatched, and never less than the queue's virtual time, the tag
of the last dispatch: who was away gets no credit for it (Goyal, Vin and Cheng, "Start-time fair
queueing", 1996).

Invariant: while two tenants both wait, what they were given differs by at most the cost of the
largest request of each, whatever and however much either sends.
"""

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

from tidegate.picker.flow.waiter import Waiter

MEMORY: Final = 4096
"""Tenants whose tags are remembered while they don't wait."""


class _Tenant:
    __slots__ = ("name", "start", "waiters")

    def __init__(self, name: bytes, start: float) -> None:
        self.name = name
        self.start = start
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()


class FairQueue:
    """Waiters of one priority."""

    __slots__ = (
        "_away", "_heap", "_lengths", "_longest", "_numbers", "_tenants", "_virtual", "bytes",
        "size",
    )  # fmt: skip

    def __init__(self) -> None:
        self.size = 0
        """How many wait."""
        self.bytes = 0
        self._virtual = 0.0
        self._tenants: dict[bytes, _Tenant] = {}
        self._heap: list[tuple[float, int, _Tenant]] = []
        """By start tag; entries of tenants who left are stale."""
        self._numbers = count()
        self._away: dict[bytes, float] = {}
        """Tags of tenants that don't wait, where they are ahead of the virtual time."""
        self._lengths: dict[int, OrderedDict[_Tenant, None]] = {}
        """Tenants by how many of theirs wait."""
        self._longest = 0

    def __len__(self) -> int:
        return self.size

    def add(self, waiter: Waiter) -> None:
        """Let `waiter` wait behind those of its tenant."""
        tenant = self._tenants.get(waiter.tenant)
        if tenant is None:
            start = max(self._virtual, self._away.pop(waiter.tenant, 0.0))
            tenant = self._tenants[waiter.tenant] = _Tenant(waiter.tenant, start)
            heappush(self._heap, (start, next(self._numbers), tenant))
        tenant.waiters[waiter] = None
        self.size += 1
        self.bytes += waiter.size
        self._resized(tenant, len(tenant.waiters) - 1)

    def take(self) -> Waiter:
        """Remove and return whose turn it is. The queue must not be empty."""
        tenant = self._first()
        heappop(self._heap)
        waiter = next(iter(tenant.waiters))
        self._virtual = tenant.start
        tenant.start += waiter.cost
        if len(tenant.waiters) > 1:
            heappush(self._heap, (tenant.start, next(self._numbers), tenant))
        self._drop(tenant, waiter)
        return waiter

    def peek(self) -> Waiter:
        """Return whose turn it is; the queue must not be empty."""
        return next(iter(self._first().waiters))

    def remove(self, waiter: Waiter) -> None:
        """Remove one that waits; its tenant pays nothing for it."""
        self._drop(self._tenants[waiter.tenant], waiter)

    def backlog(self, tenant: bytes) -> int:
        """Return how many of a tenant's wait."""
        found = self._tenants.get(tenant)
        return len(found.waiters) if found is not None else 0

    @property
    def longest(self) -> int:
        """How many wait of the tenant of whom most do."""
        return self._longest

    def newest_of_longest(self) -> Waiter:
        """Return the last that came of the tenant of whom most wait; it is still in the queue."""
        tenant = next(iter(self._lengths[self._longest]))
        return next(reversed(tenant.waiters))

    def _first(self) -> _Tenant:
        heap = self._heap
        while True:
            tenant = heap[0][2]
            if self._tenants.get(tenant.name) is tenant:
                return tenant
            heappop(heap)

    def _drop(self, tenant: _Tenant, waiter: Waiter) -> None:
        del tenant.waiters[waiter]
        self.size -= 1
        self.bytes -= waiter.size
        self._resized(tenant, len(tenant.waiters) + 1)
        if not tenant.waiters:
            self._leave(tenant)

    def _leave(self, tenant: _Tenant) -> None:
        del self._tenants[tenant.name]
        if not self._tenants:  # everybody was served: nobody owes anybody anything
            self._virtual = 0.0
            self._away.clear()
            self._heap.clear()
            return
        if tenant.start > self._virtual:
            self._away[tenant.name] = tenant.start
        if len(self._away) > MEMORY:
            self._forget()
        if len(self._heap) > 2 * len(self._tenants) + 64:
            self._heap = [e for e in self._heap if self._tenants.get(e[2].name) is e[2]]
            heapify(self._heap)

    def _forget(self) -> None:
        ahead = {name: tag for name, tag in self._away.items() if tag > self._virtual}
        # Who is furthest ahead is remembered: to forget it would be the largest gift.
        kept = sorted(ahead, key=ahead.__getitem__)[-MEMORY // 2 :]
        self._away = {name: ahead[name] for name in kept}

    def _resized(self, tenant: _Tenant, before: int) -> None:
        """Note how many of a tenant's wait now: one more or less than `before`."""
        after, lengths = len(tenant.waiters), self._lengths
        if before:
            del lengths[before][tenant]
            if not lengths[before]:
                del lengths[before]
        if after:
            lengths.setdefault(after, OrderedDict())[tenant] = None
        if after > self._longest or (self._longest == before and before not in lengths):
            self._longest = after
