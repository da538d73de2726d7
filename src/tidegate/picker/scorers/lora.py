"""Prefer the endpoint that has the adapter in its accelerator's memory.

By residency, not by activity: an adapter without requests is as resident as a busy one, and a
server that runs as many others as fit must throw one out first.
"""

import numpy as np

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector

RESIDENT = 1.0
FITS = 0.8
CROWDED = 0.4


class LoraAffinityScorer(Plugin, frozen=True):
    """1 where the adapter is resident, 0.8 where it fits, 0.4 where another must go, else 0.

    Resident: in the accelerator's memory, by the server's metrics; where it has none, by the
    last requests that were sent. The other two need the adapter in `/v1/models`.
    """

    def score(self, candidates: Candidates) -> Vector:
        """Score by residency."""
        model, at = candidates.request.model, candidates.at
        residency = candidates.pool.residency
        listed = residency.listed(model) if model is not None else None
        if model is None or listed is None:
            return np.zeros(candidates.count)
        scores = np.where(residency.room[at], FITS, CROWDED)
        warm = residency.warm(model)
        if warm is not None:
            scores[warm[at]] = RESIDENT
        scores[~listed[at]] = 0.0
        return scores
