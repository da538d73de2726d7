"""What the data plane counted during a rollout, over time: the lines of its report.

Blocks come as the controller kept them. They are put together to so many spans as a chart has
room for; a span without requests of an arm has no point.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidegate.judge.block import Block
from tidegate.judge.histogram import add_all, quantile, value_at

SPANS: Final = 40
"""Points of a line, at most about so many."""
FEW: Final = 5
"""Answers without which a quantile says nothing."""

Points = list[tuple[float, float]]


@dataclass(slots=True)
class Span:
    """What one arm did in a stretch of time."""

    requests: int = 0
    bad: int = 0
    """Failed, at whatever time; refused as wrong (4xx) too."""
    ttft: dict[int, int] = field(default_factory=dict)
    itl: dict[int, int] = field(default_factory=dict)

    def add(self, block: Block) -> None:
        """Add a block."""
        self.requests += block.requests
        self.bad += block.bad + block.client_errors
        add_all(self.ttft, block.ttft)
        add_all(self.itl, block.itl)


@dataclass(frozen=True, slots=True)
class Series:
    """Both arms' spans, by their middle in seconds from the rollout's beginning."""

    span_s: float
    stable: dict[float, Span]
    canary: dict[float, Span]

    @property
    def times(self) -> list[float]:
        """The middles of all spans, in order."""
        return sorted({*self.stable, *self.canary})

    def shares(self) -> Points:
        """Return what part of the requests the canary had, in percent."""
        points: Points = []
        for at in self.times:
            ours, theirs = (
                arm[at].requests if at in arm else 0 for arm in (self.canary, self.stable)
            )
            if ours + theirs:
                points.append((at, 100 * ours / (ours + theirs)))
        return points

    @staticmethod
    def quantiles(arm: dict[float, Span], of: Callable[[Span], dict[int, int]], q: float) -> Points:
        """Return a quantile of an arm's times, in milliseconds."""
        points: Points = []
        for at, span in sorted(arm.items()):
            counts = of(span)
            place = quantile(counts, q) if sum(counts.values()) >= FEW else None
            if place is not None:
                points.append((at, 1000 * value_at(place)))
        return points

    def failures(self, arm: dict[float, Span]) -> list[float]:
        """Return an arm's failed requests, for each of `times`."""
        return [float(arm[at].bad) if at in arm else 0.0 for at in self.times]

    @property
    def failed(self) -> int:
        """All failed requests."""
        return sum(span.bad for arm in (self.stable, self.canary) for span in arm.values())


def series(
    blocks: Iterable[Block], *, stable: str, canary: str, begin: float, span_s: float
) -> Series:
    """Return what both arms did.

    Args:
        blocks: Of the rollout's scope.
        stable: The arm's name.
        canary: Likewise.
        begin: When the rollout began, in seconds since the epoch.
        span_s: How long it has lasted.

    """
    found = [each for each in blocks if 0 <= each.place.start - begin < span_s]
    width = _width(found, span_s)
    arms: dict[str, defaultdict[float, Span]] = {
        stable: defaultdict(Span),
        canary: defaultdict(Span),
    }
    for block in found:
        if block.place.arm in arms:
            middle = (math.floor((block.place.start - begin) / width) + 0.5) * width
            arms[block.place.arm][min(middle, span_s)].add(block)
    return Series(width, dict(arms[stable]), dict(arms[canary]))


def _width(blocks: Sequence[Block], span_s: float) -> float:
    """Return how long spans are: whole blocks, and not more spans than can be seen."""
    shortest = max((block.span_s for block in blocks), default=1.0)
    return max(1.0, math.ceil(span_s / SPANS / shortest)) * shortest
