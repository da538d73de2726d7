"""What is learnt of times, from servers whose times are known."""

import math
from random import Random

import numpy as np
import pytest

from tidegate.picker.latency import LatencyModel, LatencySettings, Observation

TRUE = (0.03, 2e-4, 1e-3, 0.05)
"""Another server than the one that the model expects."""


def ttft(seen, factor=1.0):
    base, token, request, waiting = TRUE
    times = base + token * seen.compute + request * seen.load + waiting * seen.queue
    return factor * times


def observations(rng, count=600):
    for number in range(count):
        waits = rng.random() < 0.3
        yield (
            number * 0.05,
            Observation(rng.expovariate(1 / 2000), rng.randrange(60), rng.randrange(20) * waits),
        )


def taught(factors=(1.0,), noise=0.1, count=600):
    model, rng = LatencyModel(LatencySettings()), Random(1)
    model.resize(len(factors))
    for now, seen in observations(rng, count):
        slot = rng.randrange(len(factors))
        model.relax(now)
        spent = ttft(seen, factors[slot]) * rng.lognormvariate(0, noise)
        model.answered(slot, seen, now - spent, now)
    return model


def expected(model, compute, load, queue):
    vectors = [np.array([float(one)]) for one in (compute, load, queue)]
    return float(model.ttft(*vectors, np.ones(1))[0])


@pytest.mark.parametrize(
    ("compute", "load", "queue"), [(100, 5, 0), (4000, 20, 0), (500, 50, 15), (8000, 1, 0)]
)
def test_times_are_learnt(compute, load, queue):
    true = ttft(Observation(compute, load, queue))
    untaught = LatencyModel(LatencySettings())
    assert expected(taught(), compute, load, queue) == pytest.approx(true, rel=0.15)
    assert expected(untaught, compute, load, queue) != pytest.approx(true, rel=0.3)


def test_a_slow_endpoint_is_told_from_the_others():
    model = taught(factors=(1.0, 1.0, 4.0, 1.0))
    factors = model.ttft_factors.expected / model.ttft_factors.expected[0]
    assert factors[2] == pytest.approx(4.0, rel=0.3)
    assert factors[1] == pytest.approx(1.0, rel=0.2)


def test_one_stall_does_not_condemn_an_endpoint():
    model = taught()
    before = float(model.ttft_factors.expected[0])
    seen = Observation(500, 5, 0)
    model.answered(0, seen, 31.0, 31.0 + 1000 * ttft(seen))
    assert model.ttft_factors.expected[0] < 1.4 * before
    assert expected(model, 500, 5, 0) < 3 * ttft(seen)


def test_an_endpoint_that_nobody_hears_of_gets_another_chance():
    model = taught(factors=(1.0, 5.0))
    slow = float(model.ttft_factors.expected[1])
    for second in range(240):
        model.relax(40.0 + second)
    assert 1.0 <= model.ttft_factors.expected[1] < 1.1 < slow


def test_the_first_answer_after_a_silence_counts_for_much():
    seen, often, silent = Observation(500, 5, 0), taught(), taught()
    for second in range(120):
        silent.relax(30.0 + second)
    for model in (often, silent):
        before = float(model.ttft_factors.expected[0])
        model.answered(0, seen, 150.0, 150.0 + 1.5 * model.expected_ttft(0, seen))
        assert (model.ttft_factors.expected[0] > 1.25 * before) == (model is silent)


def test_answers_that_were_awaited_at_the_same_time_count_as_hardly_more_than_one():
    def learnt(count: int, apart_s: float) -> float:
        model, seen = LatencyModel(LatencySettings()), Observation(500, 5, 0)
        model.resize(2)
        spent = 3 * model.expected_ttft(0, seen)
        for number in range(count):
            model.answered(0, seen, apart_s * number, apart_s * number + spent)
        return math.log(model.ttft_factors.expected[0])

    assert learnt(1, 0.0) < learnt(8, 0.015) < learnt(2, 10.0)


def test_an_endpoint_is_hoped_to_be_faster_the_less_is_known_of_it():
    model = taught(factors=(1.0, 1.0))
    factors = model.ttft_factors
    known = float(factors.hope[1])
    assert 0.8 < known < 1.0
    for second in range(40):
        model.relax(31.0 + second)
        model.answered(0, Observation(500, 5, 0), 30.0 + second, 30.15 + second)
    assert factors.hope[1] < 0.75 * known
    assert factors.hope[0] > 0.75
    wary = LatencyModel(LatencySettings(exploration=0))
    wary.resize(2)
    wary.relax(0.0)
    wary.relax(60.0)
    assert wary.ttft_factors.hope.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("tokens", [1, 40, 1000])
def test_a_slow_endpoint_is_told_by_answers_that_come_whole(tokens: int):
    model, rng = LatencyModel(LatencySettings()), Random(1)
    model.resize(3)
    for now, seen in observations(rng):
        slot = rng.randrange(3)
        model.relax(now)
        seconds = ttft(seen) + (0.02 + 4e-4 * seen.load) * (tokens - 1)
        spent = seconds * (1.0, 3.0, 1.0)[slot] * rng.lognormvariate(0, 0.1)
        model.came_whole(slot, seen, tokens, now - spent, now)
    by_first, by_next = model.ttft_factors.expected, model.itl_factors.expected
    told = by_first if tokens == 1 else by_next
    assert told[1] / told[0] == pytest.approx(3.0, rel=0.4)
    assert told[2] / told[0] == pytest.approx(1.0, rel=0.3)


def test_more_work_never_takes_less_time():
    model, rng = LatencyModel(LatencySettings()), Random(2)
    model.resize(1)
    for now, seen in observations(rng):
        # The busier, the faster: nonsense.
        model.answered(0, seen, now - 1.0 / (1 + seen.load), now)
    (_, token, request, waiting), _ = model.coefficients
    assert min(token, request, waiting) > 0


def test_times_between_tokens_are_learnt():
    model = LatencyModel(LatencySettings())
    model.resize(1)
    rng = Random(3)
    for number in range(400):
        load = rng.randrange(80)
        seen = Observation(0, load, 0)
        model.relax(number * 0.1)
        spent = 49 * (0.02 + 4e-4 * load)
        model.finished(0, seen, 50, number * 0.1 - spent, number * 0.1)
    load = np.array([10.0, 70.0])
    np.testing.assert_allclose(model.itl(load, np.ones(2)), [0.024, 0.048], rtol=0.1)
    assert model.output == pytest.approx(50, rel=0.1)


def test_what_comes_faster_than_anybody_learns_changes_nothing():
    model, seen = taught(), Observation(500, 5, 0)
    model.answered(0, seen, 99.8, 100.0)
    before = model.coefficients, model.ttft_factors.expected.tolist()
    model.answered(0, seen, 91.0, 100.001)
    assert (model.coefficients, model.ttft_factors.expected.tolist()) == before
