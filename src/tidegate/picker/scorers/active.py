"""Prefer the endpoint to which we sent the fewest requests that aren't over."""

from typing import Annotated

import numpy as np
from msgspec import Meta

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector


class ActiveRequestScorer(Plugin, frozen=True):
    """1 while idle; else `maxBusyScore` · (most - active) / most, of the candidates.

    By requests at the endpoint now: all workers' own, and what the server says of others'.
    """

    idle_threshold: Annotated[int, Meta(ge=0)] = 0
    """Active requests up to which an endpoint counts as idle."""
    max_busy_score: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The best score of an endpoint that isn't idle."""

    def score(self, candidates: Candidates) -> Vector:
        """Score by `load`."""
        load = candidates.pool.load[candidates.at]
        most = float(load.max())
        idle = load <= self.idle_threshold
        busy = self.max_busy_score * (most - load) / most if most else np.ones(len(load))
        return np.where(idle, 1.0, busy)
