"""When sessions start."""

from itertools import pairwise
from random import Random

import pytest

from tidegate.load.arrivals import Shape, bounded, even, shaped


def starts(shape: Shape, seed: int = 1) -> list[float]:
    arrivals = shaped(Random(seed), shape.rate, shape.peak)
    return list(bounded(arrivals, shape.duration_s, None))


def between(arrivals: list[float], low: float, high: float) -> int:
    return sum(low <= at < high for at in arrivals)


def test_even_arrivals_have_equal_distances():
    arrivals = list(bounded(even(10), 3, None))
    assert all(later - at == pytest.approx(0.1) for at, later in pairwise(arrivals))
    assert len(arrivals) == 29


def test_a_ramp_grows_from_its_first_rate_to_its_last():
    shape = Shape(first=10, last=100, duration_s=60)
    arrivals = starts(shape)
    assert len(arrivals) == pytest.approx(shape.expected, rel=0.1)
    assert between(arrivals, 0, 5) < between(arrivals, 30, 35) < between(arrivals, 55, 60)
    assert between(arrivals, 50, 60) == pytest.approx(10 * 92.5, rel=0.15)


def test_bursts_come_at_their_times_and_are_so_much_higher():
    shape = Shape(first=50, last=50, duration_s=100, burst_factor=5, burst_every_s=10, burst_s=2)
    arrivals = starts(shape)
    bursting = sum(at % 10 >= 8 for at in arrivals)
    assert bursting == pytest.approx(10 * 2 * 250, rel=0.1)
    assert len(arrivals) - bursting == pytest.approx(10 * 8 * 50, rel=0.1)
    assert len(arrivals) == pytest.approx(shape.expected, rel=0.1)


def test_a_pause_can_be_a_burst_of_nothing():
    shape = Shape(first=50, last=50, duration_s=20, burst_factor=0, burst_every_s=10, burst_s=5)
    assert between(starts(shape), 5, 10) == 0
    assert between(starts(shape), 0, 5) > 150


def test_the_same_seed_gives_the_same_starts():
    shape = Shape(first=10, last=20, duration_s=10)
    assert starts(shape) == starts(shape)
    assert starts(shape, 1) != starts(shape, 2)
