"""Where blocks become observations: the state of judging one rollout.

A ledger takes blocks in any order, and counts a bucket (all blocks of one start) once it is
ripe: everything that began in it is over, or its deadline is past. Counting is in order of
time, so that the stable's quantiles, to which both arms are held, come from the past alone.
Counts of buckets are summed to units, and each unit goes into three tests of its metric: the
margin since the rollout began, the margin at this step, and the gross margin at this step.

A ledger holds no time of its own: the same blocks and steps give the same evidence, however
often `advance` was called.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tidegate.judge.block import Block
from tidegate.judge.metrics import Metric, Quantile, Ripens, Settings
from tidegate.judge.pairs import Pairs
from tidegate.judge.thresholds import Thresholds
from tidegate.judge.tracks import Bucket, QuantileTrack, RateTrack, Track
from tidegate.judge.tripwire import Tripwire

SETTLE_S: Final = 3.0
"""After its end a bucket waits so long for the workers to ship what they have."""

Claim = Literal["gross", "margin", "watch", "pairs"]
"""What a step has to show: nothing gross; the margins themselves; where the stable has no
traffic to compare with, no catastrophe; or, in a shadow, that pairs are good."""


def claim_of(weight: int, later: Iterable[int]) -> Claim:
    """Return what a step at `weight` percent has to show, given the weights after it."""
    if weight >= 100:
        return "watch"
    return "gross" if any(weight < each < 100 for each in later) else "margin"


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of the rollout at one weight."""

    at: float
    """When it began, in seconds since the epoch."""
    weight: int
    """The canary's, in percent."""
    claim: Claim = "margin"


@dataclass(slots=True)
class Ledger:
    """All that is known of one rollout's two arms."""

    settings: Settings
    stable: str
    """The arm's name in blocks."""
    canary: str
    scope: str = ""
    """Only blocks of this scope count; '' takes all."""
    steps: list[Step] = field(default_factory=list)
    tracks: tuple[Track, ...] = ()
    tripwire: Tripwire = field(init=False)
    pairs: Pairs = field(default_factory=Pairs)
    """Of the whole rollout."""
    latest: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Values from outside as they were last: the canary's, and what it is held against."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Why there is no value, by metric."""
    late: int = 0
    """Blocks that came after their bucket was counted."""
    _buckets: dict[float, Bucket] = field(default_factory=dict)
    _counted: dict[Ripens, float] = field(default_factory=lambda: {"first": -1.0, "end": -1.0})
    """Start of the last bucket that was counted."""
    _seen: tuple[int, int] = (-1, 0)
    """The step of that bucket, and the canary's requests counted in it."""

    _thresholds: dict[Ripens, dict[str, Thresholds]] = field(
        default_factory=lambda: {"first": {}, "end": {}}
    )
    """By histogram."""

    def __post_init__(self) -> None:
        self.tracks = tuple(self._track(metric) for metric in self.settings.metrics)
        self.tripwire = Tripwire(self._learned("first", "ttft"))

    def _track(self, metric: Metric) -> Track:
        if not isinstance(metric, Quantile):
            return RateTrack(metric, self.settings)
        thresholds = self._learned(metric.ripens, metric.histogram)
        return QuantileTrack(metric, self.settings, thresholds)

    def _learned(self, which: Ripens, histogram: str) -> Thresholds:
        """Return the thresholds of a histogram, which all metrics of it share."""
        known = self._thresholds[which]
        if histogram not in known:
            known[histogram] = Thresholds(histogram, self.settings.threshold_memory_s)
        return known[histogram]

    def enter(self, step: Step) -> None:
        """Note that a step began; steps come in order of time."""
        self.steps.append(step)

    def absorb(self, blocks: Iterable[Block]) -> None:
        """Take blocks in, those of other arms and scopes left aside."""
        for block in blocks:
            place = block.place
            if place.arm not in (self.stable, self.canary):
                continue
            if self.scope and place.scope != self.scope:
                continue
            bucket = self._bucket(block)
            if bucket is None:
                self.late += 1
                continue
            bucket.add(block, canary=place.arm == self.canary)

    def advance(self, now: float) -> None:
        """Count what is ripe at `now` (seconds since the epoch)."""
        starts = sorted(self._buckets)
        self._ripen("first", starts, now)
        self._ripen("end", starts, now)
        for start in starts:
            if start > min(self._counted.values()):
                break
            del self._buckets[start]
        if self.settings.tripwires:
            fresh = [self._buckets[start] for start in starts if start > self._counted["first"]]
            self.tripwire.watch(each for each in fresh if self._step_at(each.start) >= 0)

    @property
    def seen_in_step(self) -> int:
        """Requests of the canary in buckets of the current step, ripe or not."""
        if not self.steps:
            return 0
        waiting = [
            each
            for start, each in self._buckets.items()
            if start >= self.steps[-1].at and start > self._counted["first"]
        ]
        fresh = sum(each.sum("requests", canary=True) for each in waiting)
        return self._seen[1] + fresh if self._seen[0] == len(self.steps) - 1 else fresh

    @property
    def current(self) -> Step | None:
        """The step that it is at."""
        return self.steps[-1] if self.steps else None

    def _bucket(self, block: Block) -> Bucket | None:
        """Return the bucket that a block belongs to; None if that was counted."""
        span_s = max(block.span_s, self.settings.quick_unit_s)
        start = block.place.start // span_s * span_s
        step = self._step_at(block.place.start)
        if step >= 0:
            start = max(start, self.steps[step].at)
        if start <= self._counted["end"]:
            return None
        bucket = self._buckets.get(start)
        if bucket is None:
            bucket = self._buckets[start] = Bucket(start, span_s)
        return bucket

    def _ripen(self, which: Ripens, starts: list[float], now: float) -> None:
        for start in starts:
            if start <= self._counted[which]:
                continue
            bucket = self._buckets[start]
            if not self._is_ripe(bucket, which, now):
                break
            self._count(bucket, which)
            self._counted[which] = start

    def _is_ripe(self, bucket: Bucket, which: Ripens, now: float) -> bool:
        age = now - bucket.start - bucket.span_s - SETTLE_S
        limit = self.settings.deadline_s if which == "first" else self.settings.finish_s
        return age >= limit or (age >= 0 and bucket.is_known(which))

    def _count(self, bucket: Bucket, which: Ripens) -> None:
        step = self._step_at(bucket.start)
        for track in self.tracks:
            if track.metric.ripens == which:
                track.count(bucket, step)
        for each in self._thresholds[which].values():
            each.learn(bucket.stable, bucket.start + bucket.span_s, bucket.span_s)
        if which == "first" and step >= 0:
            if self.settings.tripwires:
                self.tripwire.pass_by(bucket)
            seen = bucket.sum("requests", canary=True)
            self._seen = (step, seen + (self._seen[1] if self._seen[0] == step else 0))

    def _step_at(self, start: float) -> int:
        """Return the index of the step that a bucket is of; -1 before the first."""
        return bisect_right(self.steps, start, key=lambda step: step.at) - 1
