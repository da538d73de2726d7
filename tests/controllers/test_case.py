"""What is kept beside a rollout's state."""

from msgspec.structs import replace

from tidegate.api.rollout import InferenceRolloutSpec
from tidegate.controllers.case import ADOPT_S, Case
from tidegate.rollout.plan import plan_of
from tidegate.rollout.state import State


def test_workers_have_new_weights_a_moment_after_the_api_has():
    state = State(plan=plan_of(InferenceRolloutSpec(stable="llm", canary="llm-new")))
    case = Case("uid-1", state, state, {})
    for at, now, since in [((50, 50), 10, 10), ((50, 50), 20, 10), ((100, 0), 30, 30)]:
        case.state = replace(case.state, at=at)
        case.note(now)
        assert case.at_since == since + ADOPT_S
