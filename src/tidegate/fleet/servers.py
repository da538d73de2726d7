"""The simulated servers of a run, and the pool that the gateway knows them as.

What the gateway knows comes by two ways, as it does over sockets: what it counts itself, and what
a scraper sees a little later. Here are the servers' troubles too.
"""

from functools import partial
from typing import Final

from tidegate.fleet.contestant import Contestant
from tidegate.fleet.traffic import Turn
from tidegate.fleet.workload import Trouble, Workload, seconds
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.state import Adapters, Listed, Model, Sample, ScrapeFailed
from tidegate.simulator.fleet import Fleet, Listener, Snapshot
from tidegate.simulator.jobs import Job, Pace
from tidegate.simulator.profiles import by_name

BASE: Final = "base"
"""The model that is no adapter."""


class Servers:
    """All servers of a workload, those that join later too."""

    def __init__(self, workload: Workload, contestant: Contestant) -> None:
        groups = [one for one in workload.servers for _ in range(one.count)]
        self._loras = max(one.max_loras for one in groups)
        self._profiles = [by_name(one.profile).scaled(one.pace) for one in groups]
        self.fleet = Fleet(
            self._profiles,
            seed=workload.seed,
            scrape_interval_s=contestant.scrape_s,
            max_loras=self._loras,
        )
        self.pool = Pool("fleet", contestant.scheduler)
        self._endpoints = [Endpoint(f"10.0.{n >> 8}.{n & 255}:8000") for n in range(len(groups))]
        self._number = {one: n for n, one in enumerate(self._endpoints)}
        self._listed = _listed(workload)
        self._down: set[int] = set()
        self._deaf: set[int] = set()
        self._load = [0] * len(groups)
        """Requests under way, added up at each look."""
        self._plan(workload)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.fleet.now

    def send(self, endpoint: Endpoint, turn: Turn, on_first: Listener, on_end: Listener) -> None:
        """Send a request to a server."""
        number = self._number[endpoint]
        prefix = turn.blocks(self._profiles[number].block_size)
        job = Job(turn.prompt, turn.answer, prefix, turn.talk.adapter)
        self.fleet.submit(number, job, on_first=on_first, on_end=on_end)

    def cached(self, endpoint: Endpoint, turn: Turn) -> int:
        """Return how many tokens of a prompt are in a server's cache: what no gateway can see."""
        number = self._number[endpoint]
        size = self._profiles[number].block_size
        return size * self.fleet.cached(number, turn.blocks(size))

    def look(self) -> None:
        """See what a scraper sees now."""
        fleet, now = self.fleet, self.fleet.now
        for endpoint in self.pool.members:
            number = self._number[endpoint]
            self._load[number] += endpoint.state.in_flight
            if number in self._down:
                endpoint.note(ScrapeFailed(), now)
            elif (seen := fleet.snapshot(number)) is not None:
                endpoint.note(self._sample(endpoint, number, seen), now)

    def balance(self) -> float:
        """Return the mean of the requests under way over that of the busiest server."""
        most = max(self._load)
        return sum(self._load) / len(self._load) / most if most else 1.0

    def counted(self) -> tuple[float, int]:
        """Return the hit rate of the prefix caches, and the preemptions."""
        seen = [self.fleet.live(number) for number in range(len(self.fleet))]
        queries = sum(one.prefix_queries for one in seen)
        hits = sum(one.prefix_hits for one in seen)
        return hits / max(1, queries), sum(one.preemptions for one in seen)

    def _plan(self, workload: Workload) -> None:
        begin = 0
        for group in workload.servers:
            joining = self._endpoints[begin : begin + group.count]
            begin += group.count
            at = seconds(group.joins)
            if at:
                self.fleet.call_at(at, partial(self._join, joining))
            else:
                self._join(joining)
        for one in workload.troubles:
            self.fleet.call_at(seconds(one.at), partial(self._befall, one))

    def _join(self, endpoints: list[Endpoint]) -> None:
        if self._listed is not None:
            for one in endpoints:
                one.note(self._listed, self.now)
        self.pool.set_endpoints([*self.pool.members, *endpoints])

    def _befall(self, trouble: Trouble) -> None:
        fleet, number = self.fleet, trouble.server
        match trouble.what:
            case "slow":
                fleet.set_pace(number, Pace(trouble.factor, trouble.factor))
            case "down":
                self._down.add(number)
                fleet.crash(number)
            case "deaf":
                self._deaf.add(number)
            case "up":
                if number in self._down:
                    self._down.discard(number)
                    fleet.restart(number)
                fleet.set_pace(number, Pace())
                self._deaf.discard(number)

    def _sample(self, endpoint: Endpoint, number: int, seen: Snapshot) -> Sample:
        state, profile = endpoint.state, self._profiles[number]
        if number in self._deaf and state.sampled_at is not None:
            seen = seen._replace(
                waiting=state.waiting, running=state.running, kv_usage=state.kv_usage
            )
        return Sample(
            seen.waiting,
            seen.running,
            seen.kv_usage,
            Adapters(self._loras, frozenset(seen.running_adapters)),
            capacity=profile.blocks * profile.block_size,
        )


def _listed(workload: Workload) -> Listed | None:
    """Return what all servers list, where there are adapters."""
    count = max((one.adapters.count for one in workload.traffic if one.adapters), default=0)
    if not count:
        return None
    adapters = (Model(id=f"adapter-{n}", parent=BASE) for n in range(count))
    return Listed((Model(id=BASE), *adapters))
