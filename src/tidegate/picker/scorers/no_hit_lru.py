"""Send prompts that are cached nowhere to whoever got such a prompt longest ago.

So caches fill evenly, and a prompt that nobody will ask for again pushes out as little as it can.
"""

import numpy as np

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector


class NoHitLruScorer(Plugin, frozen=True):
    """For a prompt that is cached nowhere: 1 for the endpoint that got such a one longest ago.

    The others follow in their order, down to 0. For any other prompt all get 0.5.
    """

    prefix_plugin_type: str = ""
    """Accepted and not needed: there is one prefix index."""
    prefix_plugin_name: str = ""
    """Accepted and not needed."""
    lru_size: int = 1024
    """Accepted and not needed: all endpoints of the pool are remembered."""

    def score(self, candidates: Candidates) -> Vector:
        """Score by `last_miss`."""
        count = candidates.count
        if count == 1 or not candidates.request.chain or candidates.matched[candidates.at].any():
            return np.full(count, 0.5)
        scores = np.empty(count)
        order = candidates.pool.last_miss[candidates.at].argsort(kind="stable")
        scores[order] = np.linspace(1.0, 0.0, count)
        return scores
