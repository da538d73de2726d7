"""Prefer the endpoint that runs the fewest requests."""

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.scorers.scale import least_is_best
from tidegate.picker.vectors import Vector


class RunningRequestsScorer(Plugin, frozen=True):
    """(most - running) / (most - least), of the candidates; 1 if all are equal.

    By the requests in execution as the servers last said.
    """

    def score(self, candidates: Candidates) -> Vector:
        """Score by `running`."""
        return least_is_best(candidates.pool.running[candidates.at])
