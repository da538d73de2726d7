"""When an update of the demo counts as good, and whose fault a failure is."""

import pytest
from msgspec.structs import replace

from tidegate.api.meta import ObjectMeta
from tidegate.api.rollout import InferenceRollout, InferenceRolloutSpec, InferenceRolloutStatus
from tidegate.cli.demo.acts import Act, file, programme
from tidegate.cli.demo.play import Show
from tidegate.load.result import Result

ROLLOUT = InferenceRollout(
    metadata=ObjectMeta(name="node", namespace="default"),
    spec=InferenceRolloutSpec(stable="llm", canary="llm-new"),
    status=InferenceRolloutStatus(phase="Completed"),
)


def request(session: int, at: float, pool: str, *, failed: bool = False) -> Result:
    return Result(session, 0, at, status=500 if failed else 200, pool=pool,
                  error="status" if failed else "")  # fmt: skip


@pytest.fixture
def act() -> Act:
    return Act("node", "new nodes", "llm", "llm-new", "Completed", rollout=ROLLOUT)


def take(act: Act, *results: Result, load: str = "chat") -> None:
    act.results += [(load, each) for each in results]


def test_an_update_that_ended_as_it_should_is_good(act):
    take(act, request(1, 1, "llm"), request(1, 2, "llm-new"))
    assert act.good
    assert act.most_moves == 1


def test_another_end_is_not_good(act):
    status = replace(ROLLOUT.status, phase="RolledBack")
    act.rollout = replace(ROLLOUT, status=status)
    assert act.over
    assert not act.good


def test_what_the_canary_fails_is_its_own_fault_and_nothing_else_may_fail(act):
    take(act, request(1, 1, "llm-new", failed=True))
    assert (act.failed_at_canary, act.failed_otherwise) == (1, [])
    assert act.good
    take(act, request(2, 1, "", failed=True))
    assert len(act.failed_otherwise) == 1
    assert not act.good


def test_of_an_adapter_no_failure_is_the_canarys():
    adapter = Act("adapter", "a new adapter", "llm", "llm", "Completed", rollout=ROLLOUT)
    take(adapter, request(1, 1, "llm", failed=True))
    assert len(adapter.failed_otherwise) == 1


def test_a_session_may_go_there_once_and_back_once(act):
    take(act, *(request(1, at, pool) for at, pool in enumerate(("llm", "llm-new", "llm"))))
    assert act.good
    take(act, request(1, 4, "llm-new"))
    assert act.most_moves == 2
    assert not act.good


def test_sessions_of_two_loads_are_not_one_session(act):
    take(act, request(1, 1, "llm"), request(1, 3, "llm-new"))
    take(act, request(1, 2, "llm-new"), request(1, 4, "llm-new"), load="review")
    assert act.most_moves == 1


def test_a_request_belongs_to_the_act_in_which_it_started():
    acts = programme()
    acts[1].began_at = 10.0
    file("chat", request(1, 9.9, "llm"), acts[:2])
    file("chat", request(1, 10.0, "llm"), acts[:2])
    assert [len(one.results) for one in acts] == [1, 1, 0]


def test_a_show_that_ended_early_is_not_good(act):
    show = Show(rate=10.0, clock=lambda: 0.0, acts=[act, *programme()[1:]], began=[act])
    assert not show.good
