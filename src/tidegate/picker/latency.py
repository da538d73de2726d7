"""How long a request would take at each endpoint, learnt from those that were sent.

Two linear models for the whole pool, and two factors for each endpoint:

    TTFT = ttft · (1, prompt tokens to compute, requests there, requests that wait) x its factor
    ITL  = itl  · (1, requests there)                                               x its factor

"To compute" are the request's own tokens that the endpoint's prefix cache lacks, and those of
the requests before it that have no first token yet: a prompt waits for the prompts before it.
The factors (`picker.factors`) tell a faster accelerator, or one that is ill, from the rest of the
pool.

The models are fitted by recursive least squares with forgetting (Haykin, "Adaptive Filter
Theory", chapter on RLS), on relative errors: 10 ms are much for a TTFT of 50 ms and nothing for
one of 10 s. Coefficients stay above a small part of what they began with: more work always takes
more time, and where nothing else differs the less loaded endpoint is taken. Before
anything was learnt, the coefficients of an 8B model on one H100 stand in; only their ratios
matter, for all endpoints are compared by the same ones.

What most factors have in common belongs to the models and is moved there: the median is 1.

An answer that comes whole tells one time for both models. Its error moves both factors, each as
far as its part of that time and what was unknown of it; the models follow by the median.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from tidegate.picker.factors import Factors
from tidegate.picker.vectors import Vector

LEAST: Final = 0.05
"""Part of its prior that a coefficient keeps, whatever is observed."""
WILDEST: Final = 2.0
"""Largest relative error that moves the models."""
TRUST: Final = 4.0
"""How uncertain a coefficient gets at most, in squares of its prior."""
LEARN_EVERY_S: Final = 0.01
"""Between two observations that move the models; those that come faster say nothing new."""
FLOOR_S: Final = 1e-3
"""Times below count as this: relative errors of nothing are noise."""


class LatencySettings(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """How fast is learnt and forgotten."""

    forgetting: Annotated[float, Meta(gt=0.9, lt=1.0)] = 0.998
    """How much an observation counts beside the next one: 0.998 remembers about 500."""
    half_life_s: Annotated[float, Meta(gt=0)] = 20.0
    """Seconds of silence after which an endpoint's factor is half way back to 1."""
    exploration: Annotated[float, Meta(ge=0, le=3)] = 1.0
    """How sure of an endpoint's being slow one must be to leave it alone, in standard deviations:
    the more, the sooner one is tried that was slow or silent. At 0, only what is known counts."""
    output_tokens: Annotated[int, Meta(ge=1)] = 128
    """Length of an answer until enough were seen."""


class Regression:
    """Positive linear regression, one observation at a time."""

    __slots__ = ("_forgetting", "_inverse", "_prior", "weights")

    def __init__(self, prior: Sequence[float], forgetting: float) -> None:
        """Begin at `prior`, trusted as much as one observation."""
        self._prior = tuple(prior)
        self.weights = list(prior)
        self._forgetting = forgetting
        # Of the order of the weights' own squares: each feature may move by all of itself.
        # Lists, not arrays: of four by four, plain Python is the faster one.
        self._inverse = [
            [one * one if row == column else 0.0 for column in range(len(prior))]
            for row, one in enumerate(prior)
        ]

    def predict(self, features: Sequence[float]) -> float:
        """Return the value that is expected."""
        return float(sum(map(mul, self.weights, features)))

    def scale(self, factor: float) -> None:
        """Have all that is predicted be `factor` times as much."""
        self.weights = [weight * factor for weight in self.weights]

    def learn(self, features: Sequence[float], value: float, expected: float) -> None:
        """Take an observation; errors count relative to `expected`."""
        x = [feature / expected for feature in features]
        gain = [sum(map(mul, row, x)) for row in self._inverse]
        power = self._forgetting + sum(map(mul, gain, x))
        error = value / expected - self.predict(x)
        step = min(max(error, -WILDEST), WILDEST) / power
        self.weights = [
            max(weight + step * one, LEAST * prior)
            for weight, one, prior in zip(self.weights, gain, self._prior, strict=True)
        ]
        inverse = [
            [
                (cell - one * other / power) / self._forgetting
                for cell, other in zip(row, gain, strict=True)
            ]
            for row, one in zip(self._inverse, gain, strict=True)
        ]
        # Forgetting without news blows the inverse up: what is never seen must not explode.
        worst = max(
            row[place] / (prior * prior)
            for place, (row, prior) in enumerate(zip(inverse, self._prior, strict=True))
        )
        if worst > TRUST:
            inverse = [[cell * TRUST / worst for cell in row] for row in inverse]
        self._inverse = inverse


class Observation(msgspec.Struct):
    """What a request found when it was sent."""

    compute: float
    """Prompt tokens to compute, those of the requests before included."""
    load: float
    """Requests at the endpoint."""
    queue: float
    """Of those, the ones that wait."""


TTFT_PRIOR: Final = (0.015, 6e-5, 2e-4, 0.02)
"""Seconds: at least; a token to compute; a request there; a request that waits."""
ITL_PRIOR: Final = (0.008, 1e-4)


