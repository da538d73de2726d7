"""How much slower each endpoint of a pool is than the others, and how sure that is.

For each endpoint a logarithm is kept, 0 where it is as fast as most, with its variance: a Kalman
filter in one dimension (Kalman, 1960). While an endpoint is silent both go back to where nothing
is known, the logarithm to 0 and the variance to `UNKNOWN`, as an Ornstein-Uhlenbeck process does.
So the first answer after a silence counts for much, and one of many for little.

Who picks by what is known alone never learns that it changed: an endpoint whose first answers
were slow would be left alone for as long as the others can carry all. So `hope` takes each to be
as fast as it may well be (`exploration` standard deviations below what is expected; Lai and
Robbins, 1985, is the idea), and an endpoint that was not heard of for long is tried again, sooner
if it was a little slower than if it was much slower.

An answer that is wildly wrong says less than it seems to: a stall must not condemn an endpoint.
Its noise counts as Student's t with `TAIL` degrees of freedom has it. Those that keep being
wrong move the factor all the same. And answers that were awaited at the same time say the same
thing: those of requests that began before the last one taught count a part.
"""

import math
from typing import Final

import numpy as np

from tidegate.picker.vectors import Vector

UNKNOWN: Final = 0.25
"""Variance of the logarithm where nothing was heard for long: a factor of 1.6, either way."""
NEW: Final = 0.1
"""The same of an endpoint that is new: a pool's servers are of one kind, as a rule."""
NOISE: Final = 0.1
"""Variance of one observation's logarithm."""
TAIL: Final = 3.0
"""Degrees of freedom of the noise; the fewer, the less a wild one counts."""
ALIKE: Final = 8.0
"""How many observations of the same time count as one."""
PAUSE_S: Final = 0.01
"""Between two observations of an endpoint: those that come faster cost more than they tell."""
SLOWEST: Final = math.log(50.0)
"""Bound of the logarithms, both ways."""


class Factors:
    """The factors of a pool's endpoints, by slot."""

    __slots__ = (
        "_deviations",
        "_heard_at",
        "_logs",
        "_taught_at",
        "_variances",
        "expected",
        "hope",
    )

    def __init__(self, exploration: float) -> None:
        """Know nothing of no endpoint; `exploration` is in standard deviations."""
        self._deviations = exploration
        self._logs = np.zeros(0)
        self._variances = np.zeros(0)
        self._taught_at = np.zeros(0)
        self._heard_at: list[float] = []
        self.expected: Vector = np.zeros(0)
        """What each is expected to be; most are about 1."""
        self.hope: Vector = np.zeros(0)
        """What each may well be; never more than is expected."""

    def resize(self, slots: int) -> None:
        """Have room for `slots` endpoints."""
        more = slots - len(self._logs)
        self._logs = np.concatenate([self._logs, np.zeros(more)])
        self._variances = np.concatenate([self._variances, np.full(more, NEW)])
        self._taught_at = np.concatenate([self._taught_at, np.full(more, -math.inf)])
        self._heard_at += [-math.inf] * more
        self._work_out()

    def forget(self, slot: int) -> None:
        """Take the endpoint in `slot` for a new one."""
        self._logs[slot], self._variances[slot] = 0.0, NEW
        self._taught_at[slot] = self._heard_at[slot] = -math.inf
        self._work_out()

    def variance(self, slot: int) -> float:
        """Return how unsure the logarithm is."""
        return float(self._variances[slot])

    def due(self, slot: int, now: float) -> bool:
        """Return whether another observation is worth its cost, which is then to be taken."""
        heard_at = self._heard_at
        if now - heard_at[slot] < PAUSE_S:
            return False
        heard_at[slot] = now
        return True

    def learn(
        self, slot: int, error: float, began: float, now: float, share: float, unsure: float
    ) -> None:
        """Take an observation.

        Args:
            slot: Of the endpoint.
            error: Logarithm of what was observed over what was expected.
            began: When what was observed began.
            now: When it ended.
            share: How much of what was observed the factor stands for, 0..1.
            unsure: Variance of what was expected, as a logarithm.

        """
        noise = NOISE
        if began < self._taught_at[slot]:
            noise *= ALIKE
        else:
            self._taught_at[slot] = now
        spread = unsure + noise
        # Weights of a t distribution: expectation of the noise's precision, given the error.
        wild = (TAIL + error * error / spread) / (TAIL + 1.0)
        if wild > 1.0:
            spread = unsure + noise * wild
        variance = float(self._variances[slot])
        gain = variance * share / spread
        log = float(self._logs[slot]) + gain * error
        log = self._logs[slot] = min(max(log, -SLOWEST), SLOWEST)
        variance = self._variances[slot] = max(1e-6, variance * (1.0 - gain * share))
        self.expected[slot] = math.exp(log)
        self.hope[slot] = math.exp(log - self._deviations * math.sqrt(variance))

    def relax(self, rest: float) -> float:
        """Let `1 - rest` of what is known be forgotten; return what most had in common.

        That is taken out of all of them: whoever calls gives it to the model that they multiply.
        """
        self._logs *= rest
        self._variances += (UNKNOWN - self._variances) * (1.0 - rest * rest)
        middle = _median(self._logs) if len(self._logs) else 0.0
        self._logs -= middle
        self._work_out()
        return math.exp(middle)

    def _work_out(self) -> None:
        self.expected = np.exp(self._logs)
        self.hope = np.exp(self._logs - self._deviations * np.sqrt(self._variances))


def _median(values: Vector) -> float:
    # np.median imports numpy.ma when it is first called: a fifth of a second, amid requests.
    ordered, count = np.sort(values), len(values)
    return float(ordered[(count - 1) // 2] + ordered[count // 2]) / 2
