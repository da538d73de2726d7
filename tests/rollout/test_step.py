"""The reducer, where a script would say too little."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tidegate.api.rollout import FindingStatus
from tidegate.rollout.due import due
from tidegate.rollout.events import (
    Announced,
    Checked,
    Event,
    GateAnswered,
    Judged,
    Outcome,
    SpecSeen,
    Tick,
    Verdict,
    WorldSeen,
)
from tidegate.rollout.observed import Binding, Observed, PoolSeen, TargetSeen, Weights
from tidegate.rollout.state import OVER, State
from tidegate.rollout.status import joined, mirror, render
from tidegate.rollout.step import step
from tidegate.testing.rollouts import MANAGER, World

SPEC = {
    "stable": "llm",
    "canary": "llm-new",
    "steps": [{"setWeight": 10}],
    "analysis": {"duration": "30s"},
    "bake": "60s",
    "drain": "60s",
}
BLOCKING = FindingStatus(name="Tokenizer", severity="Block", message="They differ.")


def at(phase: str) -> World:
    """Return a world whose rollout has come to `phase` and rests there."""
    world = World(dict(SPEC))
    match phase:
        case "Pending":
            world.owner = "older"
        case "Preflight":
            world.findings = (BLOCKING,)
        case "Warming":
            world.spec["steps"] = [{"warm": {}}]
    world.look()
    if phase in ("Paused", "Aborted"):
        world.spec["paused" if phase == "Paused" else "abort"] = True
        world.look()
    if phase in ("Baking", "Draining", "Completed", "RollingBack"):
        world.spec["promote"] = "full"
        world.look()
    if phase in ("Draining", "Completed", "RollingBack"):
        world.stable = replace(world.stable, in_flight=3 if phase == "Draining" else 0)
        world.wait(60)
    if phase == "RollingBack":
        world.stable = replace(world.stable, ready=0)
        world.look()
        world.spec["undo"] = True
        world.look()
    if phase == "RolledBack":
        world.quality, world.why = "fail", "bad"
        world.look()
    if phase == "Aborting":
        world.spec["abort"] = True
        (event,) = world._spec_seen()
        world.feed(event)
    assert world.state.phase == phase
    return world


PHASES = (
    "Pending",
    "Preflight",
    "Warming",
    "Progressing",
    "Paused",
    "Baking",
    "Draining",
    "Completed",
    "Aborting",
    "Aborted",
    "RollingBack",
    "RolledBack",
)


def verdict(state: State, outcome: Outcome, **changes: object) -> Judged:
    plain = Verdict(outcome=outcome, run=state.run, epoch=state.epoch, reason="Bad", message="bad")
    return Judged(replace(plain, **changes))


def spec_event(world: World, **changes: object) -> SpecSeen:
    (event,) = world._spec_seen()
    return replace(event, **changes)


def events(world: World) -> Iterator[tuple[str, Event]]:
    state, seen = world.state, world.seen(world.state)
    (spec,) = world._spec_seen()
    assert isinstance(spec, SpecSeen)
    for wish in ("abort", "undo", "deleting", "paused"):
        yield wish, replace(spec, **{wish: True})
    for token in ("go", "full"):
        yield f"promote {token}", replace(spec, promote=token)
    yield "other sides", replace(spec, plan=World({**SPEC, "canary": "c"}).plan)
    yield "other steps", replace(spec, plan=World({**SPEC, "preset": "linear", "steps": []}).plan)
    yield "seen", WorldSeen(seen)
    yield (
        "nothing is there",
        WorldSeen(
            Observed(
                target=TargetSeen(problem="gone", canary_gone=True),
                stable=PoolSeen(exists=False),
                canary=PoolSeen(exists=False),
            )
        ),
    )
    yield (
        "foreign",
        WorldSeen(
            replace(seen, target=replace(seen.target, weights=Weights(3, 4), writer="kubectl"))
        ),
    )
    yield "canary down", WorldSeen(replace(seen, canary=PoolSeen(ready=0)))
    yield "canary deleting", WorldSeen(replace(seen, canary=PoolSeen(ready=2, deleting=True)))
    yield "checked", Checked(())
    yield "blocked", Checked((BLOCKING,))
    for outcome in ("pass", "fail", "continue", "inconclusive"):
        yield outcome, verdict(state, outcome)
    yield "gate opened", GateAnswered("BeforeStart/0", True)
    yield "gate closed", GateAnswered("BeforeStart/0", False, "no")
    yield "announced", Announced(3)
    yield "tick", Tick()


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_an_answer_to_every_event(phase: str):
    world = at(phase)
    before = world.state
    for name, event in events(world):
        for later in (0, 30, 1e6):
            after = step(before, event, world.now + later)
            status = render(after)
            assert status.message, name
            assert after.effective <= max(before.effective, after.desired), name
            due(after, world.seen(after))
            if name in ("abort", "deleting") and phase not in OVER:
                assert after.stage in ("Aborting", "Aborted"), name
                assert after.effective == 0, name
            if before.over and name not in ("undo", "other sides", "other steps"):
                assert after.stage == before.stage, name
            if name in ("fail", "canary deleting") and phase in (
                "Warming",
                "Progressing",
                "Paused",
                "Baking",
                "Draining",
            ):
                assert after.stage in ("RollingBack", "RolledBack"), name


def test_a_fail_of_an_earlier_run_says_nothing_of_this_one():
    world = at("Progressing")
    state = world.state
    assert step(state, verdict(state, "fail", run=state.run - 1), world.now) == state


def test_a_pass_is_only_good_for_its_epoch():
    world = at("Progressing")
    state, later = world.state, world.now + 30
    old = verdict(state, "pass", epoch=state.epoch - 1)
    assert step(state, old, later).step == state.step
    assert step(state, verdict(state, "pass"), later).step == state.step + 1


def test_a_pass_before_the_time_waits_for_it():
    world = at("Progressing")
    state = step(world.state, verdict(world.state, "pass"), world.now + 29)
    assert state.step == world.state.step
    assert step(state, Tick(), world.now + 30).step == state.step + 1


def test_while_it_stands_still_no_weight_rises():
    world = World({**SPEC, "steps": [{"setWeight": 50}]}, cap=20)
    assert world.look().effective == 20
    world.spec["paused"] = True
    world.look()
    world.cap = None
    assert world.look().effective == 20
    world.cap = 5
    assert world.look().effective == 5
    world.spec["paused"] = False
    world.cap = None
    assert world.look().effective == 50


def test_weights_that_it_once_wanted_are_not_foreign_whoever_wrote_last():
    world = World(dict(SPEC))
    world._step()
    assert (world.state.effective, world.weights) == (10, (100, 0))
    world.set_weights(90, 10, "somebody-who-then-edited-a-filter")
    world.spec["promote"] = "full"
    (event,) = world._spec_seen()
    assert world.feed(event).effective == 100
    state = world.feed(WorldSeen(world.seen(world.state)))
    assert not state.held
    assert world.look().phase == "Baking"


def test_what_was_cleaned_up_once_is_left_alone_later():
    world = World(
        {
            **SPEC,
            "type": "Adapter",
            "stable": "v1",
            "canary": "v2",
            "adapters": {"unload": True},
        },
        adapters={"a:1": {"v1", "v2"}},
    )
    world.look()
    world.spec["promote"] = "full"
    world.look()
    assert world.wait(60).phase == "Completed"
    assert world.adapters == {"a:1": {"v2"}}
    world.adapters["a:1"].add("v1")
    world.wait(1000)
    assert world.adapters == {"a:1": {"v1", "v2"}}


def test_a_bake_without_all_of_the_traffic_begins_again():
    world = at("Baking")
    world.wait(59)
    world.cap = 50
    assert world.look().effective == 50
    world.cap = 100
    world.look()
    assert world.wait(59).phase == "Baking"
    assert world.wait(1).phase == "Completed"


def test_draining_ends_at_its_deadline_too():
    world = at("Draining")
    assert world.wait(59).phase == "Draining"
    assert world.wait(1).phase == "Completed"
    assert "to end" in world.state.why


def test_a_stable_that_others_use_keeps_its_objectives_and_its_size():
    world = World({**SPEC, "onCompletion": "ScaleDown"})
    world.stable = replace(world.stable, shared=True)
    world.look()
    world.spec["promote"] = "full"
    world.look()
    assert world.wait(60).phase == "Completed"
    assert not [each for each in world.log if "Scale" in each or "Rebind" in each]


def test_copies_stop_while_it_stands_still():
    world = at("Warming")
    assert (mirror(world.state).percent, mirror(world.state).purpose) == (10, "Warm")
    world.spec["paused"] = True
    assert mirror(world.look()).percent == 0


def test_finalizers_come_before_the_first_weight_and_weights_first_on_the_way_back():
    world = at("Progressing")
    lines = [each.partition("(")[0] for each in world.log]
    assert lines == ["HoldRollout", "HoldPool", "HoldPool", "SetWeights"]
    world.log.clear()
    world.spec["abort"] = True
    world.look()
    assert world.log[0] == "SetWeights(stable=100, canary=0)"
    assert world.writer == MANAGER


def test_the_history_is_bounded_and_its_numbers_go_on():
    world = at("Progressing")
    for turn in range(60):
        world.spec["paused"] = turn % 2 == 0
        world.look()
    history = render(world.state).history
    assert len(history) == 40
    assert [each.number for each in history] == list(range(25, 65))


def test_what_is_announced_is_announced_once_and_has_a_name_of_its_own():
    world = World(dict(SPEC))
    (event,) = world._spec_seen()
    state = world.feed(event)
    names = [each.name for each in due(state, Observed()) if type(each).__name__ == "Announce"]
    assert names == ["uid-1"]
    state = world.feed(Announced(1))
    assert not [each for each in due(state, Observed()) if type(each).__name__ == "Announce"]


def test_a_promote_before_the_end_of_a_pause_is_kept():
    world = at("Paused")
    world.spec["promote"] = "full"
    assert world.look().phase == "Paused"
    world.spec["paused"] = False
    assert world.look().phase == "Baking"


def test_pools_are_joined_until_what_was_bound_to_the_loser_is_bound_to_the_winner():
    assert joined(at("Preflight").state) == ()
    world = at("Draining")
    world.bindings = [Binding("InferenceObjective", "chat", "llm")]
    assert joined(world.state) == ("llm", "llm-new")
    world.now += 60
    while world.bindings[0].pool == "llm":
        for event in (Tick(), WorldSeen(world.seen(world.state))):
            world.feed(event)
        assert joined(world.state) == ("llm", "llm-new")
        for command in due(world.state, world.seen(world.state)):
            world.do(command)
    assert joined(world.look()) == ()
