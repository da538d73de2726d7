"""Prefer the endpoint that will have answered first, by what was learnt from earlier requests.

One number weighs everything in the unit that users feel: a cached prefix saves so many
milliseconds, a busy endpoint costs so many. No weights have to be tuned against each other.
"""

from typing import Annotated, Final

import numpy as np
from msgspec import Meta

from tidegate.picker.candidates import Candidates
from tidegate.picker.latency import LatencyModel, LatencySettings
from tidegate.picker.vectors import Vector

FEW: Final = 16
"""Candidates up to which vectors cost more than they save."""


class PredictedLatencyScorer(LatencySettings, frozen=True):
    """Least expected time / expected time: 1 for the fastest candidate, 0.5 for twice as slow.

    The expected time is that to the first token, and `answerWeight` of that for the rest of the
    answer. Both are learnt online from the pool's own requests (`picker.latency`), with a factor
    for each endpoint, so a slower accelerator and a server that is ill get less by themselves.
    One that is little known, or was not heard of for a while, is taken to be as fast as it may
    well be: that it was slow once is found to be over.

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
        name = candidates.request.model
        adapter = name is not None and pool.residency.is_adapter(name)
        if candidates.count <= FEW and not adapter:
            return self._score_few(candidates, model)
        load = pool.load[at]
        compute, factor = candidates.compute, model.ttft_factors.hope[at]
        held_up = compute * load
        compute += pool.pending[at]
        expected = model.ttft(compute, load, pool.queue[at], factor)
        if self.answer_weight:
            length = min(candidates.request.output or model.output, model.output)
            weight = self.answer_weight * length
            expected += model.itl(load + 1.0, model.itl_factors.hope[at] * weight)
            expected += model.prefill(held_up, factor * self.answer_weight)
        if name is not None and adapter:
            expected += self._loading(candidates, name)
        scores: Vector = float(expected.min()) / expected
        return scores

    def _score_few(self, candidates: Candidates, model: LatencyModel) -> Vector:
        """Score the same without vectors: for a handful, plain numbers take a third of the time."""
        pool, at, request = candidates.pool, candidates.at, candidates.request
        weight = self.answer_weight
        length = weight * min(request.output or model.output, model.output)
        rows = zip(
            candidates.matched[at].tolist(),
            pool.pending[at].tolist(),
            pool.load[at].tolist(),
            pool.queue[at].tolist(),
            model.ttft_factors.hope[at].tolist(),
            model.itl_factors.hope[at].tolist(),
            strict=True,
        )
        (base, token, each, waiting), (itl_base, itl_each) = model.coefficients
        times = []
        for matched, pending, load, queue, factor, itl_factor in rows:
            compute = request.prompt - matched
            if compute < 1.0:
                compute = 1.0
            first = base + token * (compute + pending) + each * load + waiting * queue
            held_up = weight * token * compute * load
            between = length * (itl_base + itl_each * (load + 1.0))
            times.append((first + held_up) * factor + between * itl_factor)
        least = min(times)
        return np.array([least / time for time in times])

    def _loading(self, candidates: Candidates, adapter: str) -> Vector:
        """Return what bringing the adapter in counts for, in seconds."""
        residency, at = candidates.pool.residency, candidates.at
        cost = np.where(residency.room[at], self.adapter_seconds / 3, self.adapter_seconds)
        warm = residency.warm(adapter)
        if warm is not None:
            cost[warm[at]] = 0.0
        return cost
