"""When sessions start: offsets in seconds from the beginning, in order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the rate of starts goes over time.

    It grows in a straight line from `first` to `last` over `duration_s`, and is `burst_factor`
    times as high in the last `burst_s` of every `burst_every_s`.
    """

    first: float
    """Starts a second at the beginning."""
    last: float
    duration_s: float
    burst_factor: float = 1.0
    burst_every_s: float = 10.0
    burst_s: float = 1.0

    def rate(self, at: float) -> float:
        """Return how many starts a second are due at `at`."""
        grown = self.first + (self.last - self.first) * min(1.0, at / self.duration_s)
        bursting = at % self.burst_every_s >= self.burst_every_s - self.burst_s
        return grown * self.burst_factor if bursting else grown

    @property
    def peak(self) -> float:
        """The rate that is never exceeded."""
        return max(self.first, self.last) * max(1.0, self.burst_factor)

    @property
    def expected(self) -> float:
        """How many starts are due in all, bursts at their mean."""
        share = self.burst_s / self.burst_every_s
        mean = 1 + (self.burst_factor - 1) * share
        return (self.first + self.last) / 2 * self.duration_s * mean


def poisson(rng: Random, rate: float) -> Iterator[float]:
    """Yield the arrivals of a Poisson process with `rate` a second, for ever."""
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


def even(rate: float) -> Iterator[float]:
    """Yield arrivals at equal distances, for ever."""
    number = 0
    while True:
        number += 1
        yield number / rate


def shaped(rng: Random, rate: Callable[[float], float], peak: float) -> Iterator[float]:
    """Yield the arrivals of a Poisson process whose rate changes, for ever.

    By thinning: of a process at the peak's rate, each is kept with the chance that its time has
    (Lewis and Shedler, 1979).

    Args:
        rng: Chance.
        rate: The rate at a time; never above `peak`.
        peak: Arrivals a second.

    """
    for at in poisson(rng, peak):
        if rng.random() * peak < rate(at):
            yield at


def bounded(arrivals: Iterator[float], duration_s: float, most: int | None) -> Iterator[float]:
    """Yield those within `duration_s`, and not more than `most`."""
    for number, at in enumerate(arrivals):
        if at >= duration_s or (most is not None and number >= most):
            return
        yield at
