"""Pickers that draw: at random, by the scores' weight, or the better of two."""

from random import Random

from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector


class RandomPicker(Plugin, frozen=True):
    """Takes any candidate, whatever its score."""

    max_num_of_endpoints: int = 1
    """Accepted and not needed: the fallbacks are always all candidates, best first."""

    def pick(self, totals: Vector, rng: Random) -> int:
        """Return any index."""
        return int(rng.random() * len(totals))


class WeightedRandomPicker(Plugin, frozen=True):
    """Takes a candidate with a probability in proportion to its score."""

    max_num_of_endpoints: int = 1
    """Accepted and not needed: the fallbacks are always all candidates, best first."""

    def pick(self, totals: Vector, rng: Random) -> int:
        """Return an index, drawn by the scores."""
        sums = totals.cumsum()
        whole = float(sums[-1])
        if whole <= 0.0:
            return int(rng.random() * len(totals))
        place = int(sums.searchsorted(rng.random() * whole, side="right"))
        return min(place, len(totals) - 1)


class PowerOfTwoPicker(Plugin, frozen=True):
    """Draws two candidates and takes the better one.

    Nearly as even as the best of all, and never a rush: however old the numbers are, no endpoint
    gets more than a fair share of the draws (Mitzenmacher, 2001).
    """

    def pick(self, totals: Vector, rng: Random) -> int:
        """Return the better of two indexes."""
        count = len(totals)
        one = int(rng.random() * count)
        if count == 1:
            return one
        other = (one + 1 + int(rng.random() * (count - 1))) % count
        return other if totals[other] > totals[one] else one
