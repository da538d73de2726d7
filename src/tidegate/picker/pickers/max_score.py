"""Take the best score; chance decides among equals, so that equals share the work."""

from random import Random
from typing import Final

import numpy as np

from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector

FEW: Final = 16
"""Totals up to which vectors cost more than they save."""


class MaxScorePicker(Plugin, frozen=True):
    """Takes the best score, one of the equals at random."""

    max_num_of_endpoints: int = 1
    """Accepted and not needed: the fallbacks are always all candidates, best first."""

    def pick(self, totals: Vector, rng: Random) -> int:
        """Return the index of a best score."""
        if len(totals) <= FEW:
            return _among_few(totals.tolist(), rng)
        best = int(totals.argmax())
        equal = totals == totals[best]
        count = int(np.count_nonzero(equal))
        return best if count == 1 else int(np.flatnonzero(equal)[int(rng.random() * count)])


def _among_few(totals: list[float], rng: Random) -> int:
    best = max(totals)
    count = totals.count(best)
    index = totals.index(best)
    for _ in range(int(rng.random() * count) if count > 1 else 0):
        index = totals.index(best, index + 1)
    return index
