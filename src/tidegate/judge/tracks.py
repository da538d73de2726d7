"""One metric through a rollout: from buckets to units to tests.

A rate is counted as it stands. A quantile is turned into a rate: per stratum, requests beyond
the stable's recent quantile t; for the canary, beyond t times the margin. If the canary's
quantile is just at the margin, both shares are equal, whatever the shape of the distribution.
Because t follows each stratum's own past, neither the mix of prompts nor the hour matters.

Of some requests it is only known that they took longer than w (right-censored): their client
left. They are beyond the thresholds that w has reached, and of the others they say nothing.
Both arms have the same clients, so their patience is no difference between them.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tidegate.judge.block import Block, is_streamed, merge
from tidegate.judge.histogram import PER_DOUBLING, add_all, at_least, beyond, bin_of, value_at
from tidegate.judge.metrics import Metric, Quantile, Rate, Ripens, Settings
from tidegate.judge.sequential import NO_UNIT, Allowed, RobustTest, Unit
from tidegate.judge.thresholds import Thresholds

DOWN: Final = 2 * PER_DOUBLING
"""Relative bins below 1: down to a quarter."""
RELATIVE_BINS: Final = DOWN + 4 * PER_DOUBLING
"""And up to sixteen times."""


@dataclass(slots=True)
class Bucket:
    """All blocks of one start, by arm and stratum."""

    start: float
    span_s: float
    canary: dict[int, Block] = field(default_factory=dict)
    stable: dict[int, Block] = field(default_factory=dict)
    _sums: dict[tuple[bool, str], int] = field(default_factory=dict)

    def add(self, block: Block, *, canary: bool) -> None:
        """Take a block in."""
        side, stratum = self.canary if canary else self.stable, block.place.stratum
        there = side.get(stratum)
        side[stratum] = block if there is None else merge(there, block)
        self._sums.clear()

    def sum(self, name: str, *, canary: bool) -> int:
        """Return the sum of a field of one arm's blocks."""
        key = (canary, name)
        known = self._sums.get(key)
        if known is None:
            side = self.canary if canary else self.stable
            known = self._sums[key] = sum([getattr(each, name) for each in side.values()])
        return known

    def is_known(self, which: Ripens) -> bool:
        """Whether nothing of it can change any more."""
        over = "ended" if which == "end" else "begun"
        return all(self.sum("requests", canary=arm) <= self.sum(over, canary=arm) for arm in _ARMS)


_ARMS: Final = (True, False)


