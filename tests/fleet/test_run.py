"""Whole runs in virtual time."""

from dataclasses import replace

import pytest

from tidegate.fleet.balancers import BALANCERS
from tidegate.fleet.contestant import Contestant, default, described, rival
from tidegate.fleet.outcome import Report
from tidegate.fleet.run import simulate
from tidegate.fleet.workload import Workload, WorkloadError, parse
from tidegate.picker.flow.settings import FlowSettings

SMALL = """
duration: 20s
warmup: 2s
servers: [{count: 4, profile: l4-8b}]
"""


def workload(traffic: str, more: str = "") -> Workload:
    return parse(f"{SMALL}{more}\ntraffic: [{traffic}]")


def ended(report: Report) -> int:
    every = report.all
    return every.done + every.refused + every.lost + every.unfinished


CONTESTANTS = [default(), *map(rival, BALANCERS)]


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda one: one.name)
def test_every_request_ends_and_a_run_is_the_same_again(contestant: Contestant):
    what = workload("{name: chat, rate: 5, turns: 2, system: {count: 3, tokens: 500}}")
    report = simulate(what, contestant)
    assert report.all.requests == ended(report) == report.all.done > 50
    assert 0 < report.all.ttft.p50 < report.all.ttft.p95
    assert 0 < report.hit_rate < 1
    assert 0 < report.balance <= 1
    assert simulate(what, contestant) == report


def test_contestants_meet_the_same_requests():
    what = workload("{name: chat, rate: 5}")
    assert len({simulate(what, one).all.requests for one in CONTESTANTS}) == 1


def test_the_scheduler_finds_cached_prompts_that_round_robin_misses():
    what = workload("{name: rag, rate: 3, system: {count: 24, tokens: 3000, skew: 0}, user: 50}")
    ours, theirs = simulate(what, default()), simulate(what, rival("round-robin"))
    assert ours.hit_rate > theirs.hit_rate + 0.1
    assert ours.all.ttft.p95 < theirs.all.ttft.p95


def test_flow_control_keeps_the_important_ones_fast_when_there_is_too_much():
    traffic = (
        "{name: high, rate: 2, user: 1000, answer: 100, priority: 10},"
        "{name: low, rate: 40, user: 1000, answer: 100, priority: -1}"
    )
    limits = "\nobjective: {ttft: 5s, itl: 500ms}"
    guarded = simulate(workload(traffic, limits), default())
    free = simulate(workload(traffic, limits), replace(default(), flow=None))
    assert guarded.kinds["high"].ttft.p95 < free.kinds["high"].ttft.p95 / 2
    assert guarded.kinds["high"].refused == 0
    assert guarded.kinds["high"].ttft.p95 < guarded.kinds["low"].ttft.p95


def test_bounded_queues_refuse_what_does_not_fit():
    flow = FlowSettings()
    flow = described("short", "flowControl: {defaultNegativePriorityBand: {maxRequests: 5}}").flow
    what = workload("{name: low, rate: 60, user: 2000, answer: 100, priority: -1}")
    report = simulate(what, replace(default(), flow=flow))
    assert report.all.refused > 100
    assert report.all.requests == ended(report)


def test_a_server_that_dies_costs_its_requests_no_answer_that_had_not_begun():
    what = workload("{name: chat, rate: 8}", "\ntroubles: [{at: 8s, server: 1, what: down}]")
    report = simulate(what, default())
    assert report.all.done > 0.9 * report.all.requests
    assert report.all.requests == ended(report)


def test_a_slow_server_gets_less():
    what = workload("{name: chat, rate: 10, user: 500}", "\ntroubles: [{at: 1s, server: 0, what: "
                    "slow, factor: 8}]")  # fmt: skip
    ours, theirs = simulate(what, default()), simulate(what, rival("round-robin"))
    assert ours.all.ttft.p95 < theirs.all.ttft.p95


def test_servers_that_say_the_same_for_ever_stop_nothing():
    deaf = "".join(f"\n- {{at: 3s, server: {n}, what: deaf}}" for n in range(4))
    what = workload("{name: chat, rate: 8}", f"\ntroubles:{deaf}")
    report = simulate(what, default())
    assert report.all.done == report.all.requests


def test_servers_may_join_later():
    what = parse(
        "duration: 20s\nwarmup: 0s\n"
        "servers: [{profile: l4-8b, count: 1}, {profile: l4-8b, count: 3, joins: 10s}]\n"
        "traffic: [{name: chat, rate: 8}]"
    )
    report = simulate(what, default())
    assert report.all.done == report.all.requests


def test_an_end_of_requests_ends_a_run():
    what = replace_requests(workload("{name: chat, rate: 50}"), 30)
    assert simulate(what, rival("random")).all.requests <= 30


def replace_requests(what: Workload, requests: int) -> Workload:
    from msgspec.structs import replace as changed

    return changed(what, requests=requests, warmup="0s")


def test_a_rival_that_is_not_known_is_named():
    with pytest.raises(WorkloadError, match="'luck'"):
        rival("luck")
