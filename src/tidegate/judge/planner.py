"""How long a verdict takes at today's traffic, and who is exposed meanwhile.

The tests' own formulas are run on expected counts: units that go just as the average does.
Half of all rollouts are quicker than that, so `SLOW` says how much longer to plan for.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tidegate.judge.metrics import Metric, Quantile, Rate, Settings
from tidegate.judge.sequential import (
    FLOOR,
    UNSEEN_FAIL,
    UNSEEN_PASS,
    Allowed,
    below_rate,
    one_sided,
)
from tidegate.judge.thresholds import ENOUGH
from tidegate.judge.tracks import QuantileTrack, Track
from tidegate.judge.tripwire import BAR, BEARABLE, TIMES, TRIPPED

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
        if expected_evidence(traffic, allowed, middle)[which] >= bar:
            high = middle
        else:
            low = middle
    return max(high, least)


@dataclass(frozen=True, slots=True)
class Harm:
    """What may be wrong with a canary, and the bad requests that a metric then counts."""

    name: str
    margin: float
    """The rate of bad requests, held to the margin."""
    gross: float
    """The same, held to the gross margin."""


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
    harms: Sequence[Harm] = ()

    def harm(self, name: str) -> Harm | None:
        """Return the harm of that name."""
        return next((each for each in self.harms if each.name == name), None)


_FACTORS: Final = (1.1, 1.2, 1.5, 2.0, 3.0)
_SHARES: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_SIGMAS: Final = {"ttft": 0.6, "itl": 0.25, "per_token": 0.4, "output": 0.8}


def quantile_shape(metric: Quantile, beyond: Callable[[float], float]) -> Shape:
    """Return the shape of a quantile.

    Args:
        metric: Which.
        beyond: The share of the stable's requests that are worse than this factor times its
            threshold.

    """
    margin, gross = 1 + metric.margin, 1 + (metric.gross or metric.margin)
    harms = tuple(
        Harm(f"{metric.histogram} x{factor:g}", beyond(margin / factor), beyond(gross / factor))
        for factor in _FACTORS
    )
    return Shape(beyond(1.0), beyond(margin), beyond(gross), harms)


def lognormal_shape(metric: Quantile, sigma: float) -> Shape:
    """Return the shape for log-normal values of log-sd `sigma`."""
    z = normal_quantile(metric.q)
    return quantile_shape(
        metric, lambda factor: 0.5 * math.erfc((z + math.log(factor) / sigma) / math.sqrt(2))
    )


def rate_shape(metric: Rate, rate: float) -> Shape:
    """Return the shape of a rate of which the stable has `rate`."""
    rates = [(f"{metric.bad} +{100 * more:g} %", min(1.0, rate + more)) for more in _SHARES]
    harms = tuple(Harm(name, worse, worse) for name, worse in rates)
    return Shape(rate, rate, rate, harms if metric.name == "errors" else ())


def shape_of(track: Track) -> Shape | None:
    """Return the shape of a metric as its own traffic has it; None with too little of it."""
    if track.concerned < ENOUGH:
        return None
    if isinstance(track, QuantileTrack):
        return quantile_shape(track.metric, track.beyond)
    assert isinstance(track.metric, Rate)  # noqa: S101  # there are two kinds
    totals = track.totals
    return rate_shape(track.metric, (totals.stable_bad + 0.5) / (totals.stable + 1))


def default_shape(metric: Metric, errors: float = 0.001) -> Shape:
    """Return the shape of a metric in traffic that nobody has seen yet.

    Among alike requests TTFT is taken to be log-normal with log-sd 0.6, inter-token times with
    0.25; every rate to be `errors`.
    """
    if isinstance(metric, Quantile):
        return lognormal_shape(metric, _SIGMAS.get(metric.histogram, 0.6))
    return rate_shape(metric, errors)


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


@dataclass(frozen=True, slots=True)
class Wait:
    """How long one metric takes at one step."""

    metric: str
    label: str
    minutes: float | None
    """On average; None: never at this traffic."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of a rollout."""

    weight: int
    claim: str
    waits: tuple[Wait, ...]
    minutes: float | None
    """Of the slowest metric, or the least time of a step."""
    slowest: str


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a harm costs before it is found."""

    harm: str
    minutes: float | None
    """None: it isn't found at this weight."""
    requests: int | None
    """Of the canary, by then."""
    by: str = ""
    """The metric that finds it."""
    within: bool = False
    """It is within all margins: there is nothing to be found."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A rollout before it begins. Minutes are those of an average canary that is fine."""

    rate: float
    steps: tuple[StepPlan, ...]
    exposures: tuple[Exposure, ...]
    """At the first step's weight."""
    advice: tuple[str, ...]

    @property
    def minutes(self) -> float | None:
        """Of all steps together; None if one never ends."""
        each = [step.minutes for step in self.steps]
        return None if None in each else sum(minutes or 0.0 for minutes in each)


