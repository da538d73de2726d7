"""What rollouts get to see."""

import math

import pytest

from tidegate.controllers.senses import DEEP_S, answers_age_s
from tidegate.rollout.state import State


@pytest.mark.parametrize(
    ("stage", "age_s"), [("Pending", 5.0), ("Preflight", 5.0), ("Progressing", math.inf)]
)
def test_before_it_moves_only_what_was_answered_since_it_began_counts(stage: str, age_s: float):
    state = State(stage=stage, run_since=100.0)  # type: ignore[arg-type]
    assert answers_age_s(state, 105.0) == age_s
    assert answers_age_s(state, 1000.0) == (DEEP_S if age_s < math.inf else math.inf)
