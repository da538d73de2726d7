"""How long a verdict takes at today's traffic, and who is exposed meanwhile.

The tests' own formulas are run on expected counts: units that go just as the average does.
Half of all rollouts are quicker than that, so `SLOW` says how much longer to plan for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.judge.metrics import Settings
from tidegate.judge.sequential import (
    FLOOR,
    UNSEEN_FAIL,
    UNSEEN_PASS,
    Allowed,
    below_rate,
    one_sided,
)

SLOW: Final = 1.7
"""Nine of ten rollouts need less than the expected time times this."""
MOST_UNITS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one unit of time brings on average."""

    canary: float
    """Requests."""
    stable: float
    canary_rate: float
    """Of bad ones, 0..1."""
    stable_rate: float


def expected_evidence(traffic: Traffic, allowed: Allowed, units: int) -> tuple[float, float]:
    """Return the log evidence (fail, pass) after `units` average units."""
    canary, stable = traffic.canary, traffic.stable
    weight = canary * stable / (canary + stable)
    p, s = traffic.canary_rate, traffic.stable_rate
    limit = min(1.0, allowed.times * s + allowed.plus)
    score = units * weight * (p - limit)
    per_canary = units * weight**2 / canary
    per_stable = units * weight**2 / stable * allowed.times**2 * s * (1 - s)
    seen = per_canary * p * (1 - p) + per_stable
    implied = FLOOR * (per_canary * limit * (1 - limit) + per_stable)
    fail = one_sided(score, seen * (1 + UNSEEN_FAIL / units))
    passed = one_sided(-score, max(seen * (1 + UNSEEN_PASS / units), implied))
    if allowed.plus > 0:
        rare = below_rate(units * canary * p, units * canary, allowed.plus)
        passed = max(passed, rare) - math.log(2)
    return fail, passed


def units_needed(
    traffic: Traffic, allowed: Allowed, bar: float, *, to_fail: bool, least: int
) -> int | None:
    """Return after how many average units the log evidence reaches `bar`; None for never."""
    if traffic.canary <= 0 or traffic.stable <= 0:
        return None
    which = 0 if to_fail else 1
    low, high = 0, least
    while expected_evidence(traffic, allowed, high)[which] < bar:
        low, high = high, high * 2
        if high > MOST_UNITS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if middle >= least and expected_evidence(traffic, allowed, middle)[which] >= bar:
            high = middle
        elif middle < least:
            low = middle
        else:
            low = middle
    return max(high, least)


@dataclass(frozen=True, slots=True)
class Shape:
    """A metric's rates: what the planner must know of the distribution.

    For a quantile, the shares of requests beyond the stable's threshold.
    """

    stable: float
    """The stable's own rate of bad requests."""
    equal: float
    """A canary's that is just like the stable, held to the margin."""
    gross: float
    """The same, held to the gross margin."""
    worse: Sequence[tuple[str, float]] = ()
    """And of canaries with some harm, held to the margin: what it is, and the rate."""


def lognormal_shape(q: float, margin: float, gross: float, sigma: float) -> Shape:
    """Return the shape of a quantile for log-normal times of log-sd `sigma`, without data."""
    z = normal_quantile(q)

    def beyond(factor: float) -> float:
        return 0.5 * math.erfc((z + math.log(factor) / sigma) / math.sqrt(2))

    harms = (1.1, 1.2, 1.5, 2.0, 3.0)
    return Shape(
        1 - q,
        beyond(1 + margin),
        beyond(1 + gross),
        tuple((f"x{harm:g}", beyond((1 + margin) / harm)) for harm in harms),
    )


def normal_quantile(q: float) -> float:
    """Return the standard normal quantile, by bisection."""
    low, high = -9.0, 9.0
    for _ in range(60):
        middle = (low + high) / 2
        if 0.5 * math.erfc(-middle / math.sqrt(2)) < q:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def unit_of(rate: float, weight: float, settings: Settings, *, quick: bool) -> float:
    """Return the seconds of a unit at `rate` requests per second and `weight` (0..1)."""
    least_s = settings.quick_unit_s if quick else settings.unit_s
    fewer = rate * min(weight, 1 - weight)
    if fewer <= 0:
        return settings.longest_unit_s
    # Enough for the fewest canary requests, three times of four.
    full_s = 1.3 * settings.least_canary / fewer
    return min(max(least_s, full_s), settings.longest_unit_s)