def plan(
    rate: float,
    weights: Sequence[int],
    shapes: Mapping[str, Shape],
    settings: Settings,
    *,
    least_step_s: float = 300.0,
) -> Plan:
    """Return what a rollout takes.

    Args:
        rate: Requests per second that both arms share.
        weights: Of the steps, in percent, below 100.
        shapes: By the names of metrics; those that are missing aren't planned for.
        settings: As the rollout will be judged.
        least_step_s: What a step lasts at least.

    """
    last = len(weights) - 1
    steps = tuple(
        _plan_step(rate, weight, shapes, settings, least_step_s, gross=index < last)
        for index, weight in enumerate(weights)
    )
    exposures = tuple(_exposures(rate, weights[0] / 100, shapes, settings)) if weights else ()
    return Plan(rate, steps, exposures, tuple(_advice(rate, steps, shapes, settings)))


def _plan_step(
    rate: float,
    weight: int,
    shapes: Mapping[str, Shape],
    settings: Settings,
    least_step_s: float,
    *,
    gross: bool,
) -> StepPlan:
    waits = tuple(
        Wait(
            metric.name,
            metric.label,
            _minutes_to_pass(rate, weight, metric, shapes[metric.name], settings, gross=gross),
        )
        for metric in _asked(settings, gross=gross)
        if metric.name in shapes
    )
    slowest = max(waits, key=lambda wait: math.inf if wait.minutes is None else wait.minutes)
    minutes = None if slowest.minutes is None else max(slowest.minutes, least_step_s / 60)
    return StepPlan(weight, "gross" if gross else "margin", waits, minutes, slowest.label)


def _asked(settings: Settings, *, gross: bool) -> list[Metric]:
    required = [each for each in settings.metrics if each.role == "required"]
    return [each for each in required if each.gross is not None] if gross else required


def _minutes_to_pass(
    rate: float, weight: float, metric: Metric, shape: Shape, settings: Settings, *, gross: bool
) -> float | None:
    unit_s = unit_of(rate, weight / 100, settings, quick=gross)
    equal = shape.gross if gross else shape.equal
    needed = units_needed(
        _per_unit(rate, weight / 100, unit_s, equal, shape.stable),
        allowed_of(metric, gross=gross),
        -math.log(settings.alpha_pass),
        to_fail=False,
        least=settings.least_quick_units if gross else settings.least_units,
    )
    return None if needed is None else needed * unit_s / 60


def _per_unit(rate: float, weight: float, unit_s: float, canary: float, stable: float) -> Traffic:
    requests = rate * unit_s
    return Traffic(requests * weight, requests * (1 - weight), canary, stable)


def allowed_of(metric: Metric, *, gross: bool) -> Allowed:
    """Return the limit that a metric's test holds the canary's rate to."""
    if isinstance(metric, Quantile):
        return Allowed()
    return (metric.gross if gross else None) or metric.allowed


