"""When the demo counts as good."""

import pytest

from tidegate.cli.demo.phases import CANARY, STABLE
from tidegate.cli.demo.rollout import Show
from tidegate.load.result import Result


@pytest.fixture
def show() -> Show:
    """A demo that was played to its end: ten sessions a phase, as the weights say."""
    show = Show(rate=10.0, sessions=10, clock=lambda: 0.0)
    for number, phase in enumerate(show.phases):
        phase.began_at = 10.0 * number
        show.began.append(phase)
        for index in range(10):
            pool = CANARY if index < phase.canary / 10 else STABLE
            show.take(Result(index, 0, phase.began_at + index, status=200, pool=pool))
    return show


def test_a_demo_as_it_should_be_is_good(show):
    assert show.good


def test_a_failed_request_makes_it_bad(show):
    show.take(Result(99, 0, 45.0, error="reset"))
    assert [one.error for one in show.failures] == ["reset"]
    assert not show.good


def test_a_failed_probe_makes_it_bad(show):
    show.probe_failures.append(Result(0, 0, 0.0, error="status", status=503))
    assert not show.good


def test_one_session_at_a_weight_of_zero_makes_it_bad(show):
    show.take(Result(99, 0, 5.0, status=200, pool=CANARY))
    assert not show.good


def test_a_demo_that_ended_early_is_not_good(show):
    show.began.pop()
    assert not show.good


def test_pools_count_by_name_with_or_without_their_namespace(show):
    show.take(Result(99, 0, 5.0, status=200, pool=f"default/{STABLE}"))
    assert show.good
