"""One contestant, one workload: everything on the simulator's event heap.

The course of a request is the gateway's: admit, pick, send, charge the endpoint, learn from the
first token and the end, try again where a server died. Servers are seen as a scraper sees them.
"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from tidegate.fleet.contestant import Contestant
from tidegate.fleet.outcome import Ending, Report, Tally
from tidegate.fleet.traffic import Turn, sources
from tidegate.fleet.workload import Trouble, Workload, seconds
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.flow.control import FlowControl
from tidegate.picker.flow.room import PoolRoom
from tidegate.picker.flow.waiter import Waiter
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.state import Adapters, Listed, Model, Sample, ScrapeFailed
from tidegate.picker.ticket import Ticket, begin
from tidegate.simulator.fleet import Fleet, Snapshot
from tidegate.simulator.fleet import Request as Served
from tidegate.simulator.jobs import Job, Pace
from tidegate.simulator.profiles import by_name

BASE: Final = "base"
TRIES: Final = 3
ANSWER: Final = 128
"""Tokens that an answer is taken to have when its turn in a queue is worked out."""
MOST_S: Final = 120.0
"""How long after the last arrival the run goes on for what isn't over."""
BYTES_PER_TOKEN: Final = 4


class Life:
    """One request on its way."""

    __slots__ = (
        "arrived_at", "endpoint", "first_at", "kind", "request", "served", "ticket", "tries",
        "turn", "waiter",
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

    def __init__(self, workload: Workload, contestant: Contestant) -> None:
        self.workload = workload
        self.contestant = contestant
        self.arrived = 0
        """Requests so far."""
        groups = [one for one in workload.servers for _ in range(one.count)]
        self._fleet = Fleet(
            [by_name(one.profile).scaled(one.pace) for one in groups],
            seed=workload.seed,
            scrape_interval_s=contestant.scrape_s,
            max_loras=max(one.max_loras for one in groups),
        )
        self._loras = max(one.max_loras for one in groups)
        self._capacity = [by_name(one.profile).blocks * by_name(one.profile).block_size
                          for one in groups]  # fmt: skip
        self._block = [by_name(one.profile).block_size for one in groups]
        self._endpoints = [Endpoint(f"10.0.{n >> 8}.{n & 255}:8000") for n in range(len(groups))]
        self._server = {one: n for n, one in enumerate(self._endpoints)}
        self._down: set[int] = set()
        self._deaf: set[int] = set()
        self._pool = Pool("fleet", contestant.scheduler)
        self._flow = None
        if contestant.flow is not None:
            room = PoolRoom(self._pool, contestant.flow.saturation_detector)
            self._flow = FlowControl(contestant.flow, room)
        self._ttl_s = contestant.flow.ttl_s if contestant.flow is not None else 0.0
        self._balancer = contestant.balancer()
        self._rng = Random(workload.seed)
        self._sources = sources(workload)
        self._end = seconds(workload.duration)
        self._tally = Tally(
            [one.name for one in workload.traffic],
            seconds(workload.objective.ttft),
            seconds(workload.objective.itl),
            seconds(workload.warmup),
            self._end,
        )
        self._alive: set[Life] = set()
        self._last = 0.0
        """When a request ended last."""
        self._load = [0.0] * len(groups)
        self._pending_starts = len(self._sources)

    def run(self, progress: Callable[[int], None] = lambda _: None) -> Report:
        """Run it, and return what it came to; `progress` is told now and then how many came."""
        self._progress = progress
        self._prepare()
        self._fleet.run(until=self._end + MOST_S)
        for life in self._alive:
            self._count(life, "unfinished")
        return self._report()

    # before it begins

    def _prepare(self) -> None:
        fleet, workload = self._fleet, self.workload
        number = 0
        joins: dict[float, list[Endpoint]] = {}
        for group in workload.servers:
            joins.setdefault(seconds(group.joins), []).extend(
                self._endpoints[number : number + group.count]
            )
            number += group.count
        for at, endpoints in sorted(joins.items()):
            if at:
                fleet.call_at(at, lambda endpoints=endpoints: self._join(endpoints))  # type: ignore[misc]
            else:
                self._join(endpoints)
        for trouble in workload.troubles:
            fleet.call_at(seconds(trouble.at), lambda trouble=trouble: self._befall(trouble))  # type: ignore[misc]
        for kind, source in enumerate(self._sources):
            self._await(kind, source.starts())
        self._tick()

    def _join(self, endpoints: list[Endpoint]) -> None:
        adapters = {f"adapter-{n}" for one in self.workload.traffic if one.adapters is not None
                    for n in range(one.adapters.count)}  # fmt: skip
        if adapters:
            tuned = [Model(id=name, parent=BASE) for name in sorted(adapters)]
            listed = Listed((Model(id=BASE), *tuned))
            for one in endpoints:
                one.note(listed, self._fleet.now)
        self._pool.set_endpoints([*self._pool.members, *endpoints])

    def _befall(self, trouble: Trouble) -> None:
        fleet, server = self._fleet, trouble.server
        match trouble.what:
            case "slow":
                fleet.set_pace(server, Pace(trouble.factor, trouble.factor))
            case "down":
                self._down.add(server)
                fleet.crash(server)
            case "up":
                if server in self._down:
                    self._down.discard(server)
                    fleet.restart(server)
                fleet.set_pace(server, Pace())
                self._deaf.discard(server)
            case "deaf":
                self._deaf.add(server)

    def _await(self, kind: int, starts: Iterator[tuple[float, Turn]]) -> None:
        """Let the next conversation of a source come when it is due."""
        following = next(starts, None) if self._fleet.now < self._end else None
        if following is None:
            self._pending_starts -= 1
            return
        at, turn = following

        def come() -> None:
            self._arrive(turn, kind)
            self._await(kind, starts)

        self._fleet.call_at(at, come)

    # a request's course

    def _arrive(self, turn: Turn, kind: int) -> None:
        if self.arrived == self.workload.requests:
            self._end = min(self._end, self._fleet.now)  # that was all
            return
        self.arrived += 1
        if self.arrived % 512 == 0:
            self._progress(self.arrived)
        now = self._fleet.now
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
            deadline=now + self._ttl_s,
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
        now, request = self._fleet.now, life.request
        request.now = now
        life.tries += 1
        endpoint = self._balancer.pick(self._pool, request, self._rng)
        if endpoint is None:
            self._over(life, "lost")
            return
        life.ticket = begin(self._pool, endpoint, request, now)
        server, talk = self._server[endpoint], life.turn.talk
        prefix = life.turn.blocks(self._block[server])
        job = Job(life.turn.prompt, life.turn.answer, prefix, talk.adapter)
        self._fleet.submit(
            server,
            job,
            on_first=lambda served: self._first(life, served),
            on_end=lambda served: self._ended(life, served),
        )

    def _first(self, life: Life, served: Served) -> None:
        life.first_at = served.first_at
        if life.ticket is not None:
            life.ticket.answered(self._fleet.now)
        self._go_on()

    def _ended(self, life: Life, served: Served) -> None:
        now, ticket = self._fleet.now, life.ticket
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
        if pause is None or self._fleet.now + pause >= self._end:
            return
        at = self._fleet.now + pause
        self._fleet.call_at(at, lambda: self._arrive(talk.turn(), life.kind))

    def _go_on(self) -> None:
        """Let those go on that find room now."""
        flow = self._flow
        if flow is None or not flow.size:
            return
        now = self._fleet.now
        while (waiter := flow.take(now)) is not None:
            self._send(waiter.owner)

    def _over(self, life: Life, ending: Ending, itl: float | None = None) -> None:
        self._last = self._fleet.now
        self._alive.discard(life)
        self._count(life, ending, itl)

    def _count(self, life: Life, ending: Ending, itl: float | None = None) -> None:
        ttft = None if life.first_at is None else life.first_at - life.arrived_at
        self._tally.add(life.kind, life.arrived_at, ending, ttft, itl)

    # what a scraper sees

    def _tick(self) -> None:
        fleet, now = self._fleet, self._fleet.now
        for endpoint in self._pool.members:
            server = self._server[endpoint]
            self._load[server] += endpoint.state.in_flight
            if server in self._down:
                endpoint.note(ScrapeFailed(), now)
            elif (seen := fleet.snapshot(server)) is not None:
                self._note(endpoint, server, seen, now)
        if self._flow is not None:
            for waiter in self._flow.expire(now):
                self._over(waiter.owner, "refused")
            self._go_on()
        if self._alive or self._pending_starts or now < self._end:
            fleet.call_at(now + self.contestant.scrape_s, self._tick)

    def _note(self, endpoint: Endpoint, server: int, seen: Snapshot, now: float) -> None:
        state = endpoint.state
        if server in self._deaf and state.sampled_at is not None:
            seen = seen._replace(
                waiting=state.waiting, running=state.running, kv_usage=state.kv_usage
            )
        sample = Sample(
            seen.waiting,
            seen.running,
            seen.kv_usage,
            Adapters(self._loras, frozenset(seen.running_adapters)),
            capacity=self._capacity[server],
        )
        endpoint.note(sample, now)

    def _report(self) -> Report:
        queries = hits = preemptions = 0
        for server in range(len(self._fleet)):
            seen = self._fleet.live(server)
            queries += seen.prefix_queries
            hits += seen.prefix_hits
            preemptions += seen.preemptions
        most = max(self._load)
        return self._tally.report(
            self.contestant.name,
            hit_rate=hits / max(1, queries),
            balance=sum(self._load) / len(self._load) / most if most else 1.0,
            preemptions=preemptions,
            duration_s=self._last,
        )


def simulate(
    workload: Workload, contestant: Contestant, progress: Callable[[int], None] = lambda _: None
) -> Report:
    """Return what `contestant` makes of `workload`.

    Args:
        workload: What happens.
        contestant: Who picks.
        progress: Told now and then how many requests have come.

    """
    return Run(workload, contestant).run(progress)
