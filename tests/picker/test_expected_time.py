"""What the default scheduler weighs: the request's own time, and everybody else's."""

from random import Random

import numpy as np
import pytest

from tidegate.picker.candidates import Candidates
from tidegate.picker.config import default_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Pick, Request
from tidegate.picker.schedule import schedule
from tidegate.picker.scorers import predicted_latency
from tidegate.picker.state import Adapters, Finished, Listed, Model, Sample, Started
from tidegate.picker.ticket import begin


def pool_of(*endpoints: Endpoint) -> Pool:
    pool = Pool("p", default_scheduler())
    pool.set_endpoints(endpoints)
    return pool


def picked(pool: Pool, request: Request) -> str:
    pick = schedule(pool, request, Random(1))
    assert isinstance(pick, Pick)
    return pick.endpoint.address


def warmed(pool: Pool, endpoint: Endpoint, request: Request) -> None:
    begin(pool, endpoint, request, 0.0).ended(0.0, ok=True)


def test_a_long_prompt_waits_for_its_cache_rather_than_hold_others_up_elsewhere():
    with_cache, other = Endpoint("a:1"), Endpoint("b:1")
    pool = pool_of(with_cache, other)
    assert pool.blocks is not None
    long = Request(0.0, chain=list(range(1, 65)), prompt=pool.blocks.tokens[63])
    warmed(pool, with_cache, long)
    for _ in range(30):
        with_cache.note(Started(tokens=200), 0.0)
    for _ in range(20):
        other.note(Started(tokens=200), 0.0)
    assert picked(pool, long) == "a:1"
    assert picked(pool, Request(0.0, prompt=100)) == "b:1"


def adapters_of(*resident: str) -> Sample:
    return Sample(adapters=Adapters(limit=2), resident=frozenset(resident))


def listing(endpoint: Endpoint) -> Endpoint:
    endpoint.note(Listed((Model(id="base"), *(Model(id=n, parent="base") for n in "xyz"))), 0.0)
    return endpoint


def test_an_adapter_goes_where_it_is_and_a_base_model_where_there_is_least_to_do():
    full, there = listing(Endpoint("a:1")), listing(Endpoint("b:1"))
    pool = pool_of(full, there)
    full.note(adapters_of("y", "z"), 0.0)
    there.note(adapters_of("x", "y"), 0.0)
    for _ in range(8):
        there.note(Started(tokens=200), 0.0)
    assert picked(pool, Request(0.0, "x", prompt=100)) == "b:1"
    assert picked(pool, Request(0.0, "y", prompt=100)) == "a:1"
    assert picked(pool, Request(0.0, "base", prompt=100)) == "a:1"


def test_a_new_adapter_goes_where_it_fits():
    full, free = listing(Endpoint("a:1")), listing(Endpoint("b:1"))
    pool = pool_of(full, free)
    full.note(adapters_of("y", "z"), 0.0)
    free.note(adapters_of("y"), 0.0)
    free.note(Started(), 0.0)
    assert picked(pool, Request(0.0, "x", prompt=100)) == "b:1"
    free.note(Finished(None), 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_few_candidates_are_scored_as_many_are(seed: int, monkeypatch: pytest.MonkeyPatch):
    rng = Random(seed)
    endpoints = [Endpoint(f"h:{number}") for number in range(rng.randint(1, 16))]
    pool = pool_of(*endpoints)
    assert pool.latency is not None
    for endpoint in endpoints:
        endpoint.note(Sample(waiting=rng.randint(0, 9), running=rng.randint(0, 9)), 0.0)
        endpoint.note(Started(rng.randint(0, 5000), 200), 0.0)
    warmed(pool, endpoints[0], Request(0.0, chain=[1, 2, 3], prompt=200))
    pool.latency.ttft_factors.hope[0], pool.latency.itl_factors.hope[-1] = 1.7, 0.6
    asked = Request(0.0, chain=[1, 2, 4], prompt=rng.randint(0, 300), output=rng.choice([0, 5]))
    scorer = predicted_latency.PredictedLatencyScorer()
    few = scorer.score(Candidates(pool, asked))
    monkeypatch.setattr(predicted_latency, "FEW", 0)
    np.testing.assert_allclose(few, scorer.score(Candidates(pool, asked)), rtol=1e-9)
