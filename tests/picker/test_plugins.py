"""What each filter, scorer and picker says."""

import math
from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.candidates import Candidates
from tidegate.picker.config import default_scheduler, parse_config
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pickers import PICKERS
from tidegate.picker.request import Nobody, Request
from tidegate.picker.schedule import schedule
from tidegate.picker.scorers import SCORERS
from tidegate.picker.scorers.load import LeastLoadScorer
from tidegate.picker.state import Adapters, EndpointState, Listed, Model, Sample
from tidegate.picker.ticket import begin
from tidegate.testing.pools import configured, endpoints, pool_of

NOW = 100.0
CHAIN = list(range(1000, 1020))
"""Twenty blocks of 64 tokens."""
samples = st.builds(
    Sample,
    waiting=st.integers(0, 50),
    running=st.integers(0, 300),
    kv_usage=st.floats(0, 1),
    capacity=st.integers(0, 100_000),
)


def scores(pool, plugin=None, **request):
    plugin = plugin or pool.scheduler.profile.scorers[0].scorer
    request = {"model": "m", **request}
    return plugin.score(Candidates(pool, Request(NOW, **request))).tolist()


def seen(*sampled, plugin="type: queue-scorer"):
    members = endpoints(*[0] * len(sampled))
    pool = configured(members, plugin)
    for endpoint, sample in zip(members, sampled, strict=True):
        endpoint.note(sample, NOW)
    return pool


def model_of(name):
    return Model(id=name, parent=None if name == "base" else "base")


def listing(*lists, plugin="type: lora-affinity-scorer", limit=2):
    members = endpoints(*[0] * len(lists))
    pool = configured(members, plugin)
    for endpoint, names in zip(members, lists, strict=True):
        endpoint.note(Sample(adapters=Adapters(limit)), NOW)
        endpoint.note(Listed(tuple(map(model_of, names))), NOW)
    return pool


EVERY = "plugins:\n" + "".join(f"- {{type: {kind}}}\n" for kind in SCORERS)


@given(
    st.lists(samples, min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.booleans()), max_size=12),
    st.sampled_from(sorted(SCORERS)),
    st.sampled_from([None, b"session"]),
)
def test_every_score_is_between_0_and_1(sampled, sent, kind, session):
    members = endpoints(*[0] * len(sampled))
    pool = pool_of(members, parse_config(EVERY))
    for endpoint, sample in zip(members, sampled, strict=True):
        endpoint.note(sample, NOW)
    for place, length, ends in sent:
        request = Request(NOW, "m", session, CHAIN[:length], length * 64, 100)
        ticket = begin(pool, members[place % len(members)], request, NOW)
        if ends:
            ticket.answered(NOW + 1)
            ticket.ended(NOW + 2, ok=True, output=20)
    plugin = next(e.scorer for e in pool.scheduler.profile.scorers if e.name == kind)
    found = scores(pool, plugin, session=session, chain=CHAIN, prompt=1300)
    assert len(found) == len(members)
    assert all(0 <= score <= 1 for score in found)


def test_queue_and_running_are_scored_between_the_least_and_the_most():
    sampled = (Sample(waiting=0, running=9), Sample(waiting=5, running=1), Sample(10, 5))
    assert scores(seen(*sampled)) == [1.0, 0.5, 0.0]
    assert scores(seen(*sampled, plugin="type: running-requests-size-scorer")) == [0.0, 1.0, 0.5]
    assert scores(seen(Sample(3), Sample(3))) == [1.0, 1.0]


def test_a_full_kv_cache_scores_nothing():
    pool = seen(
        Sample(kv_usage=1.0), Sample(kv_usage=0.25), plugin="type: kv-cache-utilization-scorer"
    )
    assert scores(pool) == [0.0, 0.75]


def test_idle_endpoints_stand_out_for_active_requests():
    plugin = "type: active-request-scorer, parameters: {maxBusyScore: 0.5, idleThreshold: 1}"
    pool = configured(endpoints(0, 1, 2, 4), plugin)
    assert scores(pool) == [1.0, 1.0, 0.25, 0.0]
    assert scores(configured(endpoints(0, 0), plugin)) == [1.0, 1.0]


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_load_scores_fall_with_load(loads):
    found = scores(pool_of(endpoints(*loads)), LeastLoadScorer())
    by_load = sorted(zip(loads, found, strict=True))
    assert all(a[1] > b[1] for a, b in pairwise(by_load) if a[0] < b[0])


