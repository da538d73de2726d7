"""What is learnt of times, from servers whose times are known."""

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
        model.answered(slot, seen, ttft(seen, factors[slot]) * rng.lognormvariate(0, noise), now)
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
    factors = model.ttft_factor / model.ttft_factor[0]
    assert factors[2] == pytest.approx(4.0, rel=0.3)
    assert factors[1] == pytest.approx(1.0, rel=0.2)


def test_one_stall_does_not_condemn_an_endpoint():
    model = taught()
    before = float(model.ttft_factor[0])
    seen = Observation(500, 5, 0)
    model.answered(0, seen, 1000 * ttft(seen), 31.0)
    assert model.ttft_factor[0] < 1.4 * before
    assert expected(model, 500, 5, 0) < 3 * ttft(seen)


def test_an_endpoint_that_nobody_hears_of_gets_another_chance():
    model = taught(factors=(1.0, 5.0))
    slow = float(model.ttft_factor[1])
    for second in range(240):
        model.relax(40.0 + second)
    assert 1.0 <= model.ttft_factor[1] < 1.1 < slow


def test_more_work_never_takes_less_time():
    model, rng = LatencyModel(LatencySettings()), Random(2)
    model.resize(1)
    for now, seen in observations(rng):
        model.answered(0, seen, 1.0 / (1 + seen.load), now)  # the busier, the faster: nonsense
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
        model.finished(0, seen, 0.02 + 4e-4 * load, 50, number * 0.1)
    load = np.array([10.0, 70.0])
    np.testing.assert_allclose(model.itl(load, np.ones(2)), [0.024, 0.048], rtol=0.1)
    assert model.output == pytest.approx(50, rel=0.1)


def test_what_comes_faster_than_anybody_learns_changes_no_coefficient():
    model, seen = taught(), Observation(500, 5, 0)
    model.answered(0, seen, 0.2, 100.0)
    before = model.coefficients
    model.answered(0, seen, 9.0, 100.001)
    assert model.coefficients == before
