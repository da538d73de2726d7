"""Take the best score; chance decides among equals, so that equals share the work."""

from collections.abc import Sequence
from random import Random

import msgspec

from tidegate.picker.plugins import Endpoint


class MaxScorePicker(msgspec.Struct, frozen=True):
    """`max-score-picker`: orders all candidates by score, best first, equals at random."""

    def pick(
        self,
        scores: Sequence[float],
        endpoints: Sequence[Endpoint],
        rng: Random,
    ) -> Sequence[int]:
        """Return all indexes, best score first."""
        draw = rng.random
        keyed = [(-score, draw(), index) for index, score in enumerate(scores)]
        keyed.sort()
        return [index for _, _, index in keyed]
