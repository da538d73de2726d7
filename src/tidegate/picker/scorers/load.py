"""Prefer the endpoint with the fewest requests, waiting and running.

The scale is absolute: a load means the same score whoever else stands for choice, so one
request against none stays a small difference beside other scorers. It never saturates:
the less loaded of two overloaded endpoints still wins.
"""

from typing import Annotated

from msgspec import Meta

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector


class LeastLoadScorer(Plugin, frozen=True):
    """`halfAt` / (`halfAt` + requests at the endpoint now).

    Requests waiting and running: all workers' own, and what the server says of others'.
    """

    half_at: Annotated[float, Meta(gt=0)] = 8.0
    """Load at which the score is a half; about what one accelerator batches without pain."""

    def score(self, candidates: Candidates) -> Vector:
        """Return a score in (0, 1] per endpoint, falling with its load."""
        half = self.half_at
        scores: Vector = half / (candidates.pool.load[candidates.at] + half)
        return scores
