"""Flow control of one pool: go on, wait, or be refused.

    if flow.open(priority, now): ...          # room, and nobody waits before it: costs nothing
    else: offer = flow.offer(waiter, now)     # waits, or its outcome says why not
    ...
    while waiter := flow.take(now): ...       # whenever something ended or was scraped
    for waiter in flow.expire(now): ...       # at `next_deadline`

Bands are strict: as long as one waits, nobody below goes on. Inside a band tenants are fair.
Where the queues are full, the newest of the lowest priority makes room for a higher one, and
in one band the newest of whom most wait for one of whom fewer do.

Invariant: each waiter gets exactly one outcome, and `size` is how many have none.
"""

from bisect import insort
from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import count
from math import ceil, inf
from typing import Final, NamedTuple, Protocol

from tidegate.picker.flow.fair import FairQueue
from tidegate.picker.flow.settings import BandSettings, FlowSettings
from tidegate.picker.flow.waiter import Outcome, Waiter

LOOK_S: Final = 0.02
"""How long a look at the endpoints is good for."""
EXTRA_LIMIT: Final = 0.7
"""Usage from which nothing goes on that nobody waits for: shadows and warm-up."""
NOBODY: Final = -(2**63)
"""Below every priority."""


class Look(NamedTuple):
    """How full a pool's endpoints are."""

    least: float
    """The usage of the endpoint that is the least used, 0 and more; 1 is full."""
    spare: int
    """Requests that may go on before anybody has to look again."""


class Room(Protocol):
    """Where requests go."""

    def look(self, now: float, limit: float) -> Look:
        """Return how much room there is."""


class Offer(NamedTuple):
    """What became of a waiter that was offered."""

    outcome: Outcome
    """dispatched, rejected, or '': it waits."""
    evicted: tuple[Waiter, ...] = ()
    """Who had to leave for it."""


