"""One contestant, one workload: everything on the simulator's event heap.

The course of a request is the gateway's: admit, pick, send, charge the endpoint, learn from the
first token and the end, try again where a server died. Servers are seen as a scraper sees them.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from tidegate.fleet.contestant import Contestant
from tidegate.fleet.outcome import Ending, Report, Tally
from tidegate.fleet.servers import BASE, Servers
from tidegate.fleet.traffic import Turn, sources
from tidegate.fleet.workload import Workload, seconds
from tidegate.picker.flow.control import FlowControl
from tidegate.picker.flow.room import PoolRoom
from tidegate.picker.flow.waiter import Waiter
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.ticket import Ticket, begin
from tidegate.simulator.fleet import Request as Served

TRIES: Final = 3
ANSWER: Final = 128
"""Tokens that an answer is taken to have when its turn in a queue is worked out."""
MOST_S: Final = 120.0
"""How long after the last arrival the run goes on for what isn't over."""
BYTES_PER_TOKEN: Final = 4


class Life:
    """One request on its way."""

    __slots__ = (
        "arrived_at", "first_at", "kind", "request", "ticket", "tries", "turn", "waiter",
    )  # fmt: skip

    def __init__(self, turn: Turn, kind: int, arrived_at: float, request: Request) -> None:
        self.turn = turn
        self.kind = kind
        self.arrived_at = arrived_at
        self.request = request
        self.tries = 0
        self.first_at: float | None = None
        self.ticket: Ticket | None = None
        self.waiter: Waiter | None = None


