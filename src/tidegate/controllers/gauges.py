"""What pools do now, by their servers' own numbers: load, throughput, prefix hits.

Asked only of the pools of rollouts that are under way, once a second. Everything is a mean
over some seconds: a single look at a queue says nothing of a pool's capacity.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tidegate.api.errors import UnavailableError
from tidegate.controllers.loop import pause
from tidegate.rollout.capacity import Load
from tidegate.scrape.engines import Engine, Totals, engine_named, read_sample, read_totals
from tidegate.scrape.http import Client

PERIOD_S: Final = 1.0
TIMEOUT_S: Final = 1.0
WINDOW_S: Final = 10.0
"""What load and throughput are means of."""
QUEUE_SAMPLES: Final = 4
"""A queue in fewer samples in a row is requests that wait for the engine's next step."""
HITS_S: Final = 30.0
"""What hit rates are means of."""
BUSY: Final = 0.8
"""From this usage on, a server does about all that it can."""
UNASKED_S: Final = 10.0
"""An endpoint that nobody asks for is left alone after this."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    waiting: int
    running: int
    usage: float
    totals: Totals


@dataclass(slots=True)
class _Gauge:
    """One endpoint."""

    engine: Engine
    client: Client
    wanted_at: float
    samples: deque[_Sample] = field(default_factory=deque)
    slots: int = 0
    """The most requests that ran while others waited for long: then all slots were taken."""
    best: float = 0.0
    """The most tokens per second while it was nearly full: else it could have done more."""

    def take(self, sample: _Sample) -> None:
        """Add a sample; a counter that fell belongs to another process."""
        last = self.samples[-1].totals if self.samples else None
        if last is not None and (sample.totals.tokens or 0.0) < (last.tokens or 0.0):
            self.samples.clear()
            self.slots, self.best = 0, 0.0
        self.samples.append(sample)
        while self.samples[0].at < sample.at - HITS_S:
            self.samples.popleft()
        recent = self.recent()
        if len(recent) >= QUEUE_SAMPLES and all(each.waiting for each in recent[-QUEUE_SAMPLES:]):
            self.slots = max(self.slots, sample.running)
        rate = self.tokens_per_s()
        if rate is not None and self.usage() >= BUSY:
            self.best = max(self.best, rate)

    def recent(self) -> list[_Sample]:
        """Return the samples of the window."""
        edge = self.samples[-1].at - WINDOW_S if self.samples else 0.0
        return [each for each in self.samples if each.at >= edge]

    def waiting(self) -> float:
        """Return how many requests wait, on average."""
        samples = self.recent()
        return sum(each.waiting for each in samples) / len(samples) if samples else 0.0

    def usage(self) -> float:
        """Return how full it is, 0..1, on average."""
        samples = self.recent()
        if not samples:
            return 0.0
        slots = self.slots
        filled = [max(s.usage, s.running / slots if slots else 0.0) for s in samples]
        return min(1.0, sum(filled) / len(filled))

    def tokens_per_s(self) -> float | None:
        """Return its throughput; None without two samples."""
        samples = self.recent()
        first, last = (samples[0], samples[-1]) if samples else (None, None)
        if first is None or last is None or last.at - first.at < WINDOW_S / 4:
            return None
        if first.totals.tokens is None or last.totals.tokens is None:
            return None
        return (last.totals.tokens - first.totals.tokens) / (last.at - first.at)

    def looked_up(self) -> tuple[float, float]:
        """Return how many prompt tokens were found in the cache, of how many."""
        if len(self.samples) < 2:
            return 0.0, 0.0
        first, last = self.samples[0].totals, self.samples[-1].totals
        found = (last.found or 0.0) - (first.found or 0.0)
        return found, (last.looked_up or 0.0) - (first.looked_up or 0.0)


class Gauges:
    """The endpoints that somebody asks for."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Make it; `now` gives seconds since the epoch."""
        self._now = now
        self._gauges: dict[str, _Gauge] = {}

    def load(self, engines: Mapping[str, str]) -> Load | None:
        """Return a pool's load by its ready endpoints (address → engine); None if unknown."""
        gauges = self._want(engines)
        rates = [each.tokens_per_s() for each in gauges]
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(gauges):
            return None
        return Load(
            ready=len(gauges),
            tokens_per_s=sum(known),
            usage=sum(each.usage() for each in gauges) / len(gauges) if gauges else 0.0,
            waiting=round(sum(each.waiting() for each in gauges)),
            best_tokens_per_s=max((each.best for each in gauges), default=0.0),
        )

    def hit_rate(self, engines: Mapping[str, str]) -> float | None:
        """Return a pool's prefix hit rate, 0..1; None if it looked nothing up."""
        pairs = [each.looked_up() for each in self._want(engines)]
        looked_up = sum(total for _, total in pairs)
        return sum(found for found, _ in pairs) / looked_up if looked_up > 0 else None

    def _want(self, engines: Mapping[str, str]) -> list[_Gauge]:
        now = self._now()
        for address, engine in engines.items():
            gauge = self._gauges.get(address)
            if gauge is None:
                gauge = _Gauge(engine_named(engine), Client(address), now)
                self._gauges[address] = gauge
            gauge.wanted_at = now
        return [self._gauges[address] for address in engines]

    async def run(self) -> None:
        """Ask again and again, until cancelled."""
        never = asyncio.Event()
        try:
            while True:
                self._drop()
                await asyncio.gather(*(self._ask(each) for each in self._gauges.values()))
                await pause(PERIOD_S, never)
        finally:
            for gauge in self._gauges.values():
                gauge.client.close()
            self._gauges.clear()

    def _drop(self) -> None:
        edge = self._now() - UNASKED_S
        for address, gauge in list(self._gauges.items()):
            if gauge.wanted_at < edge:
                gauge.client.close()
                del self._gauges[address]

    async def _ask(self, gauge: _Gauge) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await gauge.client.get(gauge.engine.path)
        except (TimeoutError, UnavailableError):
            return
        sample = read_sample(answer.body, gauge.engine) if answer.status == 200 else None
        if sample is not None:
            totals = read_totals(answer.body, gauge.engine)
            gauge.take(
                _Sample(self._now(), sample.waiting, sample.running, sample.kv_usage, totals)
            )
