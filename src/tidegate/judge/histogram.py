"""Histograms of positive numbers in logarithmic bins: mergeable, bounded, cheap to fill.

A histogram is a plain `dict` from bin to count. Bins grow by 4.4 % (16 to a doubling), so a
quantile is read within that, and a share beyond a threshold is interpolated inside one bin.
Sixteen to a doubling also put margins such as 1.5 and 2 near edges. As DDSketch (Masson, Rim,
Lee 2019), without its collapsing: values are clamped to the bins of `LEAST` to `MOST`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final

PER_DOUBLING: Final = 16
LEAST: Final = 1e-5
MOST: Final = 1e7
_SCALE: Final = PER_DOUBLING / math.log(2)
FIRST_BIN: Final = math.floor(math.log(LEAST) * _SCALE)
LAST_BIN: Final = math.floor(math.log(MOST) * _SCALE)


def bin_of(value: float) -> int:
    """Return the bin of `value`; what is outside [LEAST, MOST] counts as the end's."""
    if value <= LEAST:
        return FIRST_BIN
    if value >= MOST:
        return LAST_BIN
    return math.floor(math.log(value) * _SCALE)


def place(value: float) -> float:
    """Return `value` on the scale of bins: bin b spans [b, b + 1)."""
    return math.log(value) * _SCALE


def value_at(place: float) -> float:
    """Return the value at a place on the scale of bins."""
    return math.exp(place / _SCALE)


def add_all(into: dict[int, int], more: Mapping[int, int]) -> None:
    """Add the counts of `more`."""
    for index, count in more.items():
        into[index] = into.get(index, 0) + count


def beyond(counts: Mapping[int, int], where: float) -> float:
    """Return how many values lie above the place `where`; inside its bin by proportion."""
    edge = math.floor(where)
    above = 0.0
    for index, count in counts.items():
        if index > edge:
            above += count
    return above + counts.get(edge, 0) * (edge + 1 - where)


def at_least(counts: Mapping[int, int], where: float) -> dict[int, int]:
    """Return the bins that lie at the place `where` or above it as a whole."""
    return {index: count for index, count in counts.items() if index >= where}


def quantile(counts: Mapping[int, float], q: float) -> float | None:
    """Return the place below which a share `q` of the values lies; None without values."""
    total = sum(counts.values())
    if not total:
        return None
    wanted = q * total
    for index, count in _ordered(counts):
        if wanted <= count:
            return index + wanted / count
        wanted -= count
    return float(max(counts) + 1)


def _ordered(counts: Mapping[int, float]) -> Iterable[tuple[int, float]]:
    return sorted(item for item in counts.items() if item[1] > 0)
