"""When sessions start: offsets in seconds from the beginning, in order."""

from collections.abc import Iterator
from random import Random


def poisson(rng: Random, rate: float) -> Iterator[float]:
    """Yield the arrivals of a Poisson process with `rate` a second, for ever."""
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        yield at


def bounded(arrivals: Iterator[float], duration_s: float, most: int | None) -> Iterator[float]:
    """Yield those within `duration_s`, and not more than `most`."""
    for number, at in enumerate(arrivals):
        if at >= duration_s or (most is not None and number >= most):
            return
        yield at
