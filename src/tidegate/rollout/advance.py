"""What follows by itself: the way forward, one condition a stage.

Nothing here is undone by going back in time or by looking twice: each condition is a level.
"""

from typing import Final

from msgspec.structs import replace

from tidegate.rollout.gates import gate_needed
from tidegate.rollout.message import sentence
from tidegate.rollout.moves import enter, go_to, hold
from tidegate.rollout.plan import PlanStep, brief, position
from tidegate.rollout.state import Stage, State


def advance(state: State, now: float) -> State:
    """Return the state as far on as it can go at `now`."""
    while (further := _once(state, now)) != state:
        state = further
    return state


def _once(state: State, now: float) -> State:
    if state.run == 0 or state.held:
        return state
    if _is_late(state, now):
        return hold(state, "MaxDuration", _late(state))
    match state.stage:
        case "Pending" if not state.owner and not state.problem and state.target:
            return enter(state, "Preflight", now, "TargetFound")
        case "Preflight" if state.problem or state.owner:
            return enter(state, "Pending", now, "TargetLost", state.problem)
        case "Preflight" if state.checked and not gate_needed(state):
            return _begin(state, now)
        case "Warming" | "Progressing":
            return _walk(state, now)
        case "Baking":
            return _bake(state, now)
        case "Draining":
            return _drain(state, now)
        case "Aborting" if state.given_back:
            return enter(state, "Aborted", now, state.reason, state.why)
        case "RollingBack" if state.effective == 0 and state.given_back:
            return enter(state, "RolledBack", now, state.reason, state.why)
        case _:
            return state


_BOUNDED: Final = ("Pending", "Preflight", "Warming", "Progressing")


def _is_late(state: State, now: float) -> bool:
    return state.stage in _BOUNDED and now - state.run_since > state.plan.max_duration_s


def _late(state: State) -> str:
    limit = brief(state.plan.max_duration_s)
    return f"{limit} (maxDuration) are over: {sentence(state)}; promote to go on, or abort"


def _begin(state: State, now: float) -> State:
    """Return the state at its first step; a share that the canary has already is kept."""
    stable, canary = state.original
    there = 100 * canary // (stable + canary) if canary else 0
    at = position(state.plan.steps, there)
    why = f"the canary has {there} % already" if there else ""
    state = replace(go_to(state, at, now), desired=there, begun=True)
    return enter(state, _stage_of(state.current), now, "PreflightPassed", why)


def _stage_of(step: PlanStep | None) -> Stage:
    if step is None:
        return "Baking"
    return "Warming" if step.kind == "Warm" else "Progressing"


def _walk(state: State, now: float) -> State:
    current = state.current
    if current is None:
        return enter(state, "Baking", now, "StepsDone")
    if state.full and not (current.kind == "SetWeight" and current.weight == 100):
        return _skip(state, now)
    match current.kind:
        case "SetWeight":
            return _set_weight(state, current, now)
        case "Pause" if current.duration_s is None:
            return hold(state, "PauseStep", "the step waits until it is promoted")
        case _ if _is_done(state, current, now):
            return _next(state, now)
        case _:
            return state


def _set_weight(state: State, current: PlanStep, now: float) -> State:
    if current.weight < state.floor:
        return go_to(state, _next_weight(state), now)
    if gate_needed(state):
        return state
    if state.desired != current.weight:
        return replace(state, desired=current.weight)
    if state.confirmed and state.effective == current.weight:
        return _next(state, now)
    return state


def _next_weight(state: State) -> int:
    """Return the index of the next step that sets a weight; there is one up to 100 %."""
    steps = state.plan.steps
    return next(at for at in range(state.step + 1, len(steps)) if steps[at].kind == "SetWeight")


def _is_done(state: State, current: PlanStep, now: float) -> bool:
    long_enough = state.waited_s(now) >= (current.duration_s or 0.0)
    match current.kind:
        case "Analyze" | "Shadow":
            return long_enough and state.passed == state.epoch
        case "Warm":
            return long_enough or state.warm
        case _:
            return long_enough


def _next(state: State, now: float) -> State:
    state = go_to(state, state.step + 1, now)
    stage = _stage_of(state.current)
    return state if stage == state.stage else enter(state, stage, now, "StepDone")


def _skip(state: State, now: float) -> State:
    """Return the state at the step to 100 %, or past all steps if it is there already."""
    steps = state.plan.steps
    last = max(i for i, each in enumerate(steps) if each.weight == 100)
    at = len(steps) if state.step > last else last
    return enter(go_to(state, at, now), _stage_of(_at(steps, at)), now, "Promoted")


def _at(steps: tuple[PlanStep, ...], index: int) -> PlanStep | None:
    return steps[index] if index < len(steps) else None


def _bake(state: State, now: float) -> State:
    if not _carries_all(state):
        return replace(state, stage_since=now)
    if now - state.stage_since >= state.plan.bake_s:
        return enter(state, "Draining", now, "Baked")
    return state


def _drain(state: State, now: float) -> State:
    if not _carries_all(state):
        return replace(state, stage_since=now, drained=False)
    if state.drained:
        return enter(state, "Completed", now, "Completed", "the stable has no request left")
    if now - state.stage_since >= state.plan.drain_s:
        why = f"the stable's requests had {brief(state.plan.drain_s)} to end (drain)"
        return enter(state, "Completed", now, "Completed", why)
    return state


def _carries_all(state: State) -> bool:
    return state.confirmed and state.effective == 100
