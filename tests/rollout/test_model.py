"""Random lives of a rollout: people, failures, clock jumps, crashes. What always holds?"""

import copy
from dataclasses import replace

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.api.rollout import FindingStatus, InferenceRolloutStatus
from tidegate.rollout.due import due
from tidegate.rollout.events import Event
from tidegate.rollout.observed import Binding, Warmth
from tidegate.rollout.state import BEFORE, MOVING, OVER, State
from tidegate.rollout.status import render, restore
from tidegate.testing.rollouts import World

Op = tuple[str, object]

BLOCKED = (FindingStatus(name="Tokenizer", severity="Block", message="They differ."),)
STEPS = (
    [{"setWeight": 10}, {"setWeight": 50}],
    [
        {"warm": {}},
        {"setWeight": 5},
        {"pause": {}},
        {"setWeight": 40},
        {"pause": {"duration": "9s"}},
    ],
    [{"shadow": {}}, {"setWeight": 30}, {"analyze": {"duration": "1m"}}, {"setWeight": 100}],
    [],
)

HOOKS = [{"gate": "BeforeIncrease", "url": "http://a"}, {"gate": "BeforeStart", "url": "http://a"}]

OPS: dict[str, st.SearchStrategy] = {
    "wait": st.sampled_from([0, 1, 10, 31, 600, 100_000, -50, -5000]),
    "quality": st.sampled_from(["pass", "pass", "continue", "fail", "inconclusive"]),
    "paused": st.booleans(),
    "promote": st.sampled_from(["1", "2", "full", "full-2", None]),
    "abort": st.booleans(),
    "undo": st.booleans(),
    "steps": st.sampled_from(STEPS),
    "onFailure": st.sampled_from(["RollBack", "Hold"]),
    "canary": st.sampled_from(["llm-new", "other-new"]),
    "hooks": st.sampled_from([[], HOOKS]),
    "gate_open": st.booleans(),
    "cap": st.sampled_from([None, 0, 3, 30, 33, 60, 100]),
    "stable_cap": st.sampled_from([None, 0, 40, 100]),
    "ready": st.tuples(st.sampled_from(["stable", "canary"]), st.integers(0, 3)),
    "in_flight": st.sampled_from([None, 0, 4]),
    "deleting": st.sampled_from(["stable", "canary"]),
    "weights": st.sampled_from([(100, 0), (70, 30), (1, 1), (0, 0), (0, 100)]),
    "target": st.sampled_from(["gone", "back"]),
    "owner": st.sampled_from(["", "", "older"]),
    "share": st.sampled_from([None, (0, 1000), (500, 1000)]),
    "warmth": st.sampled_from([None, Warmth(0.1, 0.5), Warmth(0.5, 0.5)]),
    "findings": st.sampled_from([(), (), BLOCKED]),
    "waivers": st.sampled_from([[], ["Tokenizer"]]),
    "delete": st.just(True),
}
SPEC = ("paused", "promote", "abort", "undo", "steps", "onFailure", "canary", "hooks", "waivers")

TO_BAKING = [("wait", 0), ("promote", "full"), ("wait", 1)]
TO_DRAINING = [*TO_BAKING, ("in_flight", 4), ("wait", 61)]
TO_COMPLETED = [*TO_BAKING, ("in_flight", 0), ("wait", 61)]
BEGINNINGS: list[list[Op]] = [
    [],
    [("findings", BLOCKED), ("steps", STEPS[1])],
    [("steps", STEPS[1]), ("wait", 1)],
    [("hooks", HOOKS), ("gate_open", False), ("wait", 31)],
    [("wait", 31)],
    TO_BAKING,
    TO_DRAINING,
    TO_COMPLETED,
    [*TO_COMPLETED, ("wait", 0), ("ready", ("stable", 0)), ("undo", True)],
    [*TO_COMPLETED, ("wait", 0), ("ready", ("stable", 0)), ("stable_cap", 40), ("undo", True)],
    [("abort", True)],
    [("quality", "fail"), ("wait", 31)],
]

one = st.sampled_from([*OPS, *["wait"] * 12, *["quality", "promote", "in_flight"] * 3]).flatmap(
    lambda name: st.tuples(st.just(name), OPS[name])
)
ops = st.builds(
    lambda beginning, life: [*beginning, *life],
    st.sampled_from(BEGINNINGS),
    st.lists(one, max_size=20),
)

