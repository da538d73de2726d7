"""A fleet in virtual time."""

from dataclasses import replace
from random import Random

import pytest

from tidegate.simulator.engine import Engine
from tidegate.simulator.errors import SettingsError
from tidegate.simulator.fleet import Fleet
from tidegate.simulator.jobs import Job, Pace
from tidegate.simulator.profiles import PROFILES

DEMO = PROFILES["demo"]


def fleet(servers: int = 1, **fields) -> Fleet:
    return Fleet([DEMO] * servers, **fields)


def test_a_request_has_the_times_that_an_engine_gives_it():
    engine = Engine(DEMO)
    engine.submit(Job(80, 5), 0.0)
    made = []
    while engine.next_at is not None:
        made += engine.advance(engine.next_at)
    one = fleet()
    request = one.submit(0, Job(80, 5))
    one.run()
    assert (request.first_at, request.ended_at) == pytest.approx((made[0].at, made[-1].at))
    assert request.ttft_s == pytest.approx(0.014 + 80 / 16_000)
    assert request.itl_s == pytest.approx(0.0141)
    assert (request.outcome, request.tokens) == ("done", 5)


def play(seed: int) -> list[tuple]:
    one, rng, seen = fleet(5, seed=seed), Random(seed), []

    def ended(request) -> None:
        seen.append((request.server, request.ended_at))

    def arrive() -> None:
        views = [one.snapshot(n) for n in range(5)]
        loads = [view.running if view else 0 for view in views]
        job = Job(rng.randint(1, 200), rng.randint(1, 50))
        one.submit(loads.index(min(loads)), job, on_end=ended)
        if one.now < 3:
            one.call_at(one.now + rng.expovariate(50), arrive)

    one.call_at(0.0, arrive)
    one.run()
    return seen


def test_the_same_seed_gives_the_same_course_and_another_another():
    assert play(1) == play(1)
    assert play(1) != play(2)


def test_first_tokens_and_ends_are_called_back_in_order_of_time():
    one, heard = fleet(3), []
    for n in range(9):
        one.submit(n % 3, Job(50, 1 + n), at=n * 0.01,
                   on_first=lambda r: heard.append(r.first_at),
                   on_end=lambda r: heard.append(r.ended_at))  # fmt: skip
    one.run()
    assert len(heard) == 18
    assert heard == sorted(heard)


def test_every_token_can_be_called_back():
    one, heard = fleet(every_token=True), []
    one.submit(0, Job(50, 4), on_token=lambda r: heard.append((r.tokens, one.now)))
    one.run()
    assert [tokens for tokens, _ in heard] == [1, 2, 3, 4]
    assert heard[3][1] - heard[2][1] == pytest.approx(0.0141)


def test_a_server_is_seen_as_it_was_at_its_last_scrape():
    one = fleet(scrape_interval_s=1.0, scrape_delay_s=0.25)
    one.submit(0, Job(10, 2500), at=0.0)
    one.run(5.0)
    seen = one.snapshot(0)
    assert 3.75 <= seen.at <= 4.75
    assert seen.running == 1
    at_scrape = seen.generated_tokens
    assert at_scrape < one.live(0).generated_tokens
    one.run(5.1)
    again = one.snapshot(0)
    assert again == seen or again.at > seen.at


def test_what_came_after_a_scrape_is_not_seen():
    one = fleet(scrape_interval_s=1.0, scrape_delay_s=0.0)
    one.run(2.0)
    first = one.snapshot(0)
    assert first.running == 0
    one.submit(0, Job(10, 2000))
    assert one.snapshot(0).running == 0
    assert one.live(0).running == 1
    one.run(first.at + 1.001)
    assert one.snapshot(0).running == 1


def test_a_slow_scrape_is_seen_late():
    one = fleet(scrape_interval_s=0.1, scrape_delay_s=5.0)
    one.submit(0, Job(10, 2000), at=2.0)
    one.run(6.0)
    assert one.snapshot(0).running == 0
    one.run(7.5)
    assert one.snapshot(0).running == 1
    assert one.snapshot(0).at == pytest.approx(2.5, abs=0.1)


def test_scrapes_that_nobody_reads_take_no_memory():
    one = fleet()
    for n in range(2000):
        one.submit(0, Job(10, 10), at=n * 0.5)
    one.run()
    assert len(one._servers[0].scrapes) <= 3


def test_a_slower_pace_holds_from_the_next_step_on():
    one = fleet()
    request = one.submit(0, Job(10, 101))
    one.run(request.submitted_at + 0.5)
    one.set_pace(0, Pace(itl=10))
    one.run()
    assert request.ended_at > 0.5 + 60 * 0.141


def test_a_crash_loses_what_runs_and_refuses_what_comes():
    one, ended = fleet(2), []
    running = one.submit(0, Job(10, 1000), on_end=lambda r: ended.append(r.outcome))
    one.run(1.0)
    one.crash(0)
    refused = one.submit(0, Job(10, 10))
    fine = one.submit(1, Job(10, 10))
    assert (running.outcome, running.ended_at) == ("lost", 1.0)
    assert refused.outcome == "lost"
    one.restart(0)
    later = one.submit(0, Job(10, 10))
    one.run()
    assert (fine.outcome, later.outcome, ended) == ("done", "done", ["lost"])


def test_an_aborted_request_ends_and_makes_room():
    one = Fleet([replace(DEMO, max_num_seqs=1)])
    first, second = one.submit(0, Job(10, 1000)), one.submit(0, Job(10, 10))
    unborn = one.submit(0, Job(10, 10), at=5.0)
    one.run(1.0)
    one.abort(first)
    one.abort(unborn)
    one.run()
    assert [r.outcome for r in (first, second, unborn)] == ["aborted", "done", "aborted"]
    assert 1.0 < second.ended_at < 1.3


def test_a_job_that_no_server_can_hold_is_refused():
    with pytest.raises(SettingsError):
        fleet().submit(0, Job(1 << 20, 1))
