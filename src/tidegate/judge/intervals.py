"""Estimates that may be quoted at any time: ratios of rates and of quantiles.

The only file of the judge that needs numpy, and only when somebody wants to see numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tidegate.judge.histogram import PER_DOUBLING
from tidegate.judge.sequential import (
    LEAST_BATCHES,
    RHO,
    SCALES,
    UNSEEN_FAIL,
    Unit,
    log_normal_cdf,
)
from tidegate.judge.tracks import DOWN, RELATIVE_BINS

Array = NDArray[np.float64]

GRID: Final[Array] = np.linspace(-5.0, 5.0, 401)
"""Log rate ratios: 1/148 to 148."""
_PRIOR_SD: Final = 0.7
EDGES: Final[Array] = np.exp2((np.arange(RELATIVE_BINS) - DOWN) / PER_DOUBLING)
"""Lower edges of relative bins, as ratios to the threshold."""
LEAST_UNITS: Final = 20


@dataclass(frozen=True, slots=True)
class Ratio:
    """Canary over stable."""

    value: float
    low: float
    high: float


def rate_ratio(units: Sequence[Unit], alpha: float = 0.05) -> Ratio | None:
    """Return the ratio of rates by the exact count model; None without events.

    Given an event in a unit, it is the canary's with probability e^ψ n_C / (e^ψ n_C + n_S);
    the interval holds every ψ that the normal mixture over ψ (sd 0.7) doesn't reject (Lindon,
    Malek 2022, "Anytime-valid inference for multinomial count data"). It takes requests for
    independent, so it is shown and never decides.
    """
    if not units:
        return None
    canary, bad, stable, stable_bad = _columns(units)
    if not bad.sum() + stable_bad.sum():
        return None
    lift = np.exp(GRID)[None, :] * canary[:, None]
    theta = lift / (lift + stable[:, None])
    likelihood = (bad[:, None] * np.log(theta) + stable_bad[:, None] * np.log1p(-theta)).sum(0)
    prior = -((GRID / _PRIOR_SD) ** 2) / 2
    prior -= _log_sum(prior)
    kept = _log_sum(likelihood + prior) - likelihood < -math.log(alpha)
    inside = GRID[kept]
    return Ratio(
        float(np.exp(GRID[likelihood.argmax()])),
        float(np.exp(inside.min())) if not kept[0] else 0.0,
        float(np.exp(inside.max())) if not kept[-1] else math.inf,
    )


def quantile_ratio(
    units: Sequence[Unit], relatives: Sequence[Sequence[int]], alpha: float = 0.05
) -> Ratio | None:
    """Return the ratio of quantiles, with all margins that the robust test doesn't reject.

    Args:
        units: With the stable's requests beyond its threshold.
        relatives: For each unit the canary's requests by their ratio to the threshold.
        alpha: The chance that the interval ever misses the truth.

    """
    if not units:
        return None
    canary, _, stable, stable_bad = _columns(units)
    beyond = np.cumsum(np.array(relatives, float)[:, ::-1], axis=1)[:, ::-1]
    weight = canary * stable / (canary + stable)
    increments = weight[:, None] * (beyond / canary[:, None] - (stable_bad / stable)[:, None])
    score = increments.sum(0)
    value = _crossing(score)
    if value is None:
        return None
    bar = math.log(2 / alpha)
    above, below = score_evidence(increments, least=bar)
    return Ratio(
        value,
        float(EDGES[above >= bar].max(initial=0.0)),
        float(EDGES[below >= bar].min(initial=math.inf)),
    )


def score_evidence(increments: Array, *, least: float = -math.inf) -> tuple[Array, Array]:
    """Return the highest log evidence that columns of `increments` have a mean above, below 0.

    `RobustTest` for many margins at once: `increments` is (units, margins). Evidence below
    `least` is not worked out and comes back as minus infinity.
    """
    units = np.arange(1, len(increments) + 1)[:, None]
    if len(increments) < LEAST_UNITS:
        nothing = np.full(increments.shape[1], -math.inf)
        return nothing, nothing
    total = _variances(increments) * (1 + UNSEEN_FAIL / units) + RHO
    score = np.cumsum(increments, axis=0)
    # Without the cumulative normal, which is at most 1, and slow to work out.
    bound = math.log(2) + 0.5 * np.log(RHO / total) + score**2 / (2 * total)
    z = score / np.sqrt(total)
    wanted = (bound >= least) & (units >= LEAST_UNITS)
    above = np.full(increments.shape, -math.inf)
    below = above.copy()
    above[wanted] = bound[wanted] + _log_cdf(z[wanted])
    below[wanted] = bound[wanted] + _log_cdf(-z[wanted])
    return above.max(0), below.max(0)


def _log_cdf(z: Array) -> Array:
    return np.array([log_normal_cdf(each) for each in z.tolist()])


def _variances(increments: Array) -> Array:
    """Return the score's variance after each unit: the largest over all scales."""
    units = len(increments)
    count = np.arange(1, units + 1)[:, None]
    score = np.cumsum(increments, axis=0)
    largest = np.zeros_like(increments)
    for scale in SCALES:
        ends = np.arange(units) // scale * scale
        before = np.vstack([np.zeros((1, increments.shape[1])), score])[ends]
        part = score - before
        is_last = (np.arange(units) % scale == scale - 1)[:, None]
        squares = np.cumsum(np.where(is_last, part**2, 0.0), axis=0)
        squares = np.where(is_last, squares, squares + part**2)
        batches = count / scale
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = (squares - score**2 / batches) * batches / (batches - 1)
        largest = np.maximum(largest, np.where(batches >= LEAST_BATCHES, variance, 0.0))
    return largest


def _crossing(score: Array) -> float | None:
    """Return the ratio at which the falling `score` crosses 0; None where it never does."""
    below = np.flatnonzero(score <= 0)
    if not len(below) or below[0] == 0:
        return None
    at = below[0]
    high, low = score[at - 1], score[at]
    part = high / (high - low) if high > low else 0.5
    return float(EDGES[at - 1] * (EDGES[at] / EDGES[at - 1]) ** part)


def _columns(units: Sequence[Unit]) -> tuple[Array, Array, Array, Array]:
    table = np.array([(u.canary, u.canary_bad, u.stable, u.stable_bad) for u in units], float)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def _log_sum(logs: Array) -> float:
    high = logs.max()
    return float(high + math.log(np.exp(logs - high).sum()))
