"""Prefer the endpoint with the fewest tokens in flight: a long prompt is more work than a short."""

from typing import Annotated

import numpy as np
from msgspec import Meta

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector


class TokenLoadScorer(Plugin, frozen=True):
    """1 - tokens in flight / `queueThresholdTokens`, at least 0.

    Tokens of the prompts and expected answers of all requests that are sent and not over, all
    workers' together, counted when they are sent and not when a server next says so.
    """

    queue_threshold_tokens: Annotated[int, Meta(gt=0)] = 4_194_304
    """Tokens in flight at which the score is 0."""

    def score(self, candidates: Candidates) -> Vector:
        """Score by `tokens`."""
        scores: Vector = 1.0 - candidates.pool.tokens[candidates.at] / self.queue_threshold_tokens
        return np.maximum(scores, 0.0, out=scores)