class FlowControl:
    """The queues of one pool."""

    __slots__ = (
        "_bands", "_credit", "_cuts", "_deadlines", "_gap_s", "_late", "_lowest", "_numbers",
        "_order", "_room", "_running", "_taken_at", "_until", "bytes", "settings", "size", "top",
    )  # fmt: skip

    def __init__(self, settings: FlowSettings, room: Room) -> None:
        self.settings = settings
        self._room = room
        self.size = 0
        """How many wait."""
        self.bytes = 0
        self.top = NOBODY
        """The highest priority that waits."""
        self._bands: dict[int, tuple[FairQueue, BandSettings]] = {}
        self._order: list[int] = []
        """Priorities of whom some wait, the lowest first."""
        self._lowest = 1.0
        """The lowest usage limit of all bands that were ever used."""
        for priority in (-1, 0):
            self._band(priority)
        self._credit = 0
        self._until = -inf
        self._numbers = count(1)
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._late: list[Waiter] = []
        self._running: OrderedDict[Waiter, None] = OrderedDict()
        self._cuts = 0
        self._gap_s = 0.0
        """Seconds between two dispatches from the queues, lately."""
        self._taken_at = -inf

    def use(self, settings: FlowSettings) -> None:
        """Go by other settings; who waits stays, within the bounds or not."""
        self.settings = settings
        for priority, (queue, _) in self._bands.items():
            self._bands[priority] = queue, settings.band(priority)
        self._lowest = min(band.limit for _, band in self._bands.values())
        self._credit = 0

    # going on

    def open(self, priority: int, now: float) -> bool:
        """Whether a request goes on at once: there's room, and none like it or above waits."""
        if self.size and priority <= self.top:
            return False
        if self._credit > 0 and now < self._until:
            self._credit -= 1
            return True
        return self._look(now) < self._band(priority)[1].limit

    def spare(self, now: float) -> bool:
        """Whether there's room for what may as well be left out: shadows and warm-up."""
        return not self.size and self._look(now) < EXTRA_LIMIT

    def offer(self, waiter: Waiter, now: float) -> Offer:
        """Let a request go on, or wait, or refuse it."""
        if self.open(waiter.priority, now):
            self._dispatch(waiter)
            return Offer("dispatched")
        evicted = self._make_room(waiter)
        if evicted is None:
            waiter.outcome = "rejected"
            return Offer("rejected")
        self._enter(waiter)
        return Offer("", evicted)

    def take(self, now: float) -> Waiter | None:
        """Return who goes on now, if anybody does. To be called until it returns None."""
        while self.size:
            queue, settings = self._bands[self.top]
            waiter = queue.peek()
            if waiter.deadline > now:
                if self._look(now) >= settings.limit:
                    return None
                self._credit = 0  # who comes next must look again: it may be the last place
                queue.take()
                self._left(waiter)
                self._dispatch(waiter)
                self._took(waiter, now)
                return waiter
            self._remove(waiter, "expired")
            self._late.append(waiter)
        return None

    # leaving without having gone on

    def withdraw(self, waiter: Waiter) -> None:
        """Forget one that waits; others are left alone."""
        if not waiter.outcome and waiter.number:
            self._remove(waiter, "withdrawn")

    def expire(self, now: float) -> list[Waiter]:
        """Return those that have waited too long."""
        late, self._late = self._late, []
        heap = self._deadlines
        while heap and heap[0][0] <= now:
            waiter = heappop(heap)[2]
            if not waiter.outcome:
                self._remove(waiter, "expired")
                late.append(waiter)
        return late

    @property
    def next_deadline(self) -> float:
        """When `expire` has something to return; too early at times, never too late."""
        if self._late:
            return -inf
        return self._deadlines[0][0] if self._deadlines else inf

    # what runs

    def ended(self, waiter: Waiter) -> None:
        """Note the end of one that went on; only needed where `cuts_running`."""
        self._running.pop(waiter, None)

    @property
    def cuts_running(self) -> bool:
        """Whether running requests below priority 0 may be cut, and so must be offered."""
        return self.settings.enable_eviction

    def cut(self, now: float) -> Waiter | None:
        """Return a running request that must end for one that has waited too long.

        The newest goes first, for the least work is lost, and not more than wait.
        """
        if self.top < 0 or not self.size or not self._running or self._cuts >= self.size:
            return None
        first = self._bands[self.top][0].peek()
        if now - first.arrived_at < self.settings.patience_s:
            return None
        self._cuts += 1
        return self._running.popitem()[0]

    # what people see

    def waiting(self) -> dict[int, int]:
        """Return how many wait, by priority; bands that were ever used are all there."""
        return {priority: len(queue) for priority, (queue, _) in sorted(self._bands.items())}

    def retry_after(self, priority: int) -> int:
        """Return after how many seconds a refused request may have better luck, 1 to 60."""
        ahead = 1 + sum(len(self._bands[one][0]) for one in self._order if one >= priority)
        return max(1, min(60, ceil(ahead * self._gap_s)))

    # inside

    def _look(self, now: float) -> float:
        least, self._credit = self._room.look(now, self._lowest)
        self._until = now + LOOK_S
        return least

    def _band(self, priority: int) -> tuple[FairQueue, BandSettings]:
        band = self._bands.get(priority)
        if band is None:
            settings = self.settings.band(priority)
            self._lowest = min(self._lowest, settings.limit)
            band = self._bands[priority] = FairQueue(), settings
        return band

    def _dispatch(self, waiter: Waiter) -> None:
        waiter.outcome = "dispatched"
        if self.settings.enable_eviction and waiter.priority < 0:
            self._running[waiter] = None

    def _took(self, waiter: Waiter, now: float) -> None:
        self._cuts = max(0, self._cuts - 1)
        # While nobody waited the queue could not move, so that time says nothing of its pace.
        gap = now - max(self._taken_at, waiter.arrived_at)
        self._gap_s = gap if not self._gap_s else self._gap_s + (gap - self._gap_s) * 0.1
        self._taken_at = now

    def _enter(self, waiter: Waiter) -> None:
        queue, _ = self._bands[waiter.priority]
        if not queue.size:
            insort(self._order, waiter.priority)
            self.top = self._order[-1]
        queue.add(waiter)
        self.size += 1
        self.bytes += waiter.size
        waiter.number = next(self._numbers)
        heappush(self._deadlines, (waiter.deadline, waiter.number, waiter))
        if len(self._deadlines) > 2 * self.size + 1024:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].outcome]
            heapify(self._deadlines)

    def _remove(self, waiter: Waiter, outcome: Outcome) -> None:
        self._bands[waiter.priority][0].remove(waiter)
        self._left(waiter)
        waiter.outcome = outcome

    def _left(self, waiter: Waiter) -> None:
        self.size -= 1
        self.bytes -= waiter.size
        if not self._bands[waiter.priority][0].size:
            self._order.remove(waiter.priority)
            self.top = self._order[-1] if self._order else NOBODY

    def _make_room(self, waiter: Waiter) -> tuple[Waiter, ...] | None:
        """Return who leaves so that `waiter` fits; None if it can't be made to fit."""
        queue, band = self._band(waiter.priority)
        own = _over(queue.size, queue.bytes, band.max_requests, band.max_bytes, waiter.size)
        if own:
            return self._swap(waiter, queue, band)
        if not self._full(waiter.size):
            return ()
        evicted = self._clear_below(waiter)
        return self._swap(waiter, queue, band) if evicted is None else evicted

    def _full(self, size: int) -> bool:
        limits = self.settings
        return _over(self.size, self.bytes, limits.max_requests, limits.max_bytes, size)

    def _clear_below(self, waiter: Waiter) -> tuple[Waiter, ...] | None:
        """Evict lower priorities until `waiter` fits; nobody if that isn't enough."""
        limits = self.settings
        below = [self._bands[one][0] for one in self._order if one < waiter.priority]
        size = self.size - sum(queue.size for queue in below)
        held = self.bytes - sum(queue.bytes for queue in below)
        if _over(size, held, limits.max_requests, limits.max_bytes, waiter.size):
            return None
        evicted = []
        while self._full(waiter.size):
            victim = self._bands[self._order[0]][0].newest_of_longest()
            self._remove(victim, "evicted")
            evicted.append(victim)
        return tuple(evicted)

    def _swap(
        self, waiter: Waiter, queue: FairQueue, band: BandSettings
    ) -> tuple[Waiter, ...] | None:
        """Evict the newest of the tenant of whom most wait, if fewer of `waiter`'s do."""
        if queue.longest <= queue.backlog(waiter.tenant) + 1:
            return None
        victim, limits = queue.newest_of_longest(), self.settings
        freed = waiter.size - victim.size
        if queue.bytes + freed > band.max_bytes or self.bytes + freed > limits.max_bytes:
            return None
        self._remove(victim, "evicted")
        return (victim,)


def _over(count: int, held: int, most: int, most_bytes: int, size: int) -> bool:
    return count + 1 > most or held + size > most_bytes