def test_a_load_of_half_at_scores_a_half():
    assert scores(pool_of(endpoints(0, 20)), LeastLoadScorer(half_at=20)) == [1.0, 0.5]


def test_the_share_of_the_prompt_that_is_cached_is_scored():
    pool = configured(endpoints(0, 0, 0), "type: prefix-cache-scorer")
    for place, length in ((0, 20), (1, 5)):
        begin(pool, pool.members[place], Request(NOW, "m", None, CHAIN[:length], length * 64), NOW)
    assert scores(pool, chain=CHAIN, prompt=1280) == [1.0, 0.25, 0.0]
    assert scores(pool) == [0.0, 0.0, 0.0]


def test_tokens_in_flight_count_at_once():
    plugin = "type: token-load-scorer, parameters: {queueThresholdTokens: 1000}"
    pool = configured(endpoints(0, 0, 0), plugin)
    first = begin(pool, pool.members[0], Request(NOW, "m", None, (), 400, 100), NOW)
    begin(pool, pool.members[1], Request(NOW, "m", None, (), 4000, 100), NOW)
    assert scores(pool) == [0.5, 0.0, 1.0]
    first.ended(NOW, ok=True)
    assert scores(pool) == [1.0, 0.0, 1.0]


def test_an_adapter_is_wanted_where_it_is_resident_then_where_it_fits():
    pool = listing(("a", "b"), ("a", "b", "c"), ("b",), ("a",))
    pool.members[0].note(Sample(adapters=Adapters(2), resident=frozenset({"a"})), NOW)
    pool.members[1].note(Sample(adapters=Adapters(2), resident=frozenset({"b", "c"})), NOW)
    assert scores(pool, model="a") == [1.0, 0.4, 0.0, 0.8]


def test_an_idle_adapter_is_as_resident_as_a_busy_one():
    pool = listing(("a", "b", "c"))
    for running in ({"a"}, set(), {"b"}, set()):
        pool.members[0].note(Sample(adapters=Adapters(2, frozenset(running))), NOW)
    assert [scores(pool, model=one) for one in "abc"] == [[1.0], [1.0], [0.4]]


def test_where_a_server_says_nothing_the_last_adapters_sent_for_are_resident():
    pool = listing(("a", "b", "c"))
    for one in "abc":
        begin(pool, pool.members[0], Request(NOW, one), NOW).ended(NOW, ok=True)
    assert [scores(pool, model=one) for one in "abc"] == [[0.4], [1.0], [1.0]]


def test_only_endpoints_with_the_model_are_picked():
    pool = listing(("base", "a"), ("base",), plugin="type: queue-scorer")
    rng = Random(1)
    picked = {schedule(pool, Request(NOW, "a"), rng).endpoint for _ in range(20)}
    assert picked == {pool.members[0]}
    assert len({schedule(pool, Request(NOW, "base"), rng).endpoint for _ in range(20)}) == 2
    assert schedule(pool, Request(NOW, "other"), rng) == Nobody("ModelNotFound")


def test_an_endpoint_that_lists_nothing_may_serve_anything():
    pool = listing(("base",), (), plugin="type: queue-scorer")
    rng = Random(1)
    picked = {schedule(pool, Request(NOW, "other"), rng).endpoint for _ in range(20)}
    assert picked == {pool.members[1]}


def test_an_adapter_that_was_unloaded_is_no_longer_there():
    pool = listing(("base", "a"), ("base",), plugin="type: queue-scorer")
    pool.members[0].note(Listed((Model(id="base"),)), NOW)
    assert schedule(pool, Request(NOW, "a"), Random(1)) == Nobody("ModelNotFound")


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=40, unique=True))
def test_when_an_endpoint_leaves_only_its_sessions_move(sessions):
    members = endpoints(*[0] * 8)
    pool = configured(members, "type: session-affinity-scorer")

    def homes():
        found = [scores(pool, session=session) for session in sessions]
        return [pool.members[one.index(1.0)] for one in found]

    before = homes()
    pool.set_endpoints(members[1:])
    for old, new in zip(before, homes(), strict=True):
        assert new is old or old is members[0]


def test_sessions_are_spread():
    pool = configured(endpoints(*[0] * 4), "type: session-affinity-scorer")
    homes = Counter(scores(pool, session=b"s%d" % n).index(1.0) for n in range(4000))
    assert min(homes.values()) > 1000 - 5 * 27.4  # 5 sigma of a binomial, n 4000, p 1/4
    assert scores(pool) == [0.0] * 4


