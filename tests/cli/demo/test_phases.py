"""What the demo holds against its weights."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.cli.demo.phases import CANARY, STABLE, Phase, across, file, schedule
from tidegate.cli.demo.probe import Seen, effect
from tidegate.load.result import Result


def seen(at: float, pool: str = STABLE, **fields) -> Result:
    return Result(0, 0, at, status=200, pool=pool, **fields)


def phase(canary: int, canary_seen: int, total: int) -> Phase:
    results = [seen(1, CANARY)] * canary_seen + [seen(1)] * (total - canary_seen)
    return Phase("x", 100 - canary, canary, began_at=0.0, results=results)


def test_the_schedule_goes_out_in_steps_and_back_in_one():
    weights = [(one.stable, one.canary) for one in schedule()]
    assert weights == [(100, 0), (90, 10), (50, 50), (0, 100), (100, 0)]


@pytest.mark.parametrize(
    ("canary_seen", "kept"), [(100, True), (137, True), (139, False), (63, True), (61, False)]
)
def test_a_share_may_be_four_standard_deviations_off(canary_seen, kept):
    # 1000 sessions at 10 %: a standard deviation is 9.49 sessions.
    assert phase(10, canary_seen, 1000).kept() is kept


@pytest.mark.parametrize("canary", [0, 100])
def test_all_or_nothing_must_be_exact(canary):
    expected = 10 * canary
    assert phase(canary, expected, 1000).kept()
    off = phase(canary, expected + (1 if canary == 0 else -1), 1000)
    assert not off.kept()
    assert math.isinf(off.deviation())


def test_a_request_belongs_to_the_phase_in_which_it_started():
    first, second = Phase("a", 100, 0, began_at=0.0), Phase("b", 90, 10, began_at=10.0)
    file(seen(9.99, duration_s=5.0), [first, second])
    file(seen(10.0), [first, second])
    assert [len(one.results) for one in (first, second)] == [1, 1]


def test_requests_before_the_effect_are_counted_but_not_in_the_share():
    moving = Phase("b", 0, 100, began_at=10.0, effect_s=0.5)
    for at in (10.1, 10.49):
        file(seen(at, STABLE), [moving])
    file(seen(10.5, CANARY), [moving])
    assert len(moving.results) == 3
    assert moving.share == 1
    assert moving.kept()


def test_requests_before_the_effect_was_sure_are_not_in_the_share():
    moving = Phase("b", 0, 100, began_at=10.0, effect_s=0.1, settled_at=10.4)
    file(seen(10.2, STABLE), [moving])
    file(seen(10.4, CANARY), [moving])
    assert len(moving.results) == 2
    assert moving.share == 1


def test_requests_that_were_answered_after_the_end_are_not_in_the_share():
    before = Phase("a", 100, 0, began_at=0.0, ended_at=10.0)
    file(seen(9.0, STABLE, ttft_s=0.5, duration_s=3.0), [before])
    file(seen(9.9, CANARY, ttft_s=0.2, duration_s=0.5), [before])
    assert len(before.results) == 2
    assert before.share == 0
    assert before.kept()


def test_failures_are_counted_and_give_no_latency():
    one = Phase("a", 100, 0, began_at=0.0)
    file(seen(1, ttft_s=0.1), [one])
    file(seen(1, ttft_s=9.0, error="reset"), [one])
    assert one.failed == 1
    assert one.ttft(STABLE).max == pytest.approx(0.1)


def test_requests_under_way_at_a_change_are_counted_once():
    phases = [
        Phase("a", 100, 0, began_at=0.0),
        Phase("b", 90, 10, began_at=10.0, effect_s=0.1),
        Phase("c", 50, 50, began_at=20.0, effect_s=0.1),
    ]
    results = [seen(9, duration_s=15.0), seen(9.5, duration_s=1.0), seen(11, duration_s=1.0)]
    assert across(results, phases) == 2


def test_the_effect_is_when_the_last_old_routing_is_past():
    before = {0: STABLE, 1: STABLE, 2: STABLE}
    probes = [
        Seen(0, 1.0, STABLE),
        Seen(1, 1.1, CANARY),  # one worker already has it
        Seen(0, 1.2, STABLE),  # another one not yet
        Seen(2, 1.25, STABLE),  # this session stays: it says nothing
        Seen(1, 1.3, CANARY),
        Seen(0, 1.4, CANARY),
    ]
    assert effect(probes, before) == 1.3


@given(st.floats(0.0, 1.0), st.integers(1, 50), st.integers(1, 20))
def test_a_clean_switch_is_found_within_one_round(at, every_ms, sessions):
    before = dict.fromkeys(range(sessions), STABLE)
    every = every_ms / 1000
    probes = [
        Seen(number % sessions, number * every, CANARY if number * every >= at else STABLE)
        for number in range(int(at / every) + 3 * sessions + 1)
    ]
    assert 0 <= effect(probes, before) - at <= every * 1.001
