"""Prefer the endpoint that has most of the prompt cached already."""

import numpy as np

from tidegate.picker.candidates import Candidates
from tidegate.picker.prefix import PrefixSettings
from tidegate.picker.vectors import Vector


class PrefixCacheScorer(PrefixSettings, frozen=True):
    """The share of the prompt that the endpoint's prefix cache should hold.

    Nobody is asked: where prompts were sent is remembered, in blocks, for as long as a server's
    cache holds them. The parameters are those of `approx-prefix-cache-producer`.
    """

    def score(self, candidates: Candidates) -> Vector:
        """Score by `matched`."""
        prompt = candidates.request.prompt
        if not prompt:
            return np.zeros(candidates.count)
        scores: Vector = candidates.matched[candidates.at] / prompt
        return np.minimum(scores, 1.0, out=scores)
