"""How much the canary may get."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.rollout.capacity import Load, headroom, limit

percents = st.integers(0, 100)


@given(desired=percents, cap=st.none() | percents, now_at=percents)
def test_the_effective_weight_is_never_more_than_wanted_or_carried(desired, cap, now_at):
    effective = limit(desired, cap, now_at)
    assert effective <= desired or effective == min(now_at, desired)
    assert cap is None or effective <= cap


@given(desired=percents, cap=percents, now_at=percents)
def test_a_cap_that_stays_gives_a_weight_that_stays(desired: int, cap: int, now_at: int):
    once = limit(desired, cap, now_at)
    assert limit(desired, cap, once) == once


def test_it_falls_at_once_and_rises_only_for_something():
    assert limit(50, 20, 30) == 20
    assert limit(50, 33, 30) == 30
    assert limit(50, 35, 30) == 35
    assert limit(32, 32, 30) == 32


BUSY = Load(ready=4, tokens_per_s=4000, usage=0.8)


def test_an_equal_pool_can_take_everything_once_it_is_measured():
    assert headroom(Load(ready=4, tokens_per_s=1000, usage=0.2), BUSY).cap == 100


def test_a_smaller_pool_is_never_flooded():
    small = headroom(Load(ready=1, tokens_per_s=1000, usage=0.8), BUSY)
    assert small.cap == 22
    assert "1250 tokens/s (measured)" in small.message


def test_replicas_say_nothing_where_throughput_is_known():
    slow = headroom(Load(ready=8, tokens_per_s=400, usage=0.8), BUSY)
    assert slow.cap == 10


def test_an_idle_canary_is_estimated_with_care():
    found = headroom(Load(ready=4), BUSY)
    assert found.cap == 56
    assert "estimated" in found.message


def test_a_queue_at_the_canary_means_it_is_full():
    found = headroom(Load(ready=2, tokens_per_s=500, usage=0.5, waiting=9), BUSY)
    assert found.cap == 10


def test_no_ready_endpoint_carries_nothing():
    assert headroom(Load(ready=0), BUSY).cap == 0


def test_too_little_traffic_tells_nothing():
    assert headroom(Load(ready=2), Load(ready=2, tokens_per_s=1, usage=0.01)).cap is None


def test_what_an_endpoint_once_did_counts():
    found = headroom(Load(ready=4, best_tokens_per_s=2000), BUSY)
    assert found.cap == 100


def test_a_pool_that_was_never_full_is_not_taken_to_be_at_its_end():
    canary = Load(ready=2, tokens_per_s=700, usage=0.1, best_tokens_per_s=350)
    stable = Load(ready=2, tokens_per_s=2100, usage=0.15, best_tokens_per_s=1200)
    assert headroom(canary, stable).cap == 100
