"""The test itself beside others from the literature, on units of time alone.

One metric: requests beyond the stable's p95 (5 %). A canary at the margin has as many; one that
equals the stable, held to a margin of 20 %, has 2.56 % (log-normal, log-sd 0.6).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tidegate.judge.sequential import Allowed, RobustTest, Unit, one_sided

AT_MARGIN, EQUAL = 0.05, 0.0256
UNITS, UNIT_S = 240, 30.0
BAR = math.log(20)


class Engine(Protocol):
    log_fail: float
    log_pass: float

    def add(self, unit: Unit) -> None: ...


class Reference:
    """The same mixture with V = 1 + sum d^2, rho = 10, after 20 units: no other scales."""

    def __init__(self) -> None:
        self.log_fail = self.log_pass = -math.inf
        self._score, self._variance, self._units = 0.0, 1.0, 0

    def add(self, unit: Unit) -> None:
        if not unit.canary or not unit.stable:
            return
        total = unit.canary + unit.stable
        score = (unit.canary_bad * unit.stable - unit.stable_bad * unit.canary) / total
        self._score += score
        self._variance += score * score
        self._units += 1
        if self._units >= 20:
            self.log_fail = max(self.log_fail, one_sided(self._score, self._variance, 10.0))
            self.log_pass = max(self.log_pass, one_sided(-self._score, self._variance, 10.0))


class Counts:
    """The exact count model: given an event, whose is it? One-sided normal mixture."""

    GRID = np.linspace(0.01, 4, 60)
    PRIOR = np.exp(-((GRID / 0.7) ** 2) / 2)

    def __init__(self) -> None:
        self.log_fail = self.log_pass = -math.inf
        self._logs = np.zeros((2, len(self.GRID)))
        self._prior = np.log(self.PRIOR / self.PRIOR.sum())

    def add(self, unit: Unit) -> None:
        if not unit.canary or not unit.stable:
            return
        even = unit.canary / (unit.canary + unit.stable)
        for row, sign in enumerate((1, -1)):
            lift = np.exp(sign * self.GRID) * unit.canary
            theta = lift / (lift + unit.stable)
            self._logs[row] += unit.canary_bad * np.log(theta / even)
            self._logs[row] += unit.stable_bad * np.log((1 - theta) / (1 - even))
        fail, passed = (np.logaddexp.reduce(row + self._prior) for row in self._logs)
        self.log_fail, self.log_pass = max(self.log_fail, fail), max(self.log_pass, passed)


class Betting:
    """Bets on the bounded score of each unit, whatever happens inside it: exact."""

    STAKES = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])

    def __init__(self) -> None:
        self.log_fail = self.log_pass = -math.inf
        self._logs = np.zeros((2, len(self.STAKES)))

    def add(self, unit: Unit) -> None:
        if not unit.canary or not unit.stable:
            return
        most = unit.canary * unit.stable / (unit.canary + unit.stable)
        gain = unit.canary_bad / unit.canary - unit.stable_bad / unit.stable
        assert abs(gain) <= 1
        assert most > 0
        # The worst that a unit can do is known beforehand, so stakes are shares of that. Units
        # with fewer requests are less sure and weigh less.
        scale = min(1.0, most / 3)
        self._logs[0] += np.log1p(self.STAKES * scale * gain)
        self._logs[1] += np.log1p(-self.STAKES * scale * gain)
        fail, passed = (np.logaddexp.reduce(row) - math.log(len(row)) for row in self._logs)
        self.log_fail, self.log_pass = max(self.log_fail, fail), max(self.log_pass, passed)


ENGINES: dict[str, Callable[[], Engine]] = {
    "ours": lambda: RobustTest(Allowed()),
    "one scale (reference)": Reference,
    "exact counts": Counts,
    "betting": Betting,
}


def independent(_: np.random.Generator, rate: float) -> np.ndarray:
    return np.full(UNITS, rate)


def bursts(rng: np.random.Generator, rate: float) -> np.ndarray:
    """Nine tenths of the events in one twentieth of the time, a minute and a half at once."""
    on = np.repeat(rng.random(UNITS // 3) < 0.05, 3)
    return np.where(on, min(0.95, rate * 18), rate * 0.1)


def wandering(rng: np.random.Generator, rate: float) -> np.ndarray:
    """The rate of an arm wanders by half (log-sd 0.5), with a memory of two minutes."""
    keep = math.exp(-UNIT_S / 120)
    state, states = rng.normal(), []
    for _ in range(UNITS):
        states.append(state)
        state = keep * state + math.sqrt(1 - keep**2) * rng.normal()
    return np.clip(rate * np.exp(0.5 * np.array(states) - 0.125), 0, 1)


def alike(rng: np.random.Generator, rate: float) -> np.ndarray:
    """Requests of one unit and arm fare alike (beta-distributed rate): sessions, retries."""
    return rng.beta(2 * rate, 2 * (1 - rate), UNITS)


WORLDS = {"independent": independent, "alike": alike, "bursts": bursts, "wandering": wandering}


@dataclass(frozen=True)
class Scores:
    """How one engine did in one world."""

    world: str
    rate: float
    engine: str
    false_fail: float
    false_pass: float
    passes: float
    """Of equal canaries, within two hours."""
    minutes: float
    """To a pass, median."""


def compare(seed: int, runs: int) -> Iterator[Scores]:
    for number, (name, world) in enumerate(WORLDS.items()):
        for rate in (4.0, 40.0):
            for engine, make in ENGINES.items():
                rng = np.random.default_rng([seed, number, int(rate)])
                margin = [_run(make(), rng, rate, world, AT_MARGIN) for _ in range(runs)]
                equal = [_run(make(), rng, rate, world, EQUAL) for _ in range(runs)]
                yield Scores(
                    name,
                    rate,
                    engine,
                    sum(fail < math.inf for fail, _ in margin) / runs,
                    sum(passed < math.inf for _, passed in margin) / runs,
                    sum(passed < math.inf for _, passed in equal) / runs,
                    float(np.median([passed for _, passed in equal])) * UNIT_S / 60,
                )


def _run(
    engine: Engine,
    rng: np.random.Generator,
    rate: float,
    world: Callable[[np.random.Generator, float], np.ndarray],
    canary_rate: float,
) -> tuple[float, float]:
    """Return the units after which the engine says fail and pass, at a weight of 25 %."""
    canary = rng.poisson(rate * UNIT_S * 0.25, UNITS)
    stable = rng.poisson(rate * UNIT_S * 0.75, UNITS)
    canary_bad = rng.binomial(canary, world(rng, canary_rate))
    stable_bad = rng.binomial(stable, world(rng, AT_MARGIN))
    failed = passed = math.inf
    for index in range(UNITS):
        engine.add(Unit(canary[index], canary_bad[index], stable[index], stable_bad[index]))
        if failed == math.inf and engine.log_fail >= BAR:
            failed = index + 1
        if passed == math.inf and engine.log_pass >= BAR:
            passed = index + 1
        if passed < math.inf and failed < math.inf:
            break
    return failed, passed
