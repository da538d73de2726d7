"""Holds requests back where their pool has no room, and lets them go on in turn.

A gate is a pool's flow control on an event loop: `picker.flow` decides, here is the clock. A
request that finds room never meets more than `open`. One that waits is looked after whenever a
request of the pool ends and a few times a second, as long as any waits.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import structlog
from xxhash import xxh3_64_digest

from tidegate.picker.flow.control import FlowControl
from tidegate.picker.flow.room import PoolRoom
from tidegate.picker.flow.settings import FlowSettings
from tidegate.picker.flow.waiter import Waiter
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request as PickRequest
from tidegate.routing.filters import Headers, edit_headers
from tidegate.routing.table import Arm, Backend, Rule
from tidegate.telemetry.families import QUEUE_WAIT
from tidegate.telemetry.metrics import Queue

log = structlog.get_logger("tidegate.gateway")

TURN_S: Final = 0.05
"""Between two looks at the servers while somebody waits."""
ANSWER: Final = 128
"""Tokens of an answer whose length nobody limited."""
BYTES_PER_TOKEN: Final = 4
OBJECTIVE: Final = frozenset((b"x-llm-d-inference-objective", b"x-gateway-inference-objective"))
FAIRNESS: Final = frozenset((b"x-llm-d-inference-fairness-id", b"x-gateway-inference-fairness-id"))
KEYS: Final = frozenset((b"authorization", b"x-api-key"))


class Held(Protocol):
    """A request that may wait."""

    def admitted(self) -> None:
        """It is its turn."""

    def turned_away(self, reason: str, retry_after_s: int) -> None:
        """It waited in vain."""

    def cut_short(self, retry_after_s: int) -> None:
        """It runs, and must end for one that is more important."""

    def crash(self) -> None:
        """Letting it go on failed by a bug of ours."""


class Gate:
    """The flow control of one pool."""

    __slots__ = ("_clock", "_pool", "_refused", "_room", "_timer", "_turning", "_waits", "flow")

    def __init__(self, pool: Pool, clock: Callable[[], float]) -> None:
        settings = pool.scheduler.flow
        self._pool = pool
        self._clock = clock
        self._room = PoolRoom(pool, settings.saturation_detector)
        self.flow = FlowControl(settings, self._room)
        self._timer: asyncio.TimerHandle | None = None
        self._turning = False
        self._waits: dict[int, tuple[list[int], list[float]]] = {}
        self._refused: Counter[int] = Counter()

    def use(self, settings: FlowSettings) -> None:
        """Go by other settings from now on; who waits goes on waiting."""
        self._room.use(settings.saturation_detector)
        self.flow.use(settings)

    def open(self, priority: int, now: float) -> bool:
        """Whether a request may go on without a place in the queue."""
        flow = self.flow
        return flow.open(priority, now) and not (priority < 0 and flow.cuts_running)

    def enter(
        self, held: Held, priority: int, tenant: bytes, size: int, asked: PickRequest
    ) -> Waiter:
        """Give a request its place; its outcome says whether it waits, goes on or must leave.

        Args:
            held: Told what becomes of it.
            priority: The more, the sooner.
            tenant: Who shares fairly with the others.
            size: Bytes of its body.
            asked: What the picker is asked.

        """
        flow, now = self.flow, self._clock()
        waiter = Waiter(
            priority=priority,
            tenant=tenant,
            cost=(asked.prompt or size // BYTES_PER_TOKEN) + (asked.output or ANSWER),
            size=size,
            arrived_at=now,
            deadline=now + flow.settings.ttl_s,
            owner=held,
        )
        offer = flow.offer(waiter, now)
        for one in offer.evicted:
            self._turn_away(one, "Evicted")
        if not offer.outcome:
            self._arm()
        elif offer.outcome == "rejected":
            self._refused[priority] += 1
        return waiter

    def left(self, waiter: Waiter | None) -> None:
        """Note that a request of the pool is over, one that waited maybe."""
        if waiter is not None:
            self.flow.withdraw(waiter)
            self.flow.ended(waiter)
            waiter.owner = None  # the queue's memory of it may outlive it by its deadline
        if self.flow.size:
            self.turn()

    def turn(self) -> None:
        """Let those go on whose turn it is, and send those away that waited too long."""
        if self._turning:  # who goes on may end at once, and ask whose turn it is
            return
        self._turning = True
        try:
            for late in self.flow.expire(self._clock()):
                self._turn_away(late, "QueueTimeout")
            while (waiter := self.flow.take(self._clock())) is not None:
                self._admit(waiter)
            victim = self.flow.cut(self._clock())
            if victim is not None:
                victim.owner.cut_short(self.flow.retry_after(victim.priority))
        finally:
            self._turning = False

    def queues(self) -> Iterator[Queue]:
        """Yield what the metrics say, of all priorities that ever had to wait."""
        for priority, waiting in self.flow.waiting().items():
            counts, total = self._of(priority)
            if waiting or any(counts) or self._refused[priority]:
                refused = self._refused[priority]
                yield Queue(self._pool.name, priority, waiting, tuple(counts), total[0], refused)

    def _admit(self, waiter: Waiter) -> None:
        waited = self._clock() - waiter.arrived_at
        counts, total = self._of(waiter.priority)
        counts[bisect_left(QUEUE_WAIT.bounds, waited)] += 1
        total[0] += waited
        try:
            waiter.owner.admitted()
        except Exception:
            log.exception("a request that waited failed", pool=self._pool.name)
            waiter.owner.crash()

    def _turn_away(self, waiter: Waiter, reason: str) -> None:
        self._refused[waiter.priority] += 1
        waiter.owner.turned_away(reason, self.flow.retry_after(waiter.priority))

    def _of(self, priority: int) -> tuple[list[int], list[float]]:
        found = self._waits.get(priority)
        if found is None:
            found = self._waits[priority] = [0] * (len(QUEUE_WAIT.bounds) + 1), [0.0]
        return found

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TURN_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.turn()
        if self.flow.size:
            self._arm()


def as_routed(headers: Headers, rule: Rule, arm: Arm) -> Headers:
    """Return a request's headers as the route's filters have them: those may say who it is."""
    for edits in (rule.filters.request, arm.filters.request):
        if edits:
            headers = edit_headers(headers, edits)
    return headers


def priority_of(backend: Backend, headers: Headers, model: str | None) -> int:
    """Return a request's priority: by the objective that it names, else by its model."""
    objectives = backend.objectives
    if objectives is None:
        return 0
    if objectives.by_name:
        for name, value in headers:
            if name in OBJECTIVE:
                priority = objectives.by_name.get(value.decode("latin-1"))
                if priority is not None:
                    return priority
    return objectives.of_model(model)


def tenant_of(headers: Headers, model: str | None) -> bytes:
    """Return who shares fairly: a fairness id, else an API key (only its hash), else the model."""
    key = b""
    for name, value in headers:
        if name in FAIRNESS:
            return b"id " + value
        if name in KEYS:
            key = xxh3_64_digest(value)
    return b"key " + key if key else b"model " + (model or "").encode(errors="replace")
