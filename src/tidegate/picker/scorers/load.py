"""Prefer the endpoint with the fewest requests, waiting and running.

The scale is absolute: a load means the same score whoever else stands for choice, so one
request against none stays a small difference beside other scorers. It never saturates:
the less loaded of two overloaded endpoints still wins.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from tidegate.picker.plugins import Endpoint, Request


class LeastLoadScorer(msgspec.Struct, frozen=True):
    """`least-load-scorer`: half / (half + load), with `state.load` of the endpoint."""

    half_at: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    """Load at which the score is a half; about what one accelerator batches without pain."""

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> list[float]:
        """Return a score in (0, 1] per endpoint, falling with its load."""
        half = self.half_at
        return [half / (half + e.state.load) for e in endpoints]
