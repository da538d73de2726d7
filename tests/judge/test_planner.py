"""Plans agree with what rollouts then take."""

from itertools import chain
from random import Random

import pytest

from tidegate.judge.ledger import Ledger, Step
from tidegate.judge.metrics import METRICS, Quantile, Rate, Settings
from tidegate.judge.planner import (
    Shape,
    Traffic,
    default_shape,
    normal_quantile,
    plan,
    shape_of,
    units_needed,
)
from tidegate.judge.sequential import Allowed
from tidegate.judge.verdict import decide
from tidegate.judge.words import tell_plan
from tidegate.testing.records import Arm, folded, traffic

SHAPES = {metric.name: default_shape(metric) for metric in METRICS}


def minutes(rate: float, *weights: int) -> float:
    total = plan(rate, weights, SHAPES, Settings()).minutes
    assert total is not None
    return total


def test_more_traffic_is_never_slower():
    each = [minutes(rate, 5, 10, 25, 50) for rate in (0.2, 1, 4, 20, 100)]
    assert each == sorted(each, reverse=True)


def test_a_wider_margin_is_never_slower():
    def wait(margin: float) -> float:
        metric = Quantile(name="t", label="t", histogram="ttft", q=0.95, margin=margin)
        made = plan(4, (50,), {"t": default_shape(metric)}, Settings(metrics=(metric,)))
        assert made.minutes is not None
        return made.minutes

    each = [wait(margin) for margin in (0.05, 0.1, 0.2, 0.5)]
    assert each == sorted(each, reverse=True)


def test_worse_canaries_are_found_sooner():
    exposures = {each.harm: each for each in plan(4, (5, 50), SHAPES, Settings()).exposures}
    slow = [exposures[f"ttft x{factor}"].requests for factor in ("1.2", "1.5", "3")]
    assert slow == sorted(slow, reverse=True)
    assert exposures["ttft x1.1"].within
    assert exposures["errors +50 %"].by == "tripwire"
    assert exposures["errors +50 %"].requests <= 20


def test_low_traffic_is_advised_to_begin_higher():
    advice = plan(0.5, (1, 50), SHAPES, Settings()).advice
    assert any("begin at" in each for each in advice)
    assert plan(40, (5, 50), SHAPES, Settings()).advice == ()


def test_what_can_never_be_shown_is_said():
    metric = Rate(name="errors", label="errors", bad="errors", allowed=Allowed(1.0, 0.0))
    made = plan(4, (50,), {"errors": Shape(0.01, 0.01, 0.01)}, Settings(metrics=(metric,)))
    assert made.minutes is None
    assert "can't be shown" in made.advice[0]


def test_without_traffic_nothing_is_ever_needed():
    assert units_needed(Traffic(0, 10, 0, 0), Allowed(), 3, to_fail=False, least=20) is None


def test_a_plan_is_told_in_words():
    text = tell_plan(plan(4, (5, 25, 50), SHAPES, Settings()))
    assert "At 4 requests a second" in text
    assert "ttft x1.5        is found in" in text


@pytest.mark.parametrize("q", [0.5, 0.95, 0.001])
def test_normal_quantiles(q: float):
    from scipy import stats

    assert normal_quantile(q) == pytest.approx(stats.norm.ppf(q), abs=1e-6)


def test_the_planned_time_is_about_what_it_takes():
    settings = Settings(metrics=tuple(m for m in METRICS if m.name == "ttft_p50"))
    took = []
    for seed in range(8):
        rng = Random(seed)
        records = chain(
            traffic(rng, seconds=600, rate=4, weight=0.0),
            traffic(rng, seconds=5400, rate=4, weight=0.3, canary=Arm(), start=600.0),
        )
        ledger = Ledger(settings, "stable", "canary")
        ledger.enter(Step(600.0, 30))
        blocks = folded(records)
        ledger.absorb(blocks)
        now = 600.0
        while decide(ledger, now, details=False).outcome != "pass" and now < 6000:
            now += 30
            ledger.advance(now)
        took.append((now - 600) / 60)
    shape = shape_of(ledger.tracks[0])
    assert shape is not None
    assert shape.stable == pytest.approx(0.5, abs=0.03)
    planned = plan(4, (30,), {"ttft_p50": shape}, settings).minutes
    assert planned is not None
    assert planned / 2 < sorted(took)[4] < planned * 2
