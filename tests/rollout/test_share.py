"""Shares beyond chance."""

from random import Random

import pytest

from tidegate.rollout.share import is_off


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.1, 0.5, 0.95, 1.0])
def test_a_data_plane_that_honours_the_weights_is_not_blamed(share: float):
    for seed in range(30):
        rng, canary = Random(seed), 0
        for total in range(1, 300):
            canary += rng.uniform(0, 1) < share
            assert not is_off(canary, total, share), (seed, canary, total)


@pytest.mark.parametrize(
    ("canary", "total", "share"),
    [(0, 120, 0.1), (60, 100, 0.1), (60, 200, 0.5), (0, 30, 1.0), (20, 20, 0.05), (30, 100, 0.0)],
)
def test_one_that_does_not_is_found(canary: int, total: int, share: float):
    assert is_off(canary, total, share)


def test_nothing_counted_says_nothing():
    assert not is_off(0, 0, 0.5)
