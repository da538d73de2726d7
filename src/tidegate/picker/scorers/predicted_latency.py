"""Prefer the endpoint that will have answered first, by what was learnt from earlier requests.

One number weighs everything in the unit that users feel: a cached prefix saves so many
milliseconds, a busy endpoint costs so many. No weights have to be tuned against each other.
"""

from typing import Annotated

import numpy as np
from msgspec import Meta

from tidegate.picker.candidates import Candidates
from tidegate.picker.latency import LatencySettings
from tidegate.picker.vectors import Vector


class PredictedLatencyScorer(LatencySettings, frozen=True):
    """Least expected time / expected time: 1 for the fastest candidate, 0.5 for twice as slow.

    The expected time is that to the first token, and `answerWeight` of that for the rest of the
    answer. Both are learnt online from the pool's own requests (`picker.latency`), with a factor
    for each endpoint, so a slower accelerator and a server that is ill get less by themselves.

    The others count too: while this prompt is computed, the answers that run there stand still.
    So a prompt that is cached nowhere goes where few run, and one that is cached rather waits
    for its server than is computed anew at another.
    """

    answer_weight: Annotated[float, Meta(ge=0, le=10)] = 0.1
    """How much the time after the first token counts. It is long and differs little between
    endpoints, so at 1 it would drown the first token's. It is the weight of others' answers
    that are held up, too."""
    adapter_seconds: Annotated[float, Meta(ge=0, le=60)] = 0.5
    """What it counts for where an adapter isn't resident and another must go for it: it waits
    for a place, and the batch for it. Where it fits, a third of that."""

    def score(self, candidates: Candidates) -> Vector:
        """Score by the expected time."""
        pool, at = candidates.pool, candidates.at
        model = pool.latency
        assert model is not None  # noqa: S101  # a pool makes one for a profile that has us
        model.relax(candidates.request.now)
        load = pool.load[at]
        compute, factor = candidates.compute, model.ttft_factor[at]
        held_up = compute * load
        compute += pool.pending[at]
        expected = model.ttft(compute, load, pool.queue[at], factor)
        if self.answer_weight:
            length = min(candidates.request.output or model.output, model.output)
            weight = self.answer_weight * length
            expected += model.itl(load + 1.0, model.itl_factor[at] * weight)
            expected += model.prefill(held_up, factor * self.answer_weight)
        name = candidates.request.model
        if name is not None and pool.residency.is_adapter(name):
            expected += self._loading(candidates, name)
        scores: Vector = float(expected.min()) / expected
        return scores

    def _loading(self, candidates: Candidates, adapter: str) -> Vector:
        """Return what bringing the adapter in counts for, in seconds."""
        residency, at = candidates.pool.residency, candidates.at
        cost = np.where(residency.room[at], self.adapter_seconds / 3, self.adapter_seconds)
        warm = residency.warm(adapter)
        if warm is not None:
            cost[warm[at]] = 0.0
        return cost
