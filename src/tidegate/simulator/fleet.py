"""Many simulated servers in virtual time, without sockets or an event loop.

All engines sit on one heap of events, so what happens in which order depends on the seed and the
caller alone. Nothing waits: `run` goes from event to event. The caller submits requests, gets
their first tokens and ends called back, and sees each server as a scraper does: as it was at its
last scrape.

    fleet = Fleet([PROFILES["h100-8b"]] * 100, seed=1)
    fleet.submit(0, Job(500, 200), on_end=lambda request: print(request.ended_at))
    fleet.run()

A scrape costs nothing until something changes on its server: only then is it known what the last
scrapes saw, and only then is it worked out.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Literal, NamedTuple

from tidegate.simulator.adapters import AdapterSlots
from tidegate.simulator.engine import Engine
from tidegate.simulator.jobs import Job, Pace, Progress, Running
from tidegate.simulator.profiles import Profile

Outcome = Literal["", "done", "aborted", "lost"]
"""'' while it runs; lost: its server crashed, or was down."""


class Snapshot(NamedTuple):
    """One server's metrics at a time, as `vllm:*` names them."""

    at: float
    """When they were scraped."""
    running: int
    waiting: int
    kv_usage: float
    """0..1."""
    generated_tokens: int
    prefix_queries: int
    prefix_hits: int
    preemptions: int
    running_adapters: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Request:
    """One request of a fleet. Times in seconds of its clock."""

    server: int
    job: Job
    submitted_at: float
    on_first: "Listener | None" = None
    on_token: "Listener | None" = None
    on_end: "Listener | None" = None
    first_at: float | None = None
    """When its first token was made."""
    ended_at: float | None = None
    tokens: int = 0
    """How many tokens are known to be made."""
    outcome: Outcome = ""
    sequence: Running | None = field(default=None, repr=False)
    """What the engine knows of it, once it has arrived."""

    @property
    def ttft_s(self) -> float | None:
        """From submission to the first token."""
        return None if self.first_at is None else self.first_at - self.submitted_at

    @property
    def itl_s(self) -> float | None:
        """The mean time between tokens."""
        if self.first_at is None or self.ended_at is None or self.job.output_tokens < 2:
            return None
        return (self.ended_at - self.first_at) / (self.job.output_tokens - 1)


Listener = Callable[[Request], None]


class Server:
    """One server of a fleet."""

    __slots__ = ("armed_at", "engine", "next_scrape", "profile", "scrapes", "slots", "up")

    def __init__(self, profile: Profile, slots: int, *, coarse: bool, next_scrape: float) -> None:
        self.profile = profile
        self.slots = slots
        self.up = True
        self.armed_at: float | None = None
        self.next_scrape = next_scrape
        self.scrapes: deque[Snapshot] = deque()
        """Those that may still be seen; the oldest first."""
        self.engine: Engine
        self.start(coarse=coarse)

    def start(self, *, coarse: bool) -> None:
        """Begin with an empty engine."""
        profile = self.profile
        slots = AdapterSlots(
            self.slots, 4 * self.slots, profile.adapter_disk_s, profile.adapter_copy_s
        )
        self.engine = Engine(profile, adapters=slots, coarse=coarse)

    def sample(self, at: float) -> Snapshot:
        """Return the metrics as they are at `at`; since then nothing may have changed."""
        engine, totals = self.engine, self.engine.totals
        blocks, tokens = engine.counted(at)
        return Snapshot(
            at,
            len(engine.running),
            len(engine.waiting),
            blocks / engine.cache.total,
            tokens,
            totals.prefix_queries,
            totals.prefix_hits,
            totals.preemptions,
            tuple(engine.adapters.in_use),
        )


