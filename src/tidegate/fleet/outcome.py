"""What a run came to: latencies, goodput, hit rate, balance; by kind of traffic too."""

from array import array
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from tidegate.fleet.workload import Workload, seconds
from tidegate.load.report import Percentiles, percentiles

SLICES: Final = 60
"""Points of a plot over time."""

Ending = Literal["done", "refused", "lost", "unfinished"]
"""refused: flow control had no place for it. lost: its servers died. unfinished: it still ran
when the run was over."""


class Kind(Struct, frozen=True, kw_only=True):
    """What became of one kind of traffic, or of all. Durations in seconds."""

    requests: int
    done: int
    refused: int
    lost: int
    unfinished: int
    good: float
    """The share that met the objective, of all; who was refused didn't. 0..1."""
    good_per_s: float
    ttft: Percentiles
    """From its arrival at the gateway, so the time in queues is in it."""
    itl: Percentiles
    """Of requests' means between tokens."""


class Report(Struct, frozen=True, kw_only=True):
    """What one contestant made of a workload."""

    name: str
    kinds: dict[str, Kind]
    all: Kind
    hit_rate: float
    """Of all prompts' tokens, those that were in the caches. 0..1."""
    balance: float
    """Mean over servers of the requests under way, over that of the busiest: 1 is even."""
    preemptions: int
    duration_s: float
    """Virtual."""
    times: Sequence[float]
    """Of the points below: seconds since the beginning."""
    ttft_p95: Sequence[float]
    """Of the requests that came in each slice of time."""
    good: Sequence[float]
    """The share that met the objective, of those."""


class _Column:
    """Requests of one kind, one row each."""

    __slots__ = ("endings", "good", "itls", "ttfts")

    def __init__(self) -> None:
        self.ttfts = array("d")
        self.itls = array("d")
        self.good = 0
        self.endings: dict[Ending, int] = dict.fromkeys(
            ("done", "refused", "lost", "unfinished"), 0
        )


class Tally:
    """Counts the requests of a workload as they end."""

    def __init__(self, workload: Workload) -> None:
        self._names = [one.name for one in workload.traffic]
        self._ttft_s = seconds(workload.objective.ttft)
        self._itl_s = seconds(workload.objective.itl)
        self._begin = seconds(workload.warmup)
        self._span = max(1e-9, seconds(workload.duration) - self._begin)
        self._kinds = [_Column() for _ in self._names]
        self._slices: list[array[float]] = [array("d") for _ in range(SLICES)]
        self._good = [0] * SLICES
        self._count = [0] * SLICES

    def add(
        self, kind: int, arrived_at: float, ending: Ending, ttft: float | None, itl: float | None
    ) -> None:
        """Count one request."""
        if arrived_at < self._begin:
            return
        column = self._kinds[kind]
        column.endings[ending] += 1
        place = min(SLICES - 1, int((arrived_at - self._begin) / self._span * SLICES))
        self._count[place] += 1
        if ttft is not None:
            column.ttfts.append(ttft)
            self._slices[place].append(ttft)
        if itl is not None:
            column.itls.append(itl)
        fast = ttft is not None and ttft <= self._ttft_s and (itl is None or itl <= self._itl_s)
        if ending == "done" and fast:
            column.good += 1
            self._good[place] += 1

    def report(
        self, name: str, *, hit_rate: float, balance: float, preemptions: int, duration_s: float
    ) -> Report:
        """Return the whole."""
        step = self._span / SLICES
        return Report(
            name=name,
            kinds={one: self._kind([n]) for n, one in enumerate(self._names)},
            all=self._kind(range(len(self._names))),
            hit_rate=hit_rate,
            balance=balance,
            preemptions=preemptions,
            duration_s=duration_s,
            times=[self._begin + step * (n + 0.5) for n in range(SLICES)],
            ttft_p95=[percentiles(one).p95 for one in self._slices],
            good=[g / c if c else 1.0 for g, c in zip(self._good, self._count, strict=True)],
        )

    def _kind(self, which: Sequence[int]) -> Kind:
        columns = [self._kinds[n] for n in which]
        endings = {
            ending: sum(one.endings[ending] for one in columns)
            for ending in ("done", "refused", "lost", "unfinished")
        }
        total, good = sum(endings.values()), sum(one.good for one in columns)
        return Kind(
            requests=total,
            done=endings["done"],
            refused=endings["refused"],
            lost=endings["lost"],
            unfinished=endings["unfinished"],
            good=good / max(1, total),
            good_per_s=good / self._span,
            ttft=percentiles(value for one in columns for value in one.ttfts),
            itl=percentiles(value for one in columns for value in one.itls),
        )
