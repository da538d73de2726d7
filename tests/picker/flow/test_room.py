"""How full endpoints look, with good metrics, bad ones and none."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.config import default_scheduler, simple_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.flow.room import PoolRoom
from tidegate.picker.flow.settings import Saturation
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.state import Finished, Sample, ScrapeFailed, Shared, Started
from tidegate.picker.ticket import begin


def room_of(*endpoints: Endpoint, settings: Saturation | None = None) -> PoolRoom:
    pool = Pool("p", default_scheduler())
    pool.set_endpoints(endpoints)
    return PoolRoom(pool, settings or Saturation())


def busy(endpoint: Endpoint, requests: int = 1, prefill: int = 0, now: float = 0.0) -> Endpoint:
    for _ in range(requests):
        endpoint.note(Started(prefill=prefill, tokens=100), now)
    return endpoint


def usage(endpoint: Endpoint, now: float = 0.0) -> float:
    return float(room_of(endpoint).usage(now)[0])


def test_a_server_with_requests_in_its_queue_is_full():
    one = busy(Endpoint("a:1"), 12)
    one.note(Sample(waiting=5, running=7), 0.0)
    assert usage(one) >= 1.0


def test_a_full_kv_cache_is_full_and_prompts_on_their_way_count_to_it():
    one = busy(Endpoint("a:1"))
    one.note(Sample(running=1, kv_usage=0.9, capacity=100_000), 0.0)
    assert usage(one) == pytest.approx(1.0)
    one.note(Sample(running=1, kv_usage=0.8, capacity=100_000), 0.0)
    assert usage(one) < 1.0
    one.note(Started(prefill=10_000, tokens=10_100), 0.0)
    assert usage(one) >= 1.0


def test_unanswered_prompts_fill_a_server_that_says_nothing():
    one = busy(Endpoint("a:1"), 30, prefill=4000)
    assert usage(one) > 1.0


def test_a_slow_server_of_short_prompts_is_not_taken_to_be_full():
    one = Endpoint("a:1")
    pool = Pool("p", default_scheduler())
    pool.set_endpoints([one])
    for at in range(200):
        ticket = begin(pool, one, Request(float(at), prompt=20), float(at))
        ticket.answered(at + 5.0)
        ticket.ended(at + 6.0, ok=True, output=10)
    busy(one, 50, prefill=20)
    assert PoolRoom(pool, Saturation()).look(0.0, 1.0).least < 0.85


def test_old_numbers_are_not_believed_and_our_own_still_are():
    one = busy(Endpoint("a:1"), 12)
    one.note(Sample(waiting=50, running=7, kv_usage=1.0, capacity=1_000_000), 0.0)
    assert usage(one, now=1.0) >= 1.0
    assert usage(one, now=10.0) < 0.1
    busy(one, 30, prefill=4000, now=10.0)
    assert usage(one, now=10.0) > 1.0


def test_without_metrics_our_requests_tokens_stand_for_the_kv_cache():
    one = Endpoint("a:1")
    one.note(Sample(capacity=1000), 0.0)
    busy(one, 9)
    assert usage(one, now=10.0) == pytest.approx(1.0)


def test_many_requests_fill_a_server_only_where_a_limit_says_so():
    one = busy(Endpoint("a:1"), 50)
    assert usage(one) < 0.5
    limited = Saturation(max_concurrency=50)
    assert float(room_of(one, settings=limited).usage(0.0)[0]) == pytest.approx(1.0)


def test_an_objective_for_the_time_between_tokens_bounds_what_runs():
    settings = Saturation(itl_seconds=0.01)
    few, many = busy(Endpoint("a:1"), 2), busy(Endpoint("b:1"), 400)
    assert float(room_of(few, settings=settings).usage(0.0)[0]) < 1.0
    assert float(room_of(many, settings=settings).usage(0.0)[0]) >= 1.0


def test_there_is_room_as_long_as_one_server_has_some():
    full, free = busy(Endpoint("a:1"), 12), busy(Endpoint("b:1"))
    full.note(Sample(waiting=9, running=3), 0.0)
    look = room_of(full, free).look(0.0, 1.0)
    assert look.least < 0.1
    assert look.spare > 0


def test_servers_that_are_down_have_no_room():
    full, down = busy(Endpoint("a:1"), 12), Endpoint("b:1")
    full.note(Sample(waiting=9, running=3), 0.0)
    for _ in range(3):
        down.note(ScrapeFailed(), 0.0)
    assert room_of(full, down).look(0.0, 1.0).least >= 1.0


def test_a_pool_without_endpoints_holds_nobody_up():
    assert room_of().look(0.0, 1.0).least == 0.0


def test_a_profile_that_counts_no_tokens_goes_by_what_the_servers_say():
    one = busy(Endpoint("a:1"), 12)
    pool = Pool("p", simple_scheduler())
    pool.set_endpoints([one])
    one.note(Sample(waiting=5, running=7), 0.0)
    assert float(PoolRoom(pool, Saturation()).usage(0.0)[0]) >= 1.0


samples = st.builds(
    Sample,
    waiting=st.integers(0, 1000),
    running=st.integers(0, 1000),
    kv_usage=st.floats(0, 1),
    capacity=st.sampled_from([0, 100, 100_000]),
)
news = st.one_of(samples, st.builds(ScrapeFailed), st.builds(Finished, st.none()))


@given(st.lists(news, max_size=12), st.floats(0, 100))
def test_whatever_metrics_say_a_server_without_our_requests_gets_one(
    events: list[Sample | ScrapeFailed | Finished], later: float
):
    one = Endpoint("a:1")
    room = room_of(one)
    for event in events:
        one.note(event, 0.0)
    assert room.look(later, 1.0).least == 0.0
    one.note(Shared(in_flight=1), later)
    assert not math.isnan(room.look(later, 1.0).least)


busy_news = st.one_of(news, st.builds(Started, prefill=st.integers(0, 9000), tokens=st.just(50)))


@given(st.lists(st.lists(busy_news, max_size=8), min_size=1, max_size=5), st.floats(0, 5))
def test_a_few_are_looked_at_one_by_one_and_look_the_same(
    histories: list[list[Sample | ScrapeFailed | Finished | Started]], later: float
):
    endpoints = [Endpoint(f"{n}:1") for n in range(len(histories))]
    room = room_of(*endpoints, settings=Saturation(itl_seconds=0.05, max_concurrency=7))
    for endpoint, events in zip(endpoints, histories, strict=True):
        for event in events:
            endpoint.note(event, 0.0)
    assert room._usages(later) == pytest.approx(room.usage(later).tolist())