class Run:
    """A run in the making."""

    def __init__(
        self, workload: Workload, contestant: Contestant, progress: Callable[[int], None]
    ) -> None:
        self._servers = Servers(workload, contestant)
        self._pool = self._servers.pool
        self._flow = _flow(self._pool, contestant)
        self._balancer = contestant.balancer()
        self._scrape_s = contestant.scrape_s
        self._name = contestant.name
        self._rng = Random(workload.seed)
        self._sources = sources(workload)
        self._starting = len(self._sources)
        """Sources that have more to start."""
        self._most = workload.requests
        self._end = seconds(workload.duration)
        self._tally = Tally(workload)
        self._progress = progress
        self._arrived = 0
        self._alive: set[Life] = set()
        self._last = 0.0
        """When a request ended last."""

    def run(self) -> Report:
        """Run it, and return what it came to."""
        for kind, source in enumerate(self._sources):
            self._await(kind, source.starts())
        self._tick()
        self._servers.fleet.run(until=self._end + MOST_S)
        for life in self._alive:
            self._count(life, "unfinished")
        hit_rate, preemptions = self._servers.counted()
        return self._tally.report(
            self._name,
            hit_rate=hit_rate,
            balance=self._servers.balance(),
            preemptions=preemptions,
            duration_s=self._last,
        )

    # when requests come

    def _await(self, kind: int, starts: Iterator[tuple[float, Turn]]) -> None:
        """Let the next conversation of a source come when it is due."""
        following = next(starts, None) if self._servers.now < self._end else None
        if following is None:
            self._starting -= 1
            return
        at, turn = following

        def come() -> None:
            self._arrive(turn, kind)
            self._await(kind, starts)

        self._servers.fleet.call_at(at, come)

    # a request's course

    def _arrive(self, turn: Turn, kind: int) -> None:
        if self._arrived == self._most:
            self._end = min(self._end, self._servers.now)  # that was all
            return
        self._arrived += 1
        if self._arrived % 512 == 0:
            self._progress(self._arrived)
        now = self._servers.now
        life = Life(turn, kind, now, self._asked(turn, now))
        self._alive.add(life)
        if self._flow is None or self._admitted(life, self._flow, now):
            self._send(life)

    def _asked(self, turn: Turn, now: float) -> Request:
        talk, blocks = turn.talk, self._pool.blocks
        return Request(
            now,
            talk.adapter or BASE,
            session=talk.own.to_bytes(8, "little"),
            chain=() if blocks is None else turn.chain(blocks.tokens),
            prompt=turn.prompt,
        )

    def _admitted(self, life: Life, flow: FlowControl, now: float) -> bool:
        source = self._sources[life.kind]
        if not flow.cuts_running and flow.open(source.kind.priority, now):
            return True
        waiter = Waiter(
            priority=source.kind.priority,
            tenant=life.turn.talk.tenant,
            cost=life.turn.prompt + ANSWER,
            size=life.turn.prompt * BYTES_PER_TOKEN,
            arrived_at=now,
            deadline=now + flow.settings.ttl_s,
            owner=life,
        )
        offer = flow.offer(waiter, now)
        for one in offer.evicted:
            self._over(one.owner, "refused")
        if offer.outcome == "rejected":
            self._over(life, "refused")
        life.waiter = waiter
        return offer.outcome == "dispatched"

    def _send(self, life: Life) -> None:
        now, request = self._servers.now, life.request
        request.now = now
        life.tries += 1
        endpoint = self._balancer.pick(self._pool, request, self._rng)
        if endpoint is None:
            self._over(life, "lost")
            return
        life.ticket = begin(self._pool, endpoint, request, now)
        self._servers.send(
            endpoint,
            life.turn,
            lambda served: self._first(life, served),
            lambda served: self._ended(life, served),
        )

    def _first(self, life: Life, served: Served) -> None:
        life.first_at = served.first_at
        if life.ticket is not None:
            life.ticket.answered(self._servers.now)
        self._go_on()

    def _ended(self, life: Life, served: Served) -> None:
        now, ticket = self._servers.now, life.ticket
        well = served.outcome == "done"
        if ticket is not None:
            life.ticket = None
            ticket.ended(now, ok=well, output=life.turn.answer if well else 0)
        if life.waiter is not None and self._flow is not None:
            self._flow.ended(life.waiter)
        if not well and life.tries < TRIES and life.first_at is None:
            self._send(life)
        elif well:
            self._over(life, "done", served.itl_s)
            self._continue(life)
        else:
            self._over(life, "lost")
        self._go_on()

    def _continue(self, life: Life) -> None:
        talk = life.turn.talk
        pause = talk.pause
        if pause is None or self._servers.now + pause >= self._end:
            return
        at = self._servers.now + pause
        self._servers.fleet.call_at(at, lambda: self._arrive(talk.turn(), life.kind))

    def _go_on(self) -> None:
        """Let those go on that find room now."""
        flow = self._flow
        if flow is None or not flow.size:
            return
        now = self._servers.now
        while (waiter := flow.take(now)) is not None:
            self._send(waiter.owner)

    def _over(self, life: Life, ending: Ending, itl: float | None = None) -> None:
        self._last = self._servers.now
        self._alive.discard(life)
        self._count(life, ending, itl)

    def _count(self, life: Life, ending: Ending, itl: float | None = None) -> None:
        ttft = None if life.first_at is None else life.first_at - life.arrived_at
        self._tally.add(life.kind, life.arrived_at, ending, ttft, itl)

    def _tick(self) -> None:
        """Look at the servers, and let go who waited too long; again and again."""
        now = self._servers.now
        self._servers.look()
        if self._flow is not None:
            for waiter in self._flow.expire(now):
                self._over(waiter.owner, "refused")
            self._go_on()
        if self._alive or self._starting or now < self._end:
            self._servers.fleet.call_at(now + self._scrape_s, self._tick)


def _flow(pool: Pool, contestant: Contestant) -> FlowControl | None:
    if contestant.flow is None:
        return None
    return FlowControl(contestant.flow, PoolRoom(pool, contestant.flow.saturation_detector))


def simulate(
    workload: Workload, contestant: Contestant, progress: Callable[[int], None] = lambda _: None
) -> Report:
    """Return what `contestant` makes of `workload`.

    Args:
        workload: What happens.
        contestant: Who picks.
        progress: Told now and then how many requests have come.

    """
    return Run(workload, contestant, progress).run()
