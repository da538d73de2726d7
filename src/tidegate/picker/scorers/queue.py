"""Prefer the endpoint where the fewest requests wait."""

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.scorers.scale import least_is_best
from tidegate.picker.vectors import Vector


class QueueScorer(Plugin, frozen=True):
    """(most - waiting) / (most - least), of the candidates; 1 if all are equal.

    By the requests that wait as the servers last said. One against none is as far apart as
    forty against none: `least-load-scorer` has an absolute scale.
    """

    def score(self, candidates: Candidates) -> Vector:
        """Score by `waiting`."""
        return least_is_best(candidates.pool.waiting[candidates.at])