def test_cold_prompts_go_to_whoever_got_one_longest_ago():
    pool = configured(endpoints(0, 0, 0), "type: no-hit-lru-scorer")
    for place, now in ((2, 1.0), (0, 2.0), (1, 3.0)):
        chain = [place * 100 + n for n in range(5)]
        begin(pool, pool.members[place], Request(now, "m", None, chain, 320), now)
    assert scores(pool, chain=CHAIN, prompt=1280) == [0.5, 0.0, 1.0]
    assert scores(pool, chain=[100, 101], prompt=128) == [0.5, 0.5, 0.5]


def latent(*loads, **kwargs):
    return configured(endpoints(*loads), "type: predicted-latency-scorer", **kwargs)


def test_the_fastest_scores_1_and_the_others_by_how_much_slower_they_are():
    found = scores(latent(0, 0, 50), prompt=1000)
    assert found[:2] == [1.0, 1.0]
    assert 0 < found[2] < 1


def test_a_cached_prompt_is_worth_a_busier_endpoint_and_not_any():
    pool = latent(0, 0)
    chain = list(range(40))
    begin(pool, pool.members[0], Request(NOW, "m", None, chain, 3000), NOW).answered(NOW + 0.1)
    cached = {"chain": chain, "prompt": 3000}
    assert scores(pool, **cached)[0] == 1.0
    for _ in range(30):
        begin(pool, pool.members[0], Request(NOW, "m", None, (), 4000), NOW)
    assert scores(pool, **cached)[1] == 1.0


def test_a_prompt_that_nobody_sees_computed_is_taken_to_be_after_a_while():
    pool = latent(0)
    begin(pool, pool.members[0], Request(NOW, "m", None, (), 4000, stream=False), NOW)
    assert pool.pending.tolist() == [4000.0]
    schedule(pool, Request(NOW + 0.01, "m"), Random(1))
    assert pool.pending.tolist() == [4000.0]
    schedule(pool, Request(NOW + 5, "m"), Random(1))
    assert pool.pending.tolist() == [0.0]


ROLES = """
plugins:
- {type: disagg-profile-handler, parameters: {deciders: {prefill: decider}}}
- {type: prefix-based-pd-decider, name: decider, parameters: {nonCachedTokens: 500}}
- {type: prefill-filter}
- {type: decode-filter}
- {type: least-load-scorer}
- {type: prefix-cache-scorer}
schedulingProfiles:
- {name: prefill, plugins: [{pluginRef: prefill-filter}, {pluginRef: least-load-scorer}]}
- {name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: least-load-scorer}]}
"""
REVISION = "disaggregatedset.x-k8s.io/revision"


def roles(*servers):
    members = [
        Endpoint(f"10.0.0.{n}:80", labels={"llm-d.ai/role": role, REVISION: revision})
        for n, (role, revision) in enumerate(servers)
    ]
    return pool_of(members, parse_config(ROLES))


@given(
    st.lists(
        st.tuples(st.sampled_from(["prefill", "decode", "both"]), st.sampled_from("12")),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 1000),
)
def test_a_pair_is_two_endpoints_of_fitting_roles_and_one_revision(servers, seed):
    pool = roles(*servers)
    pick = schedule(pool, Request(NOW, "m", None, CHAIN, 1280), Random(seed))
    able = [server for server in servers if server[0] != "prefill"]
    if not able:
        assert pick == Nobody("NoEndpoints")
        return
    labels = pick.endpoint.labels
    assert labels["llm-d.ai/role"] != "prefill"
    others = [
        e for e in pool.members if e is not pick.endpoint and e.labels["llm-d.ai/role"] != "decode"
    ]
    fitting = [e for e in others if e.labels[REVISION] == labels[REVISION]]
    if fitting:
        assert pick.prefill.endpoint in fitting
    else:
        assert pick.prefill is None


def test_a_short_or_cached_prompt_is_computed_where_it_is_answered():
    pool = roles(("prefill", "1"), ("decode", "1"))
    rng = Random(1)
    assert schedule(pool, Request(NOW, "m", None, CHAIN, 1280), rng).prefill is not None
    assert schedule(pool, Request(NOW, "m", None, CHAIN[:5], 320), rng).prefill is None
    begin(pool, pool.members[1], Request(NOW, "m", None, CHAIN, 1280), NOW)
    assert schedule(pool, Request(NOW, "m", None, CHAIN, 1280), rng).prefill is None


