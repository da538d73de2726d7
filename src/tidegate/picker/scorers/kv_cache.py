"""Prefer the endpoint whose KV cache is emptiest: a full one preempts."""

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Vector


class KvCacheUtilizationScorer(Plugin, frozen=True):
    """1 - the usage of the KV cache, as the server last said."""

    def score(self, candidates: Candidates) -> Vector:
        """Score by `kv_usage`."""
        scores: Vector = 1.0 - candidates.pool.kv_usage[candidates.at]
        return scores