@dataclass(slots=True)
class _Sum:
    """Counts that are not yet a unit."""

    margin: Unit = NO_UNIT
    gross: Unit = NO_UNIT
    relative: list[int] = field(default_factory=lambda: [0] * RELATIVE_BINS)
    began: float | None = None

    def is_unit(self, end: float, least_s: float, settings: Settings) -> bool:
        """Whether it is long and full enough at `end`. Depends on numbers of requests alone."""
        if self.began is None:
            return False
        lasted = end - self.began
        fewest = min(self.margin.canary, self.margin.stable)
        return lasted >= settings.longest_unit_s or (
            lasted >= least_s and fewest >= settings.least_canary
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """What a metric made of one bucket."""

    margin: Unit
    gross: Unit
    concerned: float
    """Requests of the stable that the metric says something about, now or later."""
    relative: list[int] | None = None


class Track(ABC):
    """One metric's tests. `count` is given the buckets in order of time."""

    metric: Metric

    def __init__(self, metric: Metric, settings: Settings) -> None:
        self.metric = metric
        self._settings = settings
        self.allowed, self.allowed_gross = _allowed(metric)
        self.cumulative = RobustTest(self.allowed, settings.least_units)
        self.step_index = -1
        self.units: list[Unit] = []
        """The margin's units since the rollout began."""
        self.relatives: list[list[int]] = []
        """Beside `units`: the canary's requests by their ratio to the threshold."""
        self.step_from = 0
        """Index of the step's first unit."""
        self.requests = 0
        """Of the stable, that the metric might have concerned."""
        self.concerned = 0.0
        self.totals = NO_UNIT
        """All that was counted, also before the rollout."""
        self._begin_step(-1)

    def count(self, bucket: Bucket, step: int) -> None:
        """Take a bucket in, counted at step `step` (-1: before the first)."""
        self.requests += bucket.sum("requests", canary=False)
        if step != self.step_index:
            self._begin_step(step)
        counted = self.counts(bucket)
        self.concerned += counted.concerned
        self.totals += counted.margin
        if step < 0:
            return
        end = bucket.start + bucket.span_s
        for each in (self._slow, self._quick):
            each.margin += counted.margin
            each.gross += counted.gross
            if each.began is None:
                each.began = bucket.start
        if counted.relative is not None:
            sums = self._slow.relative
            for index, count in enumerate(counted.relative):
                sums[index] += count
        self._close(end)

    @abstractmethod
    def counts(self, bucket: Bucket) -> Counted:
        """Return what the metric makes of a bucket."""

    def is_rare(self) -> bool:
        """Whether it concerns too few requests of the stable to be waited for."""
        return self.concerned < self._settings.least_share * self.requests

    def _begin_step(self, step: int) -> None:
        if self.step_index >= 0:
            self._close(math.inf)
        self.step_index = step
        self.step_from = len(self.units)
        settings = self._settings
        self.step = RobustTest(self.allowed, settings.least_units)
        self.gross = RobustTest(self.allowed_gross, settings.least_quick_units)
        self._slow = _Sum()
        self._quick = _Sum()

    def _close(self, end: float) -> None:
        """Hand over what has become a unit by `end`."""
        settings = self._settings
        if self._quick.is_unit(end, settings.quick_unit_s, settings):
            self.gross.add(self._quick.gross)
            self._quick = _Sum()
        if self._slow.is_unit(end, settings.unit_s, settings):
            unit = self._slow.margin
            self.cumulative.add(unit)
            self.step.add(unit)
            if unit.canary and unit.stable:
                self.units.append(unit)
                self.relatives.append(self._slow.relative)
            self._slow = _Sum()


class RateTrack(Track):
    """A share of requests."""

    metric: Rate

    def __init__(self, metric: Rate, settings: Settings) -> None:
        super().__init__(metric, settings)
        self.metric = metric

    def counts(self, bucket: Bucket) -> Counted:
        """Return the requests and the bad ones of both arms."""
        among, bad = self.metric.among, self.metric.bad
        stable = bucket.sum(among, canary=False)
        unit = Unit(
            bucket.sum(among, canary=True),
            bucket.sum(bad, canary=True),
            stable,
            bucket.sum(bad, canary=False),
        )
        return Counted(unit, unit, stable)


class QuantileTrack(Track):
    """A quantile, as the share of requests beyond it."""

    metric: Quantile

    def __init__(self, metric: Quantile, settings: Settings, thresholds: Thresholds) -> None:
        self.stable_relative = [0] * RELATIVE_BINS
        """The stable's requests by their ratio to the threshold, most of them of this step."""
        super().__init__(metric, settings)
        self.metric = metric
        self._thresholds = thresholds
        self._q = 1 - metric.q if metric.less_is_worse else metric.q
        thresholds.want(self._q)
        sign = -1 if metric.less_is_worse else 1
        self._offset = sign * math.log2(1 + metric.margin) * PER_DOUBLING
        self._gross = sign * math.log2(1 + (metric.gross or metric.margin)) * PER_DOUBLING

    def _begin_step(self, step: int) -> None:
        super()._begin_step(step)
        # Another load is another shape; the old one is better than none at first.
        self.stable_relative = [count // 10 for count in self.stable_relative]

    @property
    def stable_value(self) -> float | None:
        """The stable's recent quantile over all requests; None with too few."""
        place = self._thresholds.overall(self._q)
        return None if place is None else value_at(place)

    def beyond(self, factor: float) -> float:
        """Return the share of the stable's requests that are worse than `factor` thresholds."""
        less = self.metric.less_is_worse
        where = (-1 if less else 1) * math.log2(factor) * PER_DOUBLING + DOWN
        counts = dict(enumerate(self.stable_relative))
        share = beyond(counts, where) / max(1, sum(counts.values()))
        return 1 - share if less else share

    def counts(self, bucket: Bucket) -> Counted:
        """Return requests and those beyond the thresholds."""
        relative = [0] * RELATIVE_BINS
        margin = gross = NO_UNIT
        concerned = 0
        for stratum, block in bucket.stable.items():
            values = self._values(block)
            concerned += sum(values.values())
            place = self._thresholds.place(stratum, self._q)
            if place is not None:
                unit = Unit(0, 0, *self._among(block, place))
                margin, gross = margin + unit, gross + unit
                _spread(values, place, self.stable_relative)
        for stratum, block in bucket.canary.items():
            place = self._thresholds.place(stratum, self._q)
            if place is not None:
                margin += Unit(*self._among(block, place + self._offset), 0, 0)
                gross += Unit(*self._among(block, place + self._gross), 0, 0)
                _spread(self._values(block), place, relative)
                # As if they had ended then: an estimate says how much worse it is at least.
                _spread(at_least(self._longer(block), place + self._offset), place, relative)
        return Counted(margin, gross, concerned, relative)

    def _values(self, block: Block) -> dict[int, int]:
        values: dict[int, int] = getattr(block, self.metric.histogram)
        return values

    def _longer(self, block: Block) -> dict[int, int]:
        """Return the lower bounds of the values that nobody saw."""
        if not self.metric.longer_than:
            return {}
        longer: dict[int, int] = getattr(block, self.metric.longer_than)
        waiting = block.requests - block.begun
        if waiting > 0 and is_streamed(block.place.stratum):
            # A bucket is counted with requests under way only once their deadline is past.
            longer = dict(longer)
            add_all(longer, {bin_of(self._settings.deadline_s): waiting})
        return longer

    def _among(self, block: Block, place: float) -> tuple[float, float]:
        """Return of how many it is known whether they are beyond `place`, and how many are."""
        values = self._values(block)
        count, above = sum(values.values()), beyond(values, place)
        longer = sum(at_least(self._longer(block), place).values())
        return count + longer, count - above if self.metric.less_is_worse else above + longer


def _spread(values: Mapping[int, int], place: float, into: list[int]) -> None:
    """Count `values` by their ratio to the value at `place`."""
    for index, count in values.items():
        at = math.floor(index + 0.5 - place) + DOWN
        into[min(max(at, 0), RELATIVE_BINS - 1)] += count


def _allowed(metric: Metric) -> tuple[Allowed, Allowed]:
    if isinstance(metric, Quantile):
        return Allowed(), Allowed()
    return metric.allowed, metric.gross or metric.allowed