class Fleet:
    """Servers on one virtual clock.

    Args:
        profiles: One for each server.
        seed: Of the scrapes' phases, the only chance in here.
        scrape_interval_s: How often each server is scraped; `inf` is never.
        scrape_delay_s: How much later a scrape is seen.
        max_loras: Adapter slots of each server.
        every_token: Call `on_token` too: then a run costs as much as it has tokens.

    """

    def __init__(
        self,
        profiles: Sequence[Profile],
        *,
        seed: int = 0,
        scrape_interval_s: float = 0.05,
        scrape_delay_s: float = 0.002,
        max_loras: int = 4,
        every_token: bool = False,
    ) -> None:
        self.now = 0.0
        """Seconds since the beginning."""
        self._interval_s = scrape_interval_s
        self._delay_s = scrape_delay_s
        self._coarse = not every_token
        phases = Random(seed)
        self._servers = [
            Server(one, max_loras, coarse=self._coarse,
                   next_scrape=phases.random() * scrape_interval_s)
            for one in profiles
        ]  # fmt: skip
        self._heap: list[tuple[float, int, Server | None, Callable[[], None] | None]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._servers)

    # What the caller does

    def submit(
        self,
        server: int,
        job: Job,
        *,
        at: float | None = None,
        on_first: Listener | None = None,
        on_token: Listener | None = None,
        on_end: Listener | None = None,
    ) -> Request:
        """Send a request to a server, now or at a later time.

        The listeners get the request, whose times say when it happened. One that is lost at
        once, because its server is down, hears so before this returns.
        """
        request = Request(server, job, self.now if at is None else at, on_first, on_token, on_end)
        if at is None or at <= self.now:
            self._arrive(request)
        else:
            self.call_at(at, lambda: self._arrive(request))
        return request

    def abort(self, request: Request) -> None:
        """End a request that nobody wants any more."""
        if request.outcome:
            return
        server = self._servers[request.server]
        if request.sequence is not None:
            self._observe(server)
            server.engine.abort(request.sequence, self.now)
            self._arm(server)
        self._finish(request, "aborted", self.now)

    def call_at(self, at: float, call: Callable[[], None]) -> None:
        """Have something called when the clock is at `at`."""
        heappush(self._heap, (at, next(self._numbers), None, call))

    def run(self, until: float = inf) -> None:
        """Go on until the clock is at `until`, or nothing is left to happen."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, server, call = heappop(heap)
            if call is not None:
                call()
            elif server is not None and server.armed_at == self.now:
                self._step(server)
        if until < inf:
            self.now = max(self.now, until)

    def snapshot(self, server: int) -> Snapshot | None:
        """Return what the last scrape that has arrived by now saw; None while there is none."""
        one = self._servers[server]
        self._observe(one)
        scrapes, seen_by = one.scrapes, self.now - self._delay_s
        while len(scrapes) > 1 and scrapes[1].at <= seen_by:
            scrapes.popleft()
        return scrapes[0] if scrapes and scrapes[0].at <= seen_by else None

    def live(self, server: int) -> Snapshot:
        """Return how a server is now: what no scraper can know."""
        return self._servers[server].sample(self.now)

    def cached(self, server: int, prefix: Sequence[int]) -> int:
        """Return how many leading blocks of `prefix` are in a server's cache."""
        return self._servers[server].engine.cache.resident(prefix)

    def set_pace(self, server: int, pace: Pace) -> None:
        """Make a server slower or faster, from its next step on."""
        one = self._servers[server]
        self._observe(one)
        one.engine.interrupt(self.now)
        one.engine.pace = pace
        self._arm(one)

    def crash(self, server: int) -> None:
        """Take a server down; its requests are lost."""
        one = self._servers[server]
        self._observe(one)
        lost = [*one.engine.running, *one.engine.waiting]
        one.up, one.armed_at = False, None
        one.start(coarse=self._coarse)
        for sequence in lost:
            self._finish(sequence.owner, "lost", self.now)

    def restart(self, server: int) -> None:
        """Bring a server that crashed back, with nothing in its caches."""
        one = self._servers[server]
        self._observe(one)
        one.up = True

    # What happens

    def _arrive(self, request: Request) -> None:
        server = self._servers[request.server]
        if request.outcome:  # aborted before it came
            return
        if not server.up:
            self._finish(request, "lost", self.now)
            return
        if server.next_scrape <= self.now:
            self._observe(server)
        request.sequence = server.engine.submit(request.job, self.now, request)
        self._arm(server)

    def _step(self, server: Server) -> None:
        if server.next_scrape < self.now:
            self._observe(server)
        server.armed_at = None
        for made in server.engine.advance(self.now):
            self._tell(made)
        self._arm(server)

    def _tell(self, made: Progress) -> None:
        request: Request | None = made.sequence.owner
        if request is None:  # aborted by a listener a moment ago
            return
        request.tokens = made.first + made.tokens
        if request.first_at is None:
            request.first_at = made.at
            if request.on_first is not None:
                request.on_first(request)
        if request.on_token is not None and not self._coarse:
            request.on_token(request)
        if made.last and not request.outcome:  # a listener may have aborted it
            self._finish(request, "done", made.at)

    def _finish(self, request: Request, outcome: Outcome, at: float) -> None:
        request.outcome, request.ended_at = outcome, at
        if (sequence := request.sequence) is not None:  # else each would keep the other alive
            request.sequence = sequence.owner = None
        if request.on_end is not None:
            request.on_end(request)

    def _arm(self, server: Server) -> None:
        due = server.engine.next_at
        if due is not None and due != server.armed_at:
            heappush(self._heap, (due, next(self._numbers), server, None))
        server.armed_at = due

    def _observe(self, server: Server) -> None:
        """Work out the scrapes up to now; to be called before anything changes.

        Nothing has changed since the last call, so only those are sampled that can still be seen.
        """
        at, step = server.next_scrape, self._interval_s
        if at > self.now:
            return
        gone = int((self.now - self._delay_s - at) / step)
        at += max(0, gone) * step  # from here on there's no later one that is seen already
        while at <= self.now:
            if server.up:
                server.scrapes.append(server.sample(at))
            at += step
        server.next_scrape = at
        while len(server.scrapes) > 2 and server.scrapes[1].at <= self.now - self._delay_s:
            server.scrapes.popleft()
