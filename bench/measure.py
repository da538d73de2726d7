"""Rounds: every variant is measured once in each, in an order that turns from round to round.

What is compared was measured within seconds of each other; ratios are taken within a round, so
that a neighbour on the machine who makes one round slow makes it slow for all.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bench.processes import Cpus, pinned, python
from bench.setup import Running, Variant

WARM_UP_S: Final = 0.5
TRIES: Final = 3
LOST: Final = 0.001
"""Share of answers that may fail; more makes the numbers worthless."""


T = TypeVar("T")


class WorthlessError(Exception):
    """Too many requests failed for the numbers to say anything."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much."""

    rounds: int = 5
    seconds: float = 3.0
    connections: int = 64
    rate: float = 200.0
    """Requests a second of the open loop, directly and to the gateway each."""
    streams: int = 256
    events: int = 200
    """Per stream."""
    pace_ms: int = 20
    """Between two events of a stream."""


@dataclass(slots=True)
class Series:
    """One variant's measures, one of each a round. CPU is None where no gateway runs."""

    cpu_us_per_request: list[float | None] = field(default_factory=list)
    requests_per_s: list[float | None] = field(default_factory=list)
    added_p50_us: list[float | None] = field(default_factory=list)
    added_p99_us: list[float | None] = field(default_factory=list)
    cpu_us_per_sse_event: list[float | None] = field(default_factory=list)
    idle_cpu_ms_per_s: list[float | None] = field(default_factory=list)
    rss_mb: list[float | None] = field(default_factory=list)


Entry = tuple[Variant, Running]
Say = Callable[[str], None]


class Bench:
    """What is running, and what was measured so far."""

    def __init__(self, plan: Plan, cpus: Cpus, direct: int, say: Say) -> None:
        """Prepare; `direct` is the backend's port."""
        self._plan = plan
        self._cpus = cpus
        self._direct = direct
        self._say = say
        self.series: dict[str, Series] = {}

    def run(self, entries: Sequence[Entry]) -> None:
        """Measure all rounds."""
        self.series = {"direct": Series()} | {variant.name: Series() for variant, _ in entries}
        for number in range(self._plan.rounds):
            self._say(f"round {number + 1} of {self._plan.rounds}")
            self._measure_idle(entries)
            self._measure_direct()
            turn = number * max(1, len(entries) // self._plan.rounds) % len(entries)
            for variant, running in [*entries[turn:], *entries[:turn]]:
                self._measure(variant, running)

    def cpu_per_request(self, running: Running, *, models: int = 1) -> float:
        """Return CPU µs of the gateway's processes per request, with all connections busy."""
        return self._closed(running, models)[0]

    def _measure_idle(self, entries: Sequence[Entry]) -> None:
        """Measure what the gateways do while nobody asks them, all at once."""
        before = [running.process.cpu_s() for _, running in entries]
        time.sleep(self._plan.seconds)
        for (variant, running), cpu in zip(entries, before, strict=True):
            spent = (running.process.cpu_s() - cpu) / self._plan.seconds
            self.series[variant.name].idle_cpu_ms_per_s.append(spent * 1e3)

    def _measure_direct(self) -> None:
        plan, series = self._plan, self.series["direct"]
        told = self._client("closed", self._direct, **_closed(plan, plan.seconds))
        series.requests_per_s.append(told["answers"] / told["seconds"])
        self._say(f"  {'direct':28}{series.requests_per_s[-1]:>8.0f}/s")

    def _measure(self, variant: Variant, running: Running) -> None:
        series = self.series[variant.name]
        cpu, rate = self._again(lambda: self._closed(running, models=1))
        event = self._again(lambda: self._stream(running))
        p50, p99 = self._again(lambda: self._added(running))
        series.cpu_us_per_request.append(cpu)
        series.requests_per_s.append(rate)
        series.cpu_us_per_sse_event.append(event)
        series.added_p50_us.append(p50)
        series.added_p99_us.append(p99)
        series.rss_mb.append(running.process.rss() / 2**20)
        self._say(
            f"  {variant.name:28}{rate:>8.0f}/s {cpu:>7.1f} µs/request {event:>6.1f} µs/event"
            f"  +{p50:.0f} µs"
        )

    def _again(self, measure: Callable[[], T]) -> T:
        """Measure; anew where the machine was too busy with others for that to be worth much."""
        for _ in range(TRIES - 1):
            try:
                return measure()
            except WorthlessError as err:
                self._say(f"  again: {err}")
        return measure()

    def _closed(self, running: Running, models: int) -> tuple[float, float]:
        plan = self._plan
        self._client("closed", running.port, models=models, **_closed(plan, WARM_UP_S))
        before = running.process.cpu_s()
        told = self._client("closed", running.port, models=models, **_closed(plan, plan.seconds))
        spent = running.process.cpu_s() - before
        return spent / told["answers"] * 1e6, told["answers"] / told["seconds"]

    def _stream(self, running: Running) -> float:
        plan = self._plan
        flags = {"connections": plan.streams, "events": plan.events}
        self._client("stream", running.port, pace_ms=1, **flags | {"events": 2})
        before = running.process.cpu_s()
        told = self._client("stream", running.port, pace_ms=plan.pace_ms, **flags)
        return (running.process.cpu_s() - before) / told["events"] * 1e6

    def _added(self, running: Running) -> tuple[float, float]:
        plan = self._plan
        flags = {"rate": plan.rate, "seconds": plan.seconds, "connections": self._plan.connections}
        told = self._client("open", self._direct, running.port, **flags)
        direct, through = told["targets"]
        return through["p50_us"] - direct["p50_us"], through["p99_us"] - direct["p99_us"]

    def _client(self, mode: str, *ports: int, **flags: float) -> dict[str, Any]:
        options = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        command = python("-m", "bench.client", mode, *map(str, ports), *options)
        with pinned(self._cpus.rest):
            told = json.loads(subprocess.check_output([str(part) for part in command]))
        for each in told.get("targets", [told]):
            if sum(each["errors"].values()) > LOST * each["answers"]:
                raise WorthlessError(f"{mode} to port {ports[-1]}: {each['errors']}")
        return told


def _closed(plan: Plan, seconds: float) -> dict[str, float]:
    return {"connections": plan.connections, "seconds": seconds}