WHERE = "parameters: {matchExpressions:"
A = "{key: tier, operator: In, values: [a]}"


@pytest.mark.parametrize(
    ("plugin", "kept"),
    [
        ("type: by-label, parameters: {label: tier, validValues: [a, b]}", {0, 1}),
        (
            "type: by-label, parameters: {label: tier, validValues: [a], allowsNoLabel: true}",
            {0, 3},
        ),
        ("type: label-selector-filter, parameters: {matchLabels: {tier: c}}", {2}),
        (
            f"type: by-label-selector, {WHERE} [{{key: tier, operator: NotIn, values: [a]}}]}}",
            {1, 2, 3},
        ),
        (f"type: label-selector-filter, {WHERE} [{{key: tier, operator: DoesNotExist}}]}}", {3}),
        (f"type: label-selector-filter, {WHERE} [{{key: tier, operator: Exists}}, {A}]}}", {0}),
    ],
)
def test_endpoints_are_kept_by_their_labels(plugin, kept):
    labels = [{"tier": "a"}, {"tier": "b"}, {"tier": "c"}, {}]
    members = [Endpoint(f"h:{n}", labels=each) for n, each in enumerate(labels)]
    pool = configured(members, plugin)
    pick = schedule(pool, Request(NOW), Random(1))
    assert {e.address for e in [pick.endpoint, *pick.fallbacks()]} == {f"h:{n}" for n in kept}


def test_a_changed_label_counts_from_then_on():
    members = [Endpoint("h:0", labels={"tier": "a"}), Endpoint("h:1", labels={"tier": "b"})]
    pool = configured(members, "type: by-label, parameters: {label: tier, validValues: [a]}")
    assert schedule(pool, Request(NOW), Random(1)).endpoint is members[0]
    members[0].labels, members[1].labels = members[1].labels, members[0].labels
    pool.relabel()
    assert schedule(pool, Request(NOW), Random(1)).endpoint is members[1]


def test_whoever_holds_the_prompt_is_kept_unless_that_hurts():
    pool = configured(
        endpoints(0, 0), "type: prefix-cache-affinity-filter", "type: predicted-latency-scorer"
    )
    chain = list(range(40))
    begin(pool, pool.members[0], Request(NOW, "m", None, chain, 2048), NOW).answered(NOW + 0.1)
    asked = Request(NOW, "m", None, chain[:32], 2048)
    assert schedule(pool, asked, Random(1)).fallbacks() == []
    assert schedule(pool, Request(NOW, "m", None, [9999], 64), Random(1)).fallbacks() != []
    for _ in range(60):
        begin(pool, pool.members[0], Request(NOW, "m", None, (), 10_000), NOW)
    assert schedule(pool, asked, Random(1)).endpoint is pool.members[1]


totals = st.lists(st.floats(0, 8), min_size=1, max_size=9).map(np.array)


@given(totals, st.sampled_from(sorted(PICKERS)), st.integers(0, 2**32))
def test_every_picker_picks_somebody(scores, kind, seed):
    assert 0 <= PICKERS[kind]().pick(scores, Random(seed)) < len(scores)


@given(totals, st.integers(0, 2**32))
def test_the_best_score_wins(scores, seed):
    assert scores[PICKERS["max-score-picker"]().pick(scores, Random(seed))] == scores.max()


@given(totals.filter(lambda scores: len(scores) > 1), st.integers(0, 2**32))
def test_of_two_the_better_is_taken(scores, seed):
    worst = int(scores.argmin())
    chosen = PICKERS["power-of-two-picker"]().pick(scores, Random(seed))
    assert chosen != worst or (scores == scores[worst]).sum() > 1


def test_draws_follow_the_scores():
    rng, picker = Random(4), PICKERS["weighted-random-picker"]()
    drawn = Counter(picker.pick(np.array([1.0, 0.0, 3.0]), rng) for _ in range(4000))
    assert drawn[1] == 0
    assert abs(drawn[2] - 3000) < 5 * 27.4  # 5 sigma of a binomial, n 4000, p 3/4
    assert len({picker.pick(np.zeros(3), rng) for _ in range(50)}) == 3


