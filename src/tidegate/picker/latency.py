"""How long a request would take at each endpoint, learnt from those that were sent.

Two linear models for the whole pool, and two factors for each endpoint:

    TTFT = ttft · (1, prompt tokens to compute, requests there, requests that wait) x its factor
    ITL  = itl  · (1, requests there)                                               x its factor

"To compute" are the request's own tokens that the endpoint's prefix cache lacks, and those of
the requests before it that have no first token yet: a prompt waits for the prompts before it.
The factors tell a faster accelerator, or one that is ill, from the rest of the pool.

The models are fitted by recursive least squares with forgetting (Haykin, "Adaptive Filter
Theory", chapter on RLS), on relative errors: 10 ms are much for a TTFT of 50 ms and nothing for
one of 10 s. Coefficients stay above a small part of what they began with: more work always takes
more time, and where nothing else differs the less loaded endpoint is taken. Before
anything was learnt, the coefficients of an 8B model on one H100 stand in; only their ratios
matter, for all endpoints are compared by the same ones.

What most factors have in common belongs to the models and is moved there: the median is 1. A
factor drifts back to it while nothing is heard, so that an endpoint that was slow once is tried
again after a while.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta

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
STEP: Final = 0.15
"""How far one observation moves a factor, of its logarithm's error."""
WILD: Final = 1.5
"""Largest error of a logarithm that moves a factor: one stall must not condemn an endpoint."""
SLOWEST: Final = 20.0
"""Bound of factors, both ways."""


class LatencySettings(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """How fast is learnt and forgotten."""

    forgetting: Annotated[float, Meta(gt=0.9, lt=1.0)] = 0.998
    """How much an observation counts beside the next one: 0.998 remembers about 500."""
    half_life_s: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds of silence after which an endpoint's factor is half way back to 1."""
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


class LatencyModel:
    """The models and factors of one pool. Learns; says nothing of health."""

    __slots__ = (
        "_itl",
        "_itl_at",
        "_relaxed_at",
        "_settings",
        "_ttft",
        "_ttft_at",
        "itl_factor",
        "output",
        "ttft_factor",
    )

    def __init__(self, settings: LatencySettings) -> None:
        self._settings = settings
        self._ttft = Regression(TTFT_PRIOR, settings.forgetting)
        self._itl = Regression(ITL_PRIOR, settings.forgetting)
        self.ttft_factor = np.ones(0)
        self.itl_factor = np.ones(0)
        self.output = float(settings.output_tokens)
        """Tokens of an answer, on average."""
        self._relaxed_at = self._ttft_at = self._itl_at = -math.inf

    @property
    def coefficients(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What was learnt: of TTFT, of ITL."""
        return tuple(self._ttft.weights), tuple(self._itl.weights)

    def resize(self, slots: int) -> None:
        """Have room for `slots` endpoints."""
        more = np.ones(slots - len(self.ttft_factor))
        self.ttft_factor = np.concatenate([self.ttft_factor, more])
        self.itl_factor = np.concatenate([self.itl_factor, more])

    def forget(self, slot: int) -> None:
        """Forget an endpoint's factors."""
        self.ttft_factor[slot] = self.itl_factor[slot] = 1.0

    def ttft(self, compute: Vector, load: Vector, queue: Vector, factor: Vector) -> Vector:
        """Return the expected TTFT in seconds, for vectors of one shape."""
        base, token, request, waiting = self._ttft.weights
        times: Vector = (base + token * compute + request * load + waiting * queue) * factor
        return times

    def prefill(self, tokens: Vector, factor: Vector) -> Vector:
        """Return how long computing so many prompt tokens takes, in seconds."""
        times: Vector = tokens * (self._ttft.weights[1] * factor)
        return times

    def itl(self, load: Vector, factor: Vector) -> Vector:
        """Return the expected time between tokens in seconds."""
        base, request = self._itl.weights
        times: Vector = (base + request * load) * factor
        return times

    def expected_ttft(self, slot: int, seen: Observation) -> float:
        """Return the expected TTFT of one request in seconds."""
        features = (1.0, seen.compute, seen.load, seen.queue)
        return self._ttft.predict(features) * float(self.ttft_factor[slot])

    def answered(self, slot: int, seen: Observation, ttft_s: float, now: float) -> None:
        """Learn from a first token that came at `now`."""
        features = (1.0, seen.compute, seen.load, seen.queue)
        learns = now - self._ttft_at >= LEARN_EVERY_S
        if learns:
            self._ttft_at = now
        _learn(self._ttft, self.ttft_factor, slot, features, ttft_s, learns=learns)

    def finished(self, slot: int, seen: Observation, itl_s: float, output: int, now: float) -> None:
        """Learn from a whole answer: the mean time between its tokens, and its length."""
        self.output += (output - self.output) * 0.01
        learns = now - self._itl_at >= LEARN_EVERY_S
        if learns:
            self._itl_at = now
        _learn(self._itl, self.itl_factor, slot, (1.0, seen.load), itl_s, learns=learns)

    def relax(self, now: float) -> None:
        """Let the factors drift towards 1; cheap to call often."""
        passed = now - self._relaxed_at
        if passed < 1.0:
            return
        if passed < math.inf:
            rest = 0.5 ** (passed / self._settings.half_life_s)
            for model, factors in ((self._ttft, self.ttft_factor), (self._itl, self.itl_factor)):
                factors **= rest
                _centre(model, factors)
        self._relaxed_at = now


def _centre(model: Regression, factors: Vector) -> None:
    """Give what most factors have in common to the model: products stay, the median is 1."""
    middle = _median(factors) if len(factors) else 1.0
    if middle != 1.0:
        factors /= middle
        model.weights = [weight * middle for weight in model.weights]


def _median(values: Vector) -> float:
    # np.median imports numpy.ma when it is first called: a fifth of a second, amid requests.
    ordered, count = np.sort(values), len(values)
    return float(ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _learn(
    model: Regression,
    factors: Vector,
    slot: int,
    features: Sequence[float],
    seconds: float,
    *,
    learns: bool,
) -> None:
    factor = float(factors[slot])
    expected = max(FLOOR_S, model.predict(features))
    observed = max(FLOOR_S, seconds)
    if learns:
        model.learn(features, observed / factor, expected)
    error = min(max(math.log(observed / (expected * factor)), -WILD), WILD)
    factors[slot] = min(max(factor * math.exp(STEP * error), 1.0 / SLOWEST), SLOWEST)
