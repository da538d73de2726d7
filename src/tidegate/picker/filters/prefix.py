"""Keep the endpoints that have most of the prompt cached, as long as that doesn't hurt."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Flags


class PrefixCacheAffinityFilter(Plugin, frozen=True):
    """Keeps endpoints that hold most of the prompt; all, where nobody does or they are too busy."""

    reason: ClassVar[str] = ""

    affinity_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.8
    """Share of the prompt that must be cached."""
    max_ttft_penalty_ms: Annotated[float, Meta(ge=0)] = msgspec.field(
        default=5000.0, name="maxTTFTPenaltyMs"
    )
    """How much longer the best of them may take to the first token than the best of the others;
    0: any time. It is compared where the profile has a `predicted-latency-scorer`."""

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return who holds enough of the prompt, or None."""
        prompt = candidates.request.prompt
        if not prompt:
            return None
        sticky: Flags = candidates.matched[candidates.at] >= self.affinity_threshold * prompt
        if not sticky.any() or sticky.all() or self._hurts(candidates, sticky):
            return None
        return sticky

    def _hurts(self, candidates: Candidates, sticky: Flags) -> bool:
        pool, at = candidates.pool, candidates.at
        model = pool.latency
        if model is None or not self.max_ttft_penalty_ms:
            return False
        compute = candidates.compute + pool.pending[at]
        expected = model.ttft(
            compute, pool.load[at], pool.queue[at], model.ttft_factors.expected[at]
        )
        penalty = expected[sticky].min() - expected[~sticky].min()
        return bool(penalty * 1000.0 > self.max_ttft_penalty_ms)
