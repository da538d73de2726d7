"""Take the best score; chance decides among equals, so that equals share the work."""

from random import Random

import numpy as np

from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector


class MaxScorePicker(Plugin, frozen=True):
    """Takes the best score, one of the equals at random."""

    max_num_of_endpoints: int = 1
    """Accepted and not needed: the fallbacks are always all candidates, best first."""

    def pick(self, totals: Vector, rng: Random) -> int:
        """Return the index of a best score."""
        best = int(totals.argmax())
        equal = totals == totals[best]
        count = int(np.count_nonzero(equal))
        return best if count == 1 else int(np.flatnonzero(equal)[int(rng.random() * count)])
