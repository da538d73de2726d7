"""The tests keep their promises, and evidence only grows."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from tidegate.judge.intervals import quantile_ratio, rate_ratio, score_evidence
from tidegate.judge.sequential import (
    UNSEEN_FAIL,
    UNSEEN_PASS,
    Allowed,
    RobustTest,
    Unit,
    below_rate,
    beta_binomial,
    log_normal_cdf,
    one_sided,
    pair_evidence,
    rate_interval,
)

rates = st.floats(0.0, 1.0)


@st.composite
def units(draw) -> list[Unit]:
    made = []
    for _ in range(draw(st.integers(20, 60))):
        canary, stable = draw(st.integers(0, 20)), draw(st.integers(0, 50))
        made.append(
            Unit(canary, draw(st.integers(0, canary)), stable, draw(st.integers(0, stable)))
        )
    return made


def test_the_normal_tail_is_right_far_out():
    for x in (-60.0, -20.1, -19.9, -5.0, 0.0, 3.0):
        assert log_normal_cdf(x) == pytest.approx(stats.norm.logcdf(x), rel=1e-5)


@pytest.mark.parametrize(
    ("score", "variance"), [(0.0, 1.0), (5.0, 10.0), (-4.0, 3.0), (30.0, 40.0)]
)
def test_the_one_sided_mixture_is_the_integral_that_it_claims(score: float, variance: float):
    rho = 3.0
    grid = np.linspace(0, 12, 200_001)
    half_normal = 2 * stats.norm.pdf(grid, scale=rho**-0.5)
    inside = np.exp(grid * score - grid**2 * variance / 2) * half_normal
    expected = math.log(np.trapezoid(inside, grid))
    assert one_sided(score, variance, rho) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("variance", [0.5, 5.0, 50.0])
def test_the_mixture_is_a_supermartingale_at_the_boundary(variance: float):
    # The evidence that a Brownian motion gives at any time has mean 1. Integrated, for the mean
    # lives in the tail, where no sample comes.
    scores = np.linspace(-60, 60, 4001) * math.sqrt(variance * (variance + 3) / 3)
    logs = [one_sided(each, variance) for each in scores]
    density = stats.norm.logpdf(scores, scale=math.sqrt(variance))
    assert np.trapezoid(np.exp(logs + density), scores) == pytest.approx(1.0, rel=1e-3)


def clustered(rng: np.random.Generator, rate: float, canary_rate: float) -> Iterator[Unit]:
    """Units within which requests fail together, at rates that drift with the time of day."""
    for index in range(150):
        hour = 1 + 0.5 * math.sin(index / 20)
        canary, stable = rng.poisson(6), rng.poisson(50 * hour)
        shape = 3.0
        c = rng.beta(shape * canary_rate * hour, shape * (1 - canary_rate * hour))
        s = rng.beta(shape * rate * hour, shape * (1 - rate * hour))
        yield Unit(canary, rng.binomial(canary, c), stable, rng.binomial(stable, s))


@pytest.mark.parametrize("allowed", [Allowed(), Allowed(1.25, 0.0), Allowed(1.0, 0.1)])
def test_at_the_margin_clustered_drifting_requests_seldom_decide(allowed: Allowed):
    runs, wrong_fail, wrong_pass = 200, 0, 0
    for run in range(runs):
        rng = np.random.default_rng([5, run])
        test = RobustTest(allowed)
        canary_rate = allowed.times * 0.1 + allowed.plus
        # The additive part doesn't drift, so no drift with it: the boundary must be exact.
        for unit in (
            clustered(rng, 0.1, canary_rate) if not allowed.plus else still(rng, canary_rate)
        ):
            test.add(unit)
        wrong_fail += test.log_fail > math.log(20)
        wrong_pass += test.log_pass > math.log(20)
    # 5 % are allowed; more than 20 of 200 have a chance of 0.1 % then.
    assert wrong_fail <= 20
    assert wrong_pass <= 20


def still(rng: np.random.Generator, canary_rate: float) -> Iterator[Unit]:
    for _ in range(150):
        canary, stable = rng.poisson(6), rng.poisson(50)
        yield Unit(canary, rng.binomial(canary, canary_rate), stable, rng.binomial(stable, 0.1))


def test_a_clear_difference_decides_and_equality_passes():
    rng = np.random.default_rng(7)
    worse, equal = RobustTest(Allowed()), RobustTest(Allowed(2.0))
    for _ in range(100):
        n, m = 20, 100
        worse.add(Unit(n, rng.binomial(n, 0.2), m, rng.binomial(m, 0.05)))
        equal.add(Unit(n, rng.binomial(n, 0.1), m, rng.binomial(m, 0.1)))
    assert worse.log_fail > math.log(1000)
    assert worse.log_pass < 0
    assert equal.log_pass > math.log(1000)
    assert equal.log_fail < 0


@given(units())
def test_evidence_only_grows(made: list[Unit]):
    test = RobustTest(Allowed())
    before = (test.log_fail, test.log_pass)
    for unit in made:
        test.add(unit)
        assert test.log_fail >= before[0]
        assert test.log_pass >= before[1]
        before = (test.log_fail, test.log_pass)


@given(units())
def test_swapping_the_arms_swaps_the_evidence(made: list[Unit]):
    one, other = RobustTest(Allowed()), RobustTest(Allowed())
    for unit in made:
        one.add(unit)
        other.add(Unit(unit.stable, unit.stable_bad, unit.canary, unit.canary_bad))
    assert one.score == pytest.approx(-other.score, abs=1e-9)
    assert one.variance == pytest.approx(other.variance, abs=1e-6)
    if one.units:
        fail = one_sided(one.score, one.variance * (1 + UNSEEN_FAIL / one.units))
        mirrored = one_sided(-other.score, other.variance * (1 + UNSEEN_FAIL / other.units))
        assert fail == pytest.approx(mirrored, abs=1e-6)


def test_units_that_lack_an_arm_say_nothing():
    test = RobustTest(Allowed())
    for _ in range(100):
        test.add(Unit(0, 0, 50, 25))
        test.add(Unit(5, 5, 0, 0))
    assert test.units == 0
    assert test.log_fail == test.log_pass == -math.inf


def test_few_units_never_decide():
    test = RobustTest(Allowed(), least_units=20)
    for _ in range(19):
        test.add(Unit(100, 100, 100, 0))
    assert test.log_fail == -math.inf
    test.add(Unit(100, 100, 100, 0))
    assert test.log_fail > math.log(1000)


def test_many_margins_at_once_are_the_single_tests():
    rng = np.random.default_rng(9)
    made = [Unit(8, rng.binomial(8, 0.3), 40, rng.binomial(40, 0.2)) for _ in range(70)]
    test = RobustTest(Allowed())
    increments = []
    for unit in made:
        test.add(unit)
        weight = unit.canary * unit.stable / (unit.canary + unit.stable)
        increments.append(weight * (unit.canary_bad / unit.canary - unit.stable_bad / unit.stable))
    above, _ = score_evidence(np.array(increments)[:, None])
    assert above[0] == pytest.approx(test.log_fail, rel=1e-9)
    assert UNSEEN_PASS > UNSEEN_FAIL


# rates


@given(st.integers(1, 300), st.data())
def test_the_beta_binomial_evidence_is_that_of_scipy(count: int, data):
    events = data.draw(st.integers(0, count))
    rate = data.draw(st.floats(0.01, 0.99))
    expected = (
        special.betaln(0.5 + events, 0.5 + count - events)
        - special.betaln(0.5, 0.5)
        - events * math.log(rate)
        - (count - events) * math.log1p(-rate)
    )
    assert beta_binomial(events, count, rate) == pytest.approx(expected, abs=1e-6)


def test_the_rate_interval_holds_what_is_not_rejected():
    low, high = rate_interval(3, 200)
    wide = -math.log(0.05)
    for bound, side in ((low, -1), (high, 1)):
        root = optimize.brentq(
            lambda p: beta_binomial(3, 200, p) - wide, *sorted((0.015, 0.5 + side * 0.4999))
        )
        assert bound == pytest.approx(root, rel=1e-6)
    assert rate_interval(0, 0) == (0.0, 1.0)
    assert rate_interval(0, 1000)[0] == 0.0
    assert rate_interval(0, 1000)[1] < 0.01


def test_rate_intervals_miss_seldom_however_often_they_are_looked_at():
    rng, misses = np.random.default_rng(11), 0
    for _ in range(300):
        events = np.cumsum(rng.random(1500) < 0.03)
        looks = np.arange(10, 1500, 10)
        misses += any(beta_binomial(events[n - 1], n, 0.03) > -math.log(0.05) for n in looks)
    assert misses <= 25


@given(st.integers(1, 2000), st.floats(0.001, 0.2), st.floats(1.0, 4.0))
def test_evidence_for_a_rate_below_has_mean_at_most_one(count: int, rate: float, more: float):
    # Summed over all outcomes, exactly, under the rate itself and any higher one.
    true = min(0.9, rate * more)
    events = np.arange(0, min(count, int(count * true + 12 * math.sqrt(count) + 30)) + 1)
    chance = stats.binom.logpmf(events, count, true)
    evidence = [below_rate(float(k), count, rate) for k in events]
    assert np.exp(special.logsumexp(chance + np.array(evidence))) <= 1 + 1e-6


# pairs


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_evidence_of_pairs_has_mean_at_most_one_at_the_margin(margin: float):
    rng = np.random.default_rng(13)
    better = 0.1
    chances = (better + margin, better, 1 - 2 * better - margin)
    draws = rng.multinomial(60, chances, 20_000)
    both = np.exp([pair_evidence(*map(int, draw), margin) for draw in draws])
    # Heavy-tailed means: five standard errors.
    for column in both.T:
        assert column.mean() <= 1 + 5 * column.std() / math.sqrt(len(column))


def test_pairs_decide():
    assert pair_evidence(40, 5, 200, 0.02)[0] > math.log(100)
    assert pair_evidence(4, 5, 400, 0.05)[1] > math.log(20)
    assert pair_evidence(0, 0, 0, 0.02) == (0.0, 0.0)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_swapping_the_sides_of_pairs_swaps_the_evidence(worse: int, better: int, same: int):
    fail, passed = pair_evidence(worse, better, same, 0.0)
    assert pair_evidence(better, worse, same, 0.0) == pytest.approx((passed, fail))


# estimates


def test_the_ratio_of_rates_covers_the_truth_and_excludes_what_is_far():
    rng = np.random.default_rng(17)
    made = [Unit(30, rng.binomial(30, 0.06), 300, rng.binomial(300, 0.02)) for _ in range(60)]
    ratio = rate_ratio(made)
    assert ratio is not None
    assert ratio.low < 3 < ratio.high
    assert ratio.low > 1.5
    assert ratio.high < 6
    assert rate_ratio([Unit(30, 0, 300, 0)] * 30) is None


def test_ratios_miss_seldom_however_often_they_are_looked_at():
    rng, misses = np.random.default_rng(19), 0
    for _ in range(100):
        made = [Unit(10, rng.binomial(10, 0.1), 90, rng.binomial(90, 0.1)) for _ in range(60)]
        looks = [rate_ratio(made[:n]) for n in range(5, 61, 5)]
        misses += any(ratio and not ratio.low <= 1 <= ratio.high for ratio in looks)
    assert misses <= 12


def test_the_ratio_of_quantiles_is_found():
    rng = np.random.default_rng(23)
    from tidegate.judge.tracks import DOWN, PER_DOUBLING, RELATIVE_BINS

    median = 1.0
    made, relatives = [], []
    for _ in range(80):
        canary = 1.5 * np.exp(rng.normal(0, 0.5, 30))
        stable = np.exp(rng.normal(0, 0.5, 200))
        bins = np.floor(np.log2(canary / median) * PER_DOUBLING).astype(int) + DOWN
        relatives.append(np.bincount(np.clip(bins, 0, RELATIVE_BINS - 1), minlength=RELATIVE_BINS))
        made.append(Unit(30, (canary > 1).sum(), 200, (stable > 1).sum()))
    ratio = quantile_ratio(made, relatives)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.5, rel=0.06)
    assert 1.2 < ratio.low < 1.5 < ratio.high < 1.9
