"""Specs become plans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.rollout.plan import PlanStep, brief, floor_of, plan_of, position, preset_steps
from tidegate.testing.rollouts import admitted


def steps(**spec: object) -> list[str]:
    plan = plan_of(admitted({"stable": "llm", "canary": "llm-new", **spec}))
    return [str(step) for step in plan.steps]


def test_three_lines_make_a_whole_plan():
    plan = plan_of(admitted({"type": "Node", "stable": "llm", "canary": "llm-new"}))
    assert [str(step) for step in plan.steps][:3] == ["warm 10 %", "setWeight 5", "analyze 5 min"]
    assert [step.weight for step in plan.steps if step.kind == "SetWeight"] == [5, 10, 25, 50, 100]
    assert (plan.bake_s, plan.drain_s, plan.on_failure) == (600, 300, "RollBack")


@pytest.mark.parametrize(
    ("preset", "weights", "first"),
    [
        ("canary", [5, 10, 25, 50, 100], ["Warm"]),
        ("linear", [10, 20, 30, 40, 50, 60, 70, 80, 90, 100], ["Warm"]),
        ("blueGreen", [100], ["Warm"]),
        ("shadowThenCanary", [5, 10, 25, 50, 100], ["Warm", "Shadow"]),
    ],
)
def test_presets_have_their_steps(preset, weights, first):
    found = preset_steps(preset, 60)
    assert [step.weight for step in found if step.kind == "SetWeight"] == weights
    assert [step.kind for step in found[: len(first)]] == first


def test_a_weight_that_nobody_looks_at_is_analysed():
    assert steps(
        steps=[{"setWeight": 5}, {"setWeight": 10}, {"pause": {"duration": "1m"}}],
        analysis={"duration": "30s"},
    ) == [
        "setWeight 5",
        "analyze 30 s",
        "setWeight 10",
        "pause 60 s",
        "setWeight 100",
        "analyze 30 s",
    ]


def test_steps_keep_their_own_settings():
    assert steps(
        steps=[
            {"warm": {"percent": 3, "timeout": "90s"}},
            {"shadow": {"percent": 7, "duration": "2h"}},
            {"setWeight": 100},
            {"analyze": {"duration": "10m"}},
            {"pause": {}},
        ]
    ) == ["warm 3 %", "shadow 7 %", "setWeight 100", "analyze 10 min", "pause until promoted"]


WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=8, unique=True).map(sorted)


@given(weights=WEIGHTS, there=st.integers(0, 100))
def test_changed_steps_never_begin_above_the_share_that_is_there(weights: list[int], there: int):
    plan = tuple(PlanStep(kind="SetWeight", weight=each) for each in weights)
    at = position(plan, there)
    assert plan[at].weight <= there or at == 0
    assert all(step.weight > there for step in plan[at + 1 :])


def test_times_are_said_briefly():
    assert [brief(each) for each in (0.5, 90, 120, 600, 7200, 86400)] == [
        "0.5 s",
        "90 s",
        "2 min",
        "10 min",
        "2 h",
        "24 h",
    ]


@pytest.mark.parametrize(
    ("rate", "floor"), [(40.0, 1), (4.0, 3), (2.0, 5), (1.0, 10), (0.5, 20), (0.2, 25), (0.0, 25)]
)
def test_a_weight_brings_six_requests_a_minute_or_is_a_quarter(rate: float, floor: int):
    assert floor_of(rate) == floor


def test_only_presets_pass_over_weights():
    assert plan_of(admitted({"stable": "a", "canary": "b"})).by_traffic
    own = plan_of(admitted({"stable": "a", "canary": "b", "steps": [{"setWeight": 1}]}))
    assert not own.by_traffic