class Times:
    """One of the two models, and its endpoints' factors."""

    __slots__ = ("_learnt_at", "factors", "model")

    def __init__(self, prior: Sequence[float], settings: LatencySettings) -> None:
        """Begin at `prior`, all endpoints alike."""
        self.model = Regression(prior, settings.forgetting)
        self.factors = Factors(settings.exploration)
        self._learnt_at = -math.inf

    def expected(self, slot: int, features: Sequence[float]) -> float:
        """Return the time that is expected at one endpoint, in seconds."""
        return self.model.predict(features) * float(self.factors.expected[slot])

    def learn(
        self, slot: int, features: Sequence[float], seconds: float, began: float, now: float
    ) -> None:
        """Take an observation: `seconds`, of what went on from `began` until `now`."""
        factors = self.factors
        if not factors.due(slot, now):
            return
        factor = float(factors.expected[slot])
        expected = max(FLOOR_S, self.model.predict(features))
        observed = max(FLOOR_S, seconds)
        if now - self._learnt_at >= LEARN_EVERY_S:
            self._learnt_at = now
            self.model.learn(features, observed / factor, expected)
        error = math.log(observed / (expected * factor))
        factors.learn(slot, error, began, now, 1.0, factors.variance(slot))

    def relax(self, rest: float) -> None:
        """Let the factors drift towards 1, and have what they have in common be the model's."""
        self.model.scale(self.factors.relax(rest))


class LatencyModel:
    """The models and factors of one pool. Learns; says nothing of health."""

    __slots__ = (
        "_itl",
        "_relaxed_at",
        "_settings",
        "_ttft",
        "itl_factors",
        "output",
        "ttft_factors",
    )

    def __init__(self, settings: LatencySettings) -> None:
        self._settings = settings
        self._ttft = Times(TTFT_PRIOR, settings)
        self._itl = Times(ITL_PRIOR, settings)
        self.ttft_factors = self._ttft.factors
        self.itl_factors = self._itl.factors
        self.output = float(settings.output_tokens)
        """Tokens of an answer, on average."""
        self._relaxed_at = -math.inf

    @property
    def coefficients(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What was learnt: of TTFT, of ITL."""
        return tuple(self._ttft.model.weights), tuple(self._itl.model.weights)

    def resize(self, slots: int) -> None:
        """Have room for `slots` endpoints."""
        self.ttft_factors.resize(slots)
        self.itl_factors.resize(slots)

    def forget(self, slot: int) -> None:
        """Take the endpoint in `slot` for a new one."""
        self.ttft_factors.forget(slot)
        self.itl_factors.forget(slot)

    def ttft(self, compute: Vector, load: Vector, queue: Vector, factor: Vector) -> Vector:
        """Return the expected TTFT in seconds, for vectors of one shape."""
        base, token, request, waiting = self._ttft.model.weights
        times: Vector = (base + token * compute + request * load + waiting * queue) * factor
        return times

    def prefill(self, tokens: Vector, factor: Vector) -> Vector:
        """Return how long computing so many prompt tokens takes, in seconds."""
        times: Vector = tokens * (self._ttft.model.weights[1] * factor)
        return times

    def itl(self, load: Vector, factor: Vector) -> Vector:
        """Return the expected time between tokens in seconds."""
        base, request = self._itl.model.weights
        times: Vector = (base + request * load) * factor
        return times

    def expected_ttft(self, slot: int, seen: Observation) -> float:
        """Return the expected TTFT of one request in seconds."""
        return self._ttft.expected(slot, _features(seen))

    def answered(self, slot: int, seen: Observation, began: float, now: float) -> None:
        """Learn from a first token that came at `now`, of a request that was sent at `began`."""
        self._ttft.learn(slot, _features(seen), now - began, began, now)

    def finished(self, slot: int, seen: Observation, output: int, first: float, now: float) -> None:
        """Learn from an answer of `output` tokens, the first at `first`, the last at `now`."""
        self._counted(output)
        if output > 1:
            itl_s = (now - first) / (output - 1)
            self._itl.learn(slot, (1.0, seen.load), itl_s, first, now)

    def came_whole(
        self, slot: int, seen: Observation, output: int, began: float, now: float
    ) -> None:
        """Learn from an answer of `output` tokens of which only the end, at `now`, was seen."""
        self._counted(output)
        if not self.itl_factors.due(slot, now):
            return
        first = self._ttft.expected(slot, _features(seen))
        rest = self._itl.expected(slot, (1.0, seen.load)) * (output - 1)
        expected = max(FLOOR_S, first + rest)
        error = math.log(max(FLOOR_S, now - began) / expected)
        shares = ((self.ttft_factors, first / expected), (self.itl_factors, rest / expected))
        unsure = sum(share * share * factors.variance(slot) for factors, share in shares)
        for factors, share in shares:
            factors.learn(slot, error, began, now, share, unsure)

    def relax(self, now: float) -> None:
        """Let the factors drift towards 1; cheap to call often."""
        passed = now - self._relaxed_at
        if passed < 1.0:
            return
        if passed < math.inf:
            rest = 0.5 ** (passed / self._settings.half_life_s)
            self._ttft.relax(rest)
            self._itl.relax(rest)
        self._relaxed_at = now

    def _counted(self, output: int) -> None:
        self.output += (output - self.output) * 0.01


def _features(seen: Observation) -> tuple[float, ...]:
    return (1.0, seen.compute, seen.load, seen.queue)