START = {
    "stable": "llm",
    "canary": "llm-new",
    "steps": STEPS[0],
    "analysis": {"duration": "30s"},
    "bake": "60s",
    "drain": "60s",
    "maxDuration": "1h",
    "onCompletion": "ScaleDown",
}
ADAPTER = {
    **{name: value for name, value in START.items() if name != "onCompletion"},
    "type": "Adapter",
    "stable": "v1",
    "canary": "v2",
    "adapters": {"canaryPath": "/v2", "stablePath": "/v1", "unload": True},
}


def fresh(kind: str) -> World:
    if kind == "Adapter":
        return World(dict(ADAPTER), adapters={"a:1": {"v1"}, "b:1": {"v1", "v2"}}, quality="pass")
    bindings = [Binding("InferenceObjective", "chat", "llm")]
    world = World({**START, "type": kind}, bindings=bindings, quality="pass")
    if world.target is not None:
        refs = world.target["spec"]["rules"][1]["backendRefs"]
        refs.append({**refs[0], "name": "other-new", "weight": 0})
    return world


def do(world: World, op: Op) -> None:
    name, value = op
    match name:
        case "wait":
            world.now += value  # type: ignore[operator]
        case "ready":
            side, ready = value  # type: ignore[misc]
            setattr(world, side, replace(getattr(world, side), ready=ready))
        case "in_flight":
            world.stable = replace(world.stable, in_flight=value)  # type: ignore[arg-type]
            world.canary = replace(world.canary, in_flight=value)  # type: ignore[arg-type]
        case "deleting":
            seen = getattr(world, value)  # type: ignore[call-overload]
            gone = not seen.held
            setattr(world, value, replace(seen, deleting=True, exists=not gone))  # type: ignore[call-overload]
        case "weights":
            empty = value == (0, 0) and world.plan.type == "Adapter"
            if world.weights is not None and not empty:
                world.set_weights(*value, "kubectl")  # type: ignore[misc]
        case "target":
            if world.plan.type != "Adapter":
                world.target = None if value == "gone" else fresh("Node").target
                world.writer = "kubectl"
        case "delete":
            world.deleting = True
        case _ if name in SPEC:
            if not (name == "canary" and world.plan.type == "Adapter"):
                world.spec = {**world.spec, name: value}
                world.generation += 1
        case _:
            setattr(world, name, value)


kinds = st.sampled_from(["Node", "BaseModel", "Adapter"])
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Watched(World):
    """A world that checks each single step."""

    def feed(self, event: Event) -> State:
        before = self.state
        after = super().feed(event)
        check_step(before, after)
        return after


def watched(kind: str) -> Watched:
    plain = fresh(kind)
    names = list(World.__dataclass_fields__)
    return Watched(**{name: getattr(plain, name) for name in names})


def check_step(before: State, after: State) -> None:
    if after.stage in MOVING:
        assert after.effective <= after.desired
        assert after.cap is None or after.effective <= after.cap
        assert after.begun
    if after.stage in BEFORE:
        assert after.effective == 0
    if after.held:
        assert after.effective <= before.effective
    if after.stage in ("Aborting", "Aborted", "RolledBack"):
        assert after.effective == 0
    if after.stage == "RollingBack":
        assert after.effective <= before.effective
    if after.stage != before.stage and after.stage in ("Aborted", "RolledBack") and before.begun:
        assert after.given_back
    assert sum(after.units(after.effective)) == after.total
    assert restored(after) == after


def restored(state: State) -> State:
    status = msgspec.json.encode(render(state))
    return restore(msgspec.json.decode(status, type=InferenceRolloutStatus))


def check_rest(world: World, earlier: State) -> None:
    """What holds after each look."""
    state, weights = world.state, world.weights
    left = due(state, world.seen(state))
    assert all(type(each).__name__ == "AskGate" for each in left), left
    if weights is not None and state.foreign is None and state.stage in MOVING:
        assert weights == state.units(state.effective)
        assert sum(weights) == state.total
    if weights is not None and state.foreign is not None and state.stage in MOVING:
        assert weights == state.foreign
    if world.spec.get("abort") and weights is not None and earlier.stage not in OVER | BEFORE:
        assert weights == (state.total, 0) or earlier.stage == "Completed"
    if not completed(world):
        assert "replicas=0" not in str(world.log)
        assert not any("UnloadAdapter" in each and "'v1'" in each for each in world.log)
        assert not any("Rebind" in each and "'llm-new'" in each for each in world.log)
    status = render(state)
    assert status.message
    ends = [each.type for each in status.conditions if each.status == "True"]
    assert len({"Completed", "Aborted", "RolledBack"} & set(ends)) == state.over
    assert ("Completed" in ends) == (state.stage == "Completed")


