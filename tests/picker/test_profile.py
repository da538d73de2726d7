"""What a profile makes of its plugins' answers."""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.config import default_profile
from tidegate.picker.filters import FILTERS
from tidegate.picker.pickers import PICKERS
from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.plugins import Endpoint, Request
from tidegate.picker.profile import Profile, Weighted, explain, run
from tidegate.picker.scorers import SCORERS
from tidegate.picker.scorers.load import LeastLoadScorer
from tidegate.picker.state import EndpointState

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

    def score(self, request, endpoints):
        return list(self.scores)


def endpoints(*loads):
    return [Endpoint(f"10.0.0.{i}:80", EndpointState(load=load)) for i, load in enumerate(loads)]


def profile_of(*weighted, **kwargs):
    return Profile((), tuple(weighted), MaxScorePicker(), **kwargs)


def pick(pool, seed=0, profile=None):
    return run(profile or default_profile(), Request(NOW, "m"), pool, Random(seed))


@given(pools, seeds)
def test_the_pick_is_a_least_loaded_usable_endpoint(pool, seed):
    chosen = pick(pool, seed)
    usable = [e for e in pool if e.state.usable_from <= NOW] or pool
    if not pool:
        assert chosen is None
    else:
        assert chosen.endpoint in usable
        assert chosen.endpoint.state.load == min(e.state.load for e in usable)


@given(pools.filter(len), seeds)
def test_the_fallbacks_are_the_other_usable_ones_best_first(pool, seed):
    chosen = pick(pool, seed)
    usable = [e for e in pool if e.state.usable_from <= NOW] or pool
    named = [chosen.endpoint, *chosen.fallbacks()]
    assert Counter(e.address for e in named) == Counter(e.address for e in usable)
    loads = [e.state.load for e in named]
    assert loads == sorted(loads)


@given(pools.filter(len), seeds)
def test_the_same_seed_gives_the_same_pick(pool, seed):
    assert pick(pool, seed) == pick(pool, seed)


@given(pools.filter(len))
def test_explain_agrees_with_the_pick(pool):
    rows = explain(default_profile(), Request(NOW), pool)
    chosen = pick(pool)
    assert [row.total for row in rows] == sorted(chosen.scores, reverse=True)
    assert all(row.total == sum(part for _, part in row.parts) for row in rows)
    assert {name for row in rows for name, _ in row.parts} == {"least-load-scorer"}


def test_equals_share_the_picks():
    pool, rng = endpoints(3, 3, 3, 9), Random(5)
    chosen = Counter(
        run(default_profile(), Request(NOW), pool, rng).endpoint.address for _ in range(3000)
    )
    assert len(chosen) == 3
    assert min(chosen.values()) > 1000 - 4 * 26  # 4 sigma of a binomial, n 3000, p 1/3


def test_when_nobody_is_well_everybody_stays_in_play():
    pool = [
        Endpoint("a:1", EndpointState(load=4, usable_from=math.inf)),
        Endpoint("b:1", EndpointState(load=1, usable_from=NOW + 9)),
    ]
    chosen = pick(pool)
    assert [chosen.endpoint.address, chosen.fallbacks()[0].address] == ["b:1", "a:1"]


def test_weights_decide_between_scorers():
    pool = endpoints(0, 0)
    first, second = Says((1.0, 0.0)), Says((0.0, 1.0))
    for weights, winner in (((2.0, 1.0), 0), ((1.0, 2.0), 1)):
        profile = profile_of(
            Weighted("first", first, weights[0]), Weighted("second", second, weights[1])
        )
        assert pick(pool, profile=profile).endpoint is pool[winner]


@pytest.mark.parametrize("wild", [7.0, math.inf])
def test_a_scorer_cannot_shout_louder_than_its_weight(wild):
    profile = profile_of(Weighted("wild", Says((wild, 0.0))), Weighted("b", Says((0.0, 1.0)), 1.5))
    pool = endpoints(0, 0)
    assert pick(pool, profile=profile).endpoint is pool[1]


@pytest.mark.parametrize("broken", [math.nan, -1.0, -math.inf])
@pytest.mark.parametrize("position", [0, 1])
def test_a_broken_score_counts_as_nothing(broken, position):
    scores = [0.5, 0.5]
    scores[position] = broken
    chosen = pick(endpoints(0, 0), profile=profile_of(Weighted("broken", Says(tuple(scores)))))
    assert sorted(chosen.scores) == [0.0, 0.5]


