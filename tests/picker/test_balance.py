"""Many requests, several workers, old numbers: does the work spread? In virtual time."""

import heapq
from random import Random

import pytest

from tidegate.picker.config import default_profile
from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.plugins import Endpoint, Request
from tidegate.picker.profile import Profile, run
from tidegate.picker.state import STARTED, SUCCEEDED, Sample, fold

SERVICE_S = 1.0
SAMPLE_S = 0.2


LEAST = default_profile()
CHANCE = Profile((), (), MaxScorePicker())


def worst_load(profile=LEAST, *, workers, endpoints=4, rate=40, look=True, seed=1, until=20.0):
    """The most requests that any endpoint ever had at once; 10 if spread perfectly."""
    rng = Random(seed)
    seen = [[Endpoint(f"h:{i}") for i in range(endpoints)] for _ in range(workers)]
    busy, worst = [0] * endpoints, 0
    arrivals = [(i / rate, 0, "arrive", 0, 0) for i in range(int(until * rate))]
    looks = [
        (w * 0.03 + k * SAMPLE_S, 1, "look", w, 0)
        for w in range(workers)
        for k in range(int(until / SAMPLE_S))
        if look
    ]
    agenda = sorted(arrivals + looks)
    while agenda:
        now, _, what, worker, place = heapq.heappop(agenda)
        if what == "look":
            for index, endpoint in enumerate(seen[worker]):
                endpoint.state = fold(endpoint.state, Sample(running=busy[index]), now)
        elif what == "arrive":
            worker = rng.randrange(workers)
            chosen = run(profile, Request(now), seen[worker], rng).endpoint
            place = seen[worker].index(chosen)
            chosen.state = fold(chosen.state, STARTED, now)
            busy[place] += 1
            worst = max(worst, busy[place])
            heapq.heappush(agenda, (now + SERVICE_S, 2, "end", worker, place))
        else:
            endpoint = seen[worker][place]
            endpoint.state = fold(endpoint.state, SUCCEEDED, now)
            busy[place] -= 1
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
    endpoints = [Endpoint("h:0"), Endpoint("h:1")]
    rng = Random(2)
    for index, running in enumerate((30, 0)):
        endpoints[index].state = fold(endpoints[index].state, Sample(running=running), 0.0)
    for _ in range(30):
        chosen = run(LEAST, Request(0.0), endpoints, rng).endpoint
        assert chosen.address == "h:1"
        chosen.state = fold(chosen.state, STARTED, 0.0)