def completed(world: World) -> bool:
    return any(each.phase == "Completed" for each in world.state.history) or (
        world.state.transition > 40
    )


@MANY
@given(kind=kinds, life=ops)
def test_whatever_happens_the_invariants_hold(kind: str, life: list[Op]):
    world = watched(kind)
    for op in life:
        earlier = world.state
        do(world, op)
        world.look()
        check_rest(world, earlier)


def outcome(world: World) -> object:
    """Return all of the world that must not depend on crashes; numbers and words may."""
    state = world.state
    return (
        state.phase,
        state.stage,
        state.step,
        state.desired,
        state.effective,
        state.reason,
        sorted(each.reason for each in state.holds),
        world.target,
        world.adapters,
        world.bindings,
        world.stable,
        world.canary,
        world.finalizer,
        world.gone,
    )


@MANY
@given(kind=kinds, life=ops, crashes=st.lists(st.integers(0, 6), min_size=26, max_size=26))
def test_a_crash_after_any_write_changes_nothing(kind: str, life: list[Op], crashes: list[int]):
    smooth, bumpy = fresh(kind), fresh(kind)
    for op, crash in zip(life, crashes, strict=False):
        for world in (smooth, bumpy):
            do(world, op)
        bumpy.crash_in = crash
        smooth.look()
        bumpy.look_through_crashes()
        bumpy.crash_in = None
        assert outcome(bumpy) == outcome(smooth)


@MANY
@given(kind=kinds, life=ops)
def test_an_abort_takes_everything_back_within_one_step(kind: str, life: list[Op]):
    world = fresh(kind)
    for op in [*life, ("wait", 0)]:
        do(world, op)
        world.look()
    before = world.state
    world.spec = {**world.spec, "abort": True}
    (event,) = world._spec_seen()
    after = world.feed(event)
    if before.stage in OVER:
        assert after.stage == before.stage
        return
    assert after.stage in ("Aborting", "Aborted")
    assert after.effective == 0
    urgent = due(after, world.seen(after))
    if before.stage not in BEFORE and world.weights not in (None, after.units(0)):
        assert str(urgent[0]) == f"SetWeights(stable={after.total}, canary=0)"


def calm(world: World) -> None:
    """Let everything that may go wrong go right again, but not what cannot be undone."""
    world.cap, world.stable_cap, world.cap_message = None, 100, ""
    world.owner, world.share, world.findings, world.gate_open = "", None, (), True
    world.warmth, world.quality = Warmth(0.5, 0.5), "pass"
    world.stable = replace(world.stable, ready=3, in_flight=0, exists=True, deleting=False)
    world.canary = replace(world.canary, ready=3, in_flight=0, exists=True, deleting=False)
    world.deleting = world.gone = False
    if world.target is None:
        world.target = fresh("Node").target
    world.spec = {**world.spec, "paused": False}
    world.generation += 1


@MANY
@given(kind=kinds, life=ops)
def test_every_rollout_comes_to_an_end_once_all_is_well(kind: str, life: list[Op]):
    world = fresh(kind)
    for op in life:
        do(world, op)
        world.look()
    calm(world)
    for turn in range(60):
        world.spec = {**world.spec, "promote": f"go-{turn}"}
        world.generation += 1
        if world.wait(700).over:
            break
    state = world.state
    assert state.over, render(state).message
    for _ in range(2):
        world.wait(400)
    assert world.state.cleaned
    assert not world.finalizer


@given(kind=kinds, life=ops)
@settings(max_examples=60, deadline=None)
def test_a_look_that_is_repeated_changes_nothing(kind: str, life: list[Op]):
    world = fresh(kind)
    for op in life:
        do(world, op)
        world.look()
        once = copy.deepcopy((world.state, outcome(world)))
        if not any(each.reason == "GateClosed" for each in world.state.holds):
            world.look()
            assert (world.state, outcome(world)) == once


@given(kind=kinds, life=ops)
@settings(max_examples=60, deadline=None)
def test_the_rest_of_the_target_is_never_touched(kind: str, life: list[Op]):
    world = fresh(kind)
    if world.target is None or world.plan.type == "Adapter":
        return
    world.target["spec"]["rules"][1]["backendRefs"][0]["filters"] = []
    world.target["metadata"]["annotations"] = {"a": "b"}
    before = without_weights(world.target)
    for op in life:
        if op[0] != "target":
            do(world, op)
            world.look()
            assert without_weights(world.target) == before


def without_weights(target: dict) -> dict:
    copied = copy.deepcopy(target)
    for ref in copied["spec"]["rules"][1]["backendRefs"]:
        del ref["weight"]
    return copied