def test_a_scorer_that_forgets_endpoints_is_an_error():
    with pytest.raises(ValueError, match="short: found 1 scores, expected one for each of 2"):
        pick(endpoints(0, 0), profile=profile_of(Weighted("short", Says((1.0,)))))


def test_without_scorers_chance_decides():
    pool = endpoints(1, 2, 3)
    assert {pick(pool, seed, profile_of()).endpoint.address for seed in range(50)} == {
        e.address for e in pool
    }
    assert all(row.total == 0 for row in explain(profile_of(), Request(NOW), pool))


def test_every_endpoint_of_a_large_pool_has_the_same_chance():
    pool, rng = endpoints(*[1] * 100), Random(3)
    profile = profile_of(Weighted("load", LeastLoadScorer()), sample=10)
    chosen = Counter(run(profile, Request(NOW), pool, rng).endpoint.address for _ in range(20_000))
    assert len(chosen) == 100
    assert max(abs(count - 200) for count in chosen.values()) < 5 * 14.1  # 5 sigma


@given(st.integers(65, 300), seeds)
def test_of_a_large_pool_distinct_neighbours_are_scored(count, seed):
    chosen = pick(endpoints(*range(count)), seed)
    named = {chosen.endpoint.address, *(e.address for e in chosen.fallbacks())}
    assert len(named) == 64


def test_of_a_large_pool_the_usable_are_found_first():
    pool = [Endpoint(f"h:{i}", EndpointState(usable_from=math.inf)) for i in range(500)]
    pool[321].state = EndpointState(load=40)
    assert pick(pool).endpoint is pool[321]
    assert pick(pool).fallbacks() == []


def test_few_usable_ones_of_a_large_pool_are_all_found():
    usable = EndpointState()
    pool = [Endpoint(f"h:{i}", EndpointState(usable_from=math.inf)) for i in range(500)]
    for endpoint in pool[::50]:
        endpoint.state = usable
    chosen = pick(pool)
    assert Counter(e.address for e in [chosen.endpoint, *chosen.fallbacks()]) == Counter(
        e.address for e in pool[::50]
    )


@given(st.integers(65, 300), st.integers(1, 3), seeds)
def test_a_large_pool_with_some_unwell_serves_from_the_usable(count, every, seed):
    pool = endpoints(*[0] * count)
    for endpoint in pool[::every]:
        endpoint.state = EndpointState(usable_from=NOW + 1)
    chosen = pick(pool, seed)
    named = [chosen.endpoint, *chosen.fallbacks()]
    assert all((e.state.usable_from <= NOW) == (every > 1) for e in named)


def test_a_filter_that_leaves_nobody_is_passed_over():
    class Nobody:
        def filter(self, request, endpoints):
            return []

    pool = [Endpoint("a:1", EndpointState(usable_from=NOW + 1)), Endpoint("b:1")]
    profile = Profile((Nobody(), FILTERS["healthy-filter"](), Nobody()), (), MaxScorePicker())
    assert pick(pool, profile=profile).endpoint is pool[1]


def test_equal_fallbacks_are_shared():
    pool, rng = endpoints(1, 1, 1, 1), Random(7)
    following = Counter(
        run(default_profile(), Request(NOW), pool, rng).fallbacks()[0].address for _ in range(400)
    )
    assert len(following) == 4
    assert min(following.values()) > 100 - 4 * 8.7  # 4 sigma of a binomial, n 400, p 1/4


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_load_scores_fall_with_load_and_stay_in_range(loads):
    scores = LeastLoadScorer().score(Request(NOW), endpoints(*loads))
    assert all(0 < score <= 1 for score in scores)
    by_load = sorted(zip(loads, scores, strict=True))
    assert all(a[1] > b[1] for a, b in pairwise(by_load) if a[0] < b[0])


def test_a_load_of_half_at_scores_a_half():
    assert LeastLoadScorer(half_at=20).score(Request(NOW), endpoints(0, 20)) == [1.0, 0.5]


def test_the_tables_name_plugins_as_they_document_themselves():
    for table in (FILTERS, SCORERS, PICKERS):
        for name, plugin in table.items():
            assert plugin.__doc__.startswith(f"`{name}`")
            plugin()
