"""Take the best score; chance decides among equals, so that equals share the work."""

from collections.abc import Sequence
from random import Random

import msgspec

from tidegate.picker.plugins import Endpoint


class MaxScorePicker(msgspec.Struct, frozen=True):
    """`max-score-picker`: takes the best score, one of the equals at random."""

    def pick(self, scores: Sequence[float], endpoints: Sequence[Endpoint], rng: Random) -> int:
        """Return the index of a best score."""
        best = max(scores)
        if scores.count(best) == 1:
            return scores.index(best)
        equal = [index for index, score in enumerate(scores) if score == best]
        return equal[int(rng.random() * len(equal))]
