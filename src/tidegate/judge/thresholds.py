"""The stable's recent quantiles, stratum by stratum: what both arms are held to.

They come from the past alone, so what a bucket holds never moves its own threshold. Older
values count less (half-life `memory_s`), so thresholds follow the hour.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final

from tidegate.judge.block import Block
from tidegate.judge.histogram import quantile

ENOUGH: Final = 50
"""Requests of the stable from which a stratum has a quantile of its own."""
_ALL: Final = -1
_READS: Final = 10
"""How often quantiles are read anew in one half-life."""
_MOST_GAIN: Final = 1e9


class _Recent:
    """One stratum's values."""

    __slots__ = ("counts", "places", "read_at", "total")

    def __init__(self) -> None:
        self.counts: dict[int, float] = {}
        self.total = 0.0
        self.read_at = -math.inf
        self.places: dict[float, float] = {}


class Thresholds:
    """Quantiles of one histogram."""

    def __init__(self, histogram: str, memory_s: float) -> None:
        self.histogram = histogram
        self._memory_s = memory_s
        self._strata: dict[int, _Recent] = {_ALL: _Recent()}
        self._quantiles: set[float] = set()
        # New values weigh more instead of old ones less: then old ones needn't be touched.
        self._gain = 1.0

    def want(self, q: float) -> None:
        """Have `place` know the quantile `q` from now on."""
        self._quantiles.add(q)

    def place(self, stratum: int, q: float) -> float | None:
        """Return the place of a stratum's quantile; of all requests' where it has too few."""
        own = self._strata.get(stratum)
        if own is not None and own.places:
            return own.places[q]
        return self.overall(q)

    def overall(self, q: float) -> float | None:
        """Return the place of all requests' quantile; None with too few."""
        return self._strata[_ALL].places.get(q)

    def learn(self, blocks: Mapping[int, Block], end: float, span_s: float) -> None:
        """Take the stable's blocks of a bucket in, which lasted `span_s` and ended at `end`."""
        self._gain *= 2 ** (span_s / self._memory_s)
        if self._gain > _MOST_GAIN:
            self._rescale()
        for stratum, block in blocks.items():
            values: dict[int, int] = getattr(block, self.histogram)
            if values:
                self._add(self._strata.setdefault(stratum, _Recent()), values.items(), end)
                self._add(self._strata[_ALL], values.items(), end)

    def _add(self, recent: _Recent, values: Iterable[tuple[int, int]], end: float) -> None:
        gain, counts, total = self._gain, recent.counts, 0
        for index, count in values:
            counts[index] = counts.get(index, 0.0) + count * gain
            total += count
        recent.total += total * gain
        enough = recent.total >= ENOUGH * gain
        if enough and end - recent.read_at >= self._memory_s / _READS:
            recent.read_at = end
            for q in self._quantiles:
                place = quantile(counts, q)
                if place is not None:
                    recent.places[q] = place

    def _rescale(self) -> None:
        for recent in self._strata.values():
            scaled = ((index, count / self._gain) for index, count in recent.counts.items())
            recent.counts = {index: count for index, count in scaled if count > 1e-6}
            recent.total /= self._gain
        self._gain = 1.0
