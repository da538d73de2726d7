"""Prefer the endpoint that will have answered first, by what was learnt from earlier requests.

One number weighs everything in the unit that users feel: a cached prefix saves so many
milliseconds, a busy endpoint costs so many. No weights have to be tuned against each other.
"""

from typing import Annotated

from msgspec import Meta

from tidegate.picker.candidates import Candidates
from tidegate.picker.latency import LatencySettings
from tidegate.picker.vectors import Vector


class PredictedLatencyScorer(LatencySettings, frozen=True):
    """Least expected time / expected time: 1 for the fastest candidate, 0.5 for twice as slow.

    The expected time is that to the first token, and `answerWeight` of that for the rest of the
    answer. Both are learnt online from the pool's own requests (`picker.latency`), with a factor
    for each endpoint, so a slower accelerator and a server that is ill get less by themselves.
    """

    answer_weight: Annotated[float, Meta(ge=0, le=10)] = 0.1
    """How much the time after the first token counts. It is long and differs little between
    endpoints, so at 1 it would drown the first token's."""

    def score(self, candidates: Candidates) -> Vector:
        """Score by the expected time."""
        pool, at = candidates.pool, candidates.at
        model = pool.latency
        assert model is not None  # noqa: S101  # a pool makes one for a profile that has us
        model.relax(candidates.request.now)
        load = pool.load[at]
        compute = candidates.compute
        compute += pool.pending[at]
        expected = model.ttft(compute, load, pool.queue[at], model.ttft_factor[at])
        if self.answer_weight:
            length = min(candidates.request.output or model.output, model.output)
            weight = self.answer_weight * length
            expected += model.itl(load + 1.0, model.itl_factor[at] * weight)
        scores: Vector = float(expected.min()) / expected
        return scores
