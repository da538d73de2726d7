"""What a scheduler makes of its plugins' answers."""

import math
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.config import default_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.request import Nobody, Request
from tidegate.picker.schedule import Weighted, explain, schedule
from tidegate.picker.state import EndpointState
from tidegate.testing.pools import endpoints, pool_of, scheduled

NOW = 100.0
states = st.builds(
    EndpointState,
    load=st.integers(0, 5),
    usable_from=st.sampled_from([0.0, NOW, NOW + 1, math.inf]),
)
pools = st.lists(states, max_size=12).map(
    lambda states: [Endpoint(f"10.0.0.{index}:80", state) for index, state in enumerate(states)]
)
seeds = st.integers(0, 2**32)


@dataclass(frozen=True)
class Says:
    """A scorer that was told its answer."""

    scores: tuple[float, ...]

    def score(self, candidates):
        return np.array(self.scores)


@dataclass(frozen=True)
class Keeps:
    """A filter that was told whom to keep."""

    keep: tuple[bool, ...]
    reason: ClassVar[str] = "Kept"

    def filter(self, candidates):
        return np.array(self.keep, bool)


def pick(members, seed=0, scheduler=None, **request):
    return schedule(pool_of(members, scheduler), Request(NOW, "m", **request), Random(seed))


def says(*scores, weight=1.0, trusted=False):
    return Weighted("says", Says(scores), weight, trusted)


@given(pools, seeds)
def test_the_pick_is_a_least_loaded_usable_endpoint(members, seed):
    chosen = pick(members, seed)
    usable = [e for e in members if e.state.usable_from <= NOW] or members
    if not members:
        assert chosen == Nobody("NoEndpoints")
    else:
        assert chosen.endpoint in usable
        assert chosen.endpoint.state.load == min(e.state.load for e in usable)


@given(pools.filter(len), seeds)
def test_the_fallbacks_are_the_other_usable_ones_best_first(members, seed):
    chosen = pick(members, seed)
    usable = [e for e in members if e.state.usable_from <= NOW] or members
    named = [chosen.endpoint, *chosen.fallbacks()]
    assert Counter(e.address for e in named) == Counter(e.address for e in usable)
    loads = [e.state.load for e in named]
    assert loads == sorted(loads)
    assert list(chosen.scores()) == sorted(chosen.scores(), reverse=True)


@given(pools.filter(len), seeds)
def test_the_same_seed_gives_the_same_pick(members, seed):
    first, second = pick(members, seed), pick(members, seed)
    assert (first.endpoint, first.fallbacks()) == (second.endpoint, second.fallbacks())


@given(pools.filter(len))
def test_explain_agrees_with_the_pick(members):
    pool = pool_of(members)
    rows = explain(pool.scheduler.profile, pool, Request(NOW))
    assert [row.total for row in rows] == list(pick(members).scores())
    assert all(row.total == sum(part for _, part in row.parts) for row in rows)
    assert {name for row in rows for name, _ in row.parts} == {"least-load-scorer"}


def test_equals_share_the_picks():
    pool, rng = pool_of(endpoints(3, 3, 3, 9)), Random(5)
    chosen = Counter(schedule(pool, Request(NOW), rng).endpoint.address for _ in range(3000))
    assert len(chosen) == 3
    assert min(chosen.values()) > 1000 - 4 * 26  # 4 sigma of a binomial, n 3000, p 1/3


def test_equal_fallbacks_are_shared():
    pool, rng = pool_of(endpoints(1, 1, 1, 1)), Random(7)
    following = Counter(
        schedule(pool, Request(NOW), rng).fallbacks()[0].address for _ in range(400)
    )
    assert len(following) == 4
    assert min(following.values()) > 100 - 4 * 8.7  # 4 sigma of a binomial, n 400, p 1/4


def test_when_nobody_is_well_everybody_stays_in_play():
    members = [
        Endpoint("a:1", EndpointState(load=4, usable_from=math.inf)),
        Endpoint("b:1", EndpointState(load=1, usable_from=NOW + 9)),
    ]
    chosen = pick(members)
    assert [chosen.endpoint.address, chosen.fallbacks()[0].address] == ["b:1", "a:1"]


def test_an_ejected_endpoint_comes_back_when_its_time_is_over():
    pool = pool_of([Endpoint("a:1", EndpointState(usable_from=NOW + 1)), *endpoints(3)])
    rng = Random(1)
    assert schedule(pool, Request(NOW), rng).endpoint.address != "a:1"
    assert schedule(pool, Request(NOW + 1), rng).endpoint.address == "a:1"


def test_weights_decide_between_scorers():
    members = endpoints(0, 0)
    for weights, winner in (((2.0, 1.0), 0), ((1.0, 2.0), 1)):
        scheduler = scheduled(says(1.0, 0.0, weight=weights[0]), says(0.0, 1.0, weight=weights[1]))
        assert pick(members, scheduler=scheduler).endpoint is members[winner]


@pytest.mark.parametrize("wild", [7.0, math.inf])
def test_a_scorer_cannot_shout_louder_than_its_weight(wild):
    members = endpoints(0, 0)
    scheduler = scheduled(says(wild, 0.0), says(0.0, 1.0, weight=1.5))
    assert pick(members, scheduler=scheduler).endpoint is members[1]


@pytest.mark.parametrize("broken", [math.nan, -1.0, -math.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_a_broken_score_counts_as_nothing(broken, position):
    scores = [0.5, 0.5]
    scores[position] = broken
    chosen = pick(endpoints(0, 0), scheduler=scheduled(says(*scores)))
    assert chosen.scores() == (0.5, 0.0)


def test_a_scorer_that_forgets_endpoints_is_an_error():
    with pytest.raises(ValueError, match="says: found scores of shape"):
        pick(endpoints(0, 0), scheduler=scheduled(says(1.0)))


def test_without_scorers_chance_decides():
    members = endpoints(1, 2, 3)
    assert len({pick(members, seed, scheduled()).endpoint for seed in range(50)}) == 3


def test_a_filter_that_leaves_nobody_says_why():
    scheduler = scheduled(filters=[Keeps((True, False)), Keeps((False,))])
    assert pick(endpoints(0, 0), scheduler=scheduler) == Nobody("Kept")


def test_filters_narrow_one_after_the_other():
    members = endpoints(0, 0, 0)
    scheduler = scheduled(filters=[Keeps((True, False, True)), Keeps((False, True))])
    assert pick(members, scheduler=scheduler).endpoint is members[2]


@given(pools.filter(len), st.sets(st.integers(0, 12)), seeds)
def test_a_subset_is_kept(members, places, seed):
    subset = frozenset(f"10.0.0.{place}:80" for place in places)
    chosen = pick(members, seed, subset=subset)
    eligible = [e for e in members if e.address in subset]
    if not eligible:
        assert chosen == Nobody("NoEndpoints")
    else:
        named = {e.address for e in [chosen.endpoint, *chosen.fallbacks()]}
        assert named <= subset


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.sets(st.integers(0, 8)), seeds)
def test_an_endpoint_that_left_is_never_picked(loads, leaving, seed):
    members = endpoints(*loads)
    pool = pool_of(members, default_scheduler())
    staying = [e for i, e in enumerate(members) if i not in leaving]
    pool.set_endpoints(staying)
    chosen = schedule(pool, Request(NOW), Random(seed))
    if not staying:
        assert chosen == Nobody("NoEndpoints")
    else:
        assert {chosen.endpoint, *chosen.fallbacks()} == set(staying)
