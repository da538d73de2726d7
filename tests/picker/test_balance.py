"""Many requests, several workers, old numbers: does the work spread? In virtual time."""

import heapq
from random import Random

import pytest

from tidegate.picker.config import simple_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.request import Request
from tidegate.picker.schedule import schedule
from tidegate.picker.state import Sample
from tidegate.picker.ticket import begin
from tidegate.testing.pools import pool_of, scheduled

SERVICE_S = 1.0
SAMPLE_S = 0.2


LEAST = simple_scheduler()
CHANCE = scheduled()


def worst_load(scheduler=LEAST, *, workers, endpoints=4, rate=40, look=True, seed=1, until=20.0):
    """The most requests that any endpoint ever had at once; 10 if spread perfectly."""
    rng = Random(seed)
    seen = [
        pool_of([Endpoint(f"h:{i}") for i in range(endpoints)], scheduler) for _ in range(workers)
    ]
    busy, worst = [0] * endpoints, 0
    arrivals = [(i / rate, i, "arrive", 0, None) for i in range(int(until * rate))]
    looks = [
        (w * 0.03 + k * SAMPLE_S, -1, "look", w, None)
        for w in range(workers)
        for k in range(int(until / SAMPLE_S))
        if look
    ]
    agenda = sorted(arrivals + looks, key=lambda entry: entry[:2])
    while agenda:
        now, number, what, worker, ticket = heapq.heappop(agenda)
        if what == "look":
            for index, endpoint in enumerate(seen[worker].members):
                endpoint.note(Sample(running=busy[index]), now)
        elif what == "arrive":
            pool = seen[rng.randrange(workers)]
            request = Request(now)
            ticket = begin(pool, schedule(pool, request, rng).endpoint, request, now)
            busy[ticket.slot] += 1
            worst = max(worst, busy[ticket.slot])
            heapq.heappush(agenda, (now + SERVICE_S, -2 - number, "end", 0, ticket))
        else:
            ticket.answered(now)
            ticket.ended(now, ok=True)
            busy[ticket.slot] -= 1
    assert busy == [0] * endpoints
    return worst


def test_one_worker_spreads_perfectly():
    assert worst_load(workers=1) <= 11


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_workers_that_see_each_other_only_in_samples_spread_better_than_chance(workers):
    assert worst_load(workers=workers) <= worst_load(CHANCE, workers=workers) - 3


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_without_samples_each_worker_still_spreads_its_own(workers):
    assert worst_load(workers=workers, look=False) <= worst_load(CHANCE, workers=workers) - 3


def test_samples_find_the_endpoint_that_others_keep_busy():
    # Somebody else keeps h:0 busy with 30 requests that no worker of ours sent.
    pool = pool_of([Endpoint("h:0"), Endpoint("h:1")])
    rng, request = Random(2), Request(0.0)
    for endpoint, running in zip(pool.members, (30, 0), strict=True):
        endpoint.note(Sample(running=running), 0.0)
    for _ in range(30):
        chosen = schedule(pool, request, rng).endpoint
        assert chosen.address == "h:1"
        begin(pool, chosen, request, 0.0)