def test_a_slot_that_was_left_is_given_to_another_and_remembers_nothing():
    pool = pool_of(endpoints(0, 0), default_scheduler())
    first = pool.members[0]
    begin(pool, first, Request(NOW, "m", None, CHAIN, 1280), NOW)
    first.note(Sample(waiting=9, running=9, kv_usage=0.9), NOW)
    pool.set_endpoints([pool.members[1], Endpoint("new:1")])
    slot = pool.slot_of(pool.members[0])
    assert slot == 0
    assert pool.members[0].address == "new:1"
    assert pool.prefix.match(CHAIN).tolist() == [0.0, 0.0]
    assert [v[0] for v in (pool.load, pool.waiting, pool.kv_usage, pool.pending, pool.tokens)] == [
        0.0
    ] * 5
    assert first.seats == ()


def test_a_request_that_outlives_its_endpoints_stay_teaches_nobody():
    pool = pool_of(endpoints(0, 0), default_scheduler())
    ticket = begin(pool, pool.members[0], Request(NOW, "m", None, (), 1000), NOW)
    pool.set_endpoints([pool.members[1], Endpoint("new:1")])
    before = pool.latency.ttft_factors.expected.tolist()
    ticket.answered(NOW + 60)
    ticket.ended(NOW + 99, ok=True, output=50)
    assert pool.latency.ttft_factors.expected.tolist() == before


def test_another_scheduler_keeps_what_was_learnt():
    pool = pool_of(endpoints(0, 0), default_scheduler())
    begin(pool, pool.members[0], Request(NOW, "m", None, CHAIN, 1280), NOW)
    pool.use(parse_config("plugins: [{type: prefix-cache-scorer}, {type: queue-scorer}]"))
    assert pool.prefix.match(CHAIN)[0] == 1280
    assert pool.latency is None
    pool.use(parse_config("plugins: [{type: queue-scorer}]"))
    assert pool.prefix is None
    assert schedule(pool, Request(NOW), Random(1)).endpoint in pool.members


def test_unwell_endpoints_come_back_into_play():
    well, ill = endpoints(3, 0)
    pool = pool_of([well, ill])
    ill.state = EndpointState(usable_from=math.inf)
    pool.see_all(1, ill.state)
    assert schedule(pool, Request(NOW), Random(1)).endpoint is well
    ill.note(Sample(), NOW)
    assert schedule(pool, Request(NOW), Random(1)).endpoint is ill
    assert pool.unwell_until <= NOW


def test_old_or_missing_metrics_stop_nothing_and_are_counted():
    members = endpoints(*[0] * 4)
    pool = pool_of(members, default_scheduler())
    for endpoint, sample, at in (
        (members[0], Sample(running=1), NOW),
        (members[1], Sample(running=1), NOW - 60),
        (members[2], Sample(blind=True), NOW),
    ):
        endpoint.note(sample, at)
    assert pool.stale(NOW) == 3
    picked = {schedule(pool, Request(NOW), Random(seed)).endpoint for seed in range(60)}
    assert members[2] in picked
    assert members[3] in picked


def test_what_should_have_been_cached_is_counted():
    pool = pool_of(endpoints(0), default_scheduler())
    for length in (10, 20):
        begin(pool, pool.members[0], Request(NOW, "m", None, CHAIN[:length], length * 64), NOW)
    assert (pool.prompt_tokens, pool.cached_tokens) == (1920, 640)


def test_of_a_pair_each_is_charged_with_its_part_and_learns_from_it():
    pool = pool_of(endpoints(0, 0), default_scheduler())
    answers, computes = pool.members
    request = Request(NOW, "m", None, CHAIN, 1280, 100)
    ticket = begin(pool, answers, request, NOW, computes)
    assert pool.pending.tolist() == [0.0, 1280.0]
    assert pool.load.tolist() == [1.0, 1.0]
    ticket.answered(NOW + 3)
    assert pool.load.tolist() == [1.0, 0.0]
    assert pool.pending.tolist() == [0.0, 0.0]
    assert pool.latency.ttft_factors.expected[1] > pool.latency.ttft_factors.expected[0] == 1.0
    ticket.ended(NOW + 4, ok=True, output=10)
    assert pool.load.tolist() == [0.0, 0.0]
    assert pool.prefix.match(CHAIN).tolist() == [1280.0, 1280.0]


def test_a_pair_that_fails_before_its_answer_leaves_nothing_behind():
    pool = pool_of(endpoints(0, 0), default_scheduler())
    request = Request(NOW, "m", None, CHAIN, 1280, 100)
    begin(pool, pool.members[0], request, NOW, pool.members[1]).ended(NOW + 1, ok=False)
    for vector in (pool.load, pool.pending, pool.tokens):
        assert vector.tolist() == [0.0, 0.0]
    assert [e.state.failures for e in pool.members] == [1, 0]