def _exposures(
    rate: float, weight: float, shapes: Mapping[str, Shape], settings: Settings
) -> Iterator[Exposure]:
    required = [each for each in settings.metrics if each.role == "required"]
    known = {each: shapes[each.name] for each in required if each.name in shapes}
    for name in dict.fromkeys(harm.name for shape in known.values() for harm in shape.harms):
        found: list[tuple[float, str]] = []
        within = True
        for metric, shape in known.items():
            harm = shape.harm(name)
            if harm is not None:
                allowed = allowed_of(metric, gross=False)
                within &= harm.margin <= allowed.times * shape.stable + allowed.plus
                found += _times_to_fail(rate, weight, metric, shape.stable, harm, settings)
        if not found:
            yield Exposure(name, None, None, within=within)
            continue
        seconds, by = min(found)
        yield Exposure(name, seconds / 60, math.ceil(seconds * rate * weight), by)


def _times_to_fail(
    rate: float, weight: float, metric: Metric, stable: float, harm: Harm, settings: Settings
) -> Iterator[tuple[float, str]]:
    """Yield the seconds after which each way to fail would find the harm, and its name."""
    required = sum(each.role == "required" for each in settings.metrics)
    for gross in (False, True):
        if gross and metric.gross is None:
            continue
        unit_s = unit_of(rate, weight, settings, quick=gross)
        needed = units_needed(
            _per_unit(rate, weight, unit_s, harm.gross if gross else harm.margin, stable),
            allowed_of(metric, gross=gross),
            math.log((8 if gross else 2) * required / settings.alpha_fail),
            to_fail=True,
            least=settings.least_quick_units if gross else settings.least_units,
        )
        if needed is not None:
            yield needed * unit_s, metric.label
    if metric.name == "errors" and settings.tripwires:
        yield from _tripped(rate * weight, harm.margin, stable)


def _tripped(canary_rate: float, errors: float, stable: float) -> list[tuple[float, str]]:
    """Return the seconds until the tripwire, if errors are that many."""
    bearable = max(BEARABLE, TIMES * stable)
    growth = errors * math.log(TRIPPED / bearable)
    growth += (1 - errors) * math.log((1 - TRIPPED) / (1 - bearable))
    return [(math.log(BAR) / growth / canary_rate, "tripwire")] if growth > 0.05 else []


def _advice(
    rate: float, steps: Sequence[StepPlan], shapes: Mapping[str, Shape], settings: Settings
) -> Iterator[str]:
    for step in steps[:-1]:
        if step.minutes is None or step.minutes > LONG_STEP_MINUTES:
            better = _better_weight(rate, step.weight, shapes, settings)
            took = "never ends" if step.minutes is None else f"takes {step.minutes:.0f} minutes"
            if better is None:
                yield f"{step.weight} % {took} for {step.slowest}; no weight makes it quick"
            else:
                yield f"{step.weight} % {took} for {step.slowest}; begin at {better} %"
    if not steps:
        return
    for wait in steps[-1].waits:
        if wait.minutes is not None and wait.minutes <= TOO_LONG_MINUTES:
            continue
        took = "can't be shown" if wait.minutes is None else f"takes {wait.minutes:.0f} minutes"
        yield f"{wait.label} {took} at this traffic: allow more, or make it informative"


LONG_STEP_MINUTES: Final = 15.0
"""A step before the last for which a greater weight is advised."""
TOO_LONG_MINUTES: Final = 60.0
"""The same of one metric at the last step."""


def _better_weight(
    rate: float, weight: int, shapes: Mapping[str, Shape], settings: Settings
) -> int | None:
    for better in (5, 10, 15, 20, 25, 30, 40, 50):
        if better <= weight:
            continue
        step = _plan_step(rate, better, shapes, settings, 0.0, gross=True)
        if step.minutes is not None and step.minutes <= LONG_STEP_MINUTES:
            return better
    return None
