"""The judge in the controller: what it takes for a step to pass, and what a fail does."""

from pathlib import Path

import pytest

from tidegate.api.rollout import QUANTILES, RATES, AnalysisMetric
from tidegate.judge.metrics import BRISK, METRICS, Quantile, Settings
from tidegate.rollout.judged import settings_of
from tidegate.rollout.plan import plan_of
from tidegate.testing.rollouts import admitted
from tidegate.testing.steered import Steered, steered

SPEC = {
    "steps": [{"setWeight": 20}],
    "analysis": {"duration": "4s", "minRequests": 5},
    "bake": "3s",
    "drain": "5s",
}


@pytest.fixture
async def world(tmp_path: Path):
    async with steered(tmp_path, **SPEC) as made:
        yield made


async def seconds_at(world: Steered, weights: tuple[int, int], *, die_after: int = 0) -> int:
    """Return how many seconds the route keeps these weights."""
    while await world.weights() != weights:
        await world.second()
    count = 0
    while await world.weights() == weights:
        await world.second()
        count += 1
        if count == die_after:
            await world.die()
        assert count < 120
    return count


async def test_a_step_passes_once_the_judge_has_shown_enough(world: Steered):
    assert await seconds_at(world, (80, 20)) >= BRISK.least_units
    assert (await world.until("Completed")).status.evidence


async def test_it_says_what_it_waits_for_and_how_long(world: Steered):
    for _ in range(16):
        await world.second()
    status = (await world.rollout()).status
    assert "more for" in status.message
    assert any(each.asked and each.outcome == "continue" for each in status.evidence)
    assert not all(each.asked for each in status.evidence)


async def test_another_controller_goes_on_with_the_evidence(world: Steered):
    alone = await seconds_at(world, (80, 20), die_after=15)
    assert alone < 15 + BRISK.least_units


@pytest.mark.parametrize("dies", [False, True])
async def test_a_failure_that_people_forgave_is_not_held_against_the_canary(
    tmp_path: Path, *, dies: bool
):
    async with steered(tmp_path, **{**SPEC, "onFailure": "Hold"}) as world:
        world.errors = 20
        await world.until("Paused")
        world.errors = 0
        await world.intend(promote="once")
        await world.look()
        if dies:
            await world.die()
        await world.until("Completed")


def test_known_names_are_those_of_the_judge():
    names = {each.name for each in METRICS}
    assert {*RATES, *QUANTILES} == names
    assert {each.name for each in METRICS if isinstance(each, Quantile)} == set(QUANTILES)


def settings(**analysis: object) -> Settings:
    spec = {"stable": "a", "canary": "b", "analysis": analysis}
    return settings_of(plan_of(admitted(spec)))


def test_margins_roles_and_budgets_come_from_the_spec():
    changed = settings(
        metrics=[
            {"name": "ttft_p95", "margin": 0.5},
            {"name": "itl_p95", "role": "Informative"},
            {"name": "errors", "budget": 0.02},
        ]
    ).metrics
    known = {each.name: each for each in changed}
    assert known["ttft_p95"].margin == 0.5
    assert known["itl_p95"].role == "informative"
    assert known["errors"].budget == 0.02
    assert known["ttft_p50"] == next(each for each in METRICS if each.name == "ttft_p50")


@pytest.mark.parametrize("worse", ["Higher", "Lower"])
def test_a_metric_of_ones_own_is_held_against_the_stable(worse: str):
    source = {"url": "http://127.0.0.1:9", "query": "up"}
    metric = {"name": "hits", "worse": worse, "margin": 0.25, "prometheus": source}
    (own,) = [each for each in settings(metrics=[metric]).paired if each.name == "hits"]
    assert own.less_is_worse == (worse == "Lower")
    assert own.factor == pytest.approx(1.25 if worse == "Higher" else 0.8)
    assert AnalysisMetric(name="hits").role is None
    assert own.role == "required"
