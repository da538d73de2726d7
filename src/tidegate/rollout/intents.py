"""What people want: the spec as it is now, taken in at each look.

Abort comes first and is legal at every stage. A promote is a text, and only a new one counts,
so that a look may be repeated.
"""

from msgspec.structs import replace

from tidegate.rollout.events import SpecSeen
from tidegate.rollout.gates import gate_needed
from tidegate.rollout.moves import (
    abort,
    enter,
    go_to,
    hold_while,
    roll_back,
    unhold,
    without_sticky,
)
from tidegate.rollout.plan import Plan, position
from tidegate.rollout.state import BACKWARD, BEFORE, OVER, OVERRIDABLE, Stage, State


def take_spec(state: State, spec: SpecSeen, now: float) -> State:
    """Return the state after a look at the spec."""
    if state.run == 0:
        state = _begin(state, spec, now)
    state = replace(
        state, uid=spec.uid, generation=spec.generation, deleting=spec.deleting, undo=spec.undo
    )
    if spec.abort:
        return abort(_stale_promote(state, spec), now, "Aborted", "aborted by spec.abort")
    if spec.deleting:
        why = "the rollout was deleted before it was complete"
        return abort(state, now, "Deleted", why)
    if spec.undo:
        return _undo(_stale_promote(state, spec), now)
    state = _take_plan(state, spec, now)
    state = replace(state, paused=spec.paused)
    state = hold_while(spec.paused, state, "Paused", "paused by spec.paused")
    return _take_promote(state, spec, now)


def _begin(state: State, spec: SpecSeen, now: float) -> State:
    """Return a new run: history, numbers and what is known of the outside stay."""
    return State(
        uid=spec.uid,
        generation=spec.generation,
        run=state.run + 1,
        plan=spec.plan,
        stage="Pending",
        stage_since=now,
        step_since=now,
        run_since=now,
        reason="Started",
        promoted=spec.promote,
        epoch=state.epoch + 1,
        history=state.history,
        transition=state.transition,
        announced=state.announced,
    )


def _undo(state: State, now: float) -> State:
    if state.stage == "Completed":
        if state.owner:
            return state
        # The stable may have shrunk since: nothing moves before it was looked at.
        state = replace(state, stable_cap=0)
    return roll_back(state, now, "Undone", "undone by spec.undo")


def _take_plan(state: State, spec: SpecSeen, now: float) -> State:
    """Return the state with a changed plan: see each case for what becomes of the traffic."""
    old, new = state.plan, spec.plan
    if old == new or state.stage in BACKWARD:
        return state
    if state.stage in OVER:
        # What was moved is at rest: other sides or steps are another rollout.
        another = (old.sides, old.steps) != (new.sides, new.steps) and state.cleaned
        return _begin(state, spec, now) if another else state
    if state.stage in BEFORE:
        if old.sides != new.sides:
            return _begin(state, spec, now)
        return replace(state, plan=new, checked=False, loadable=False)
    if old.sides != new.sides:
        why = f"the spec now moves {new.stable} to {new.canary}: first, all goes back"
        return roll_back(state, now, "SpecChanged", why)
    return _other_steps(replace(state, plan=new), old, now)


def _other_steps(state: State, old: Plan, now: float) -> State:
    """Return the state where the new steps go on without more traffic than there is."""
    steps = state.plan.steps
    if steps == old.steps:
        return state
    if state.stage in ("Baking", "Draining"):
        return replace(state, step=len(steps))
    at = position(steps, state.effective)
    there = min(state.desired, state.effective)
    least = steps[at].weight if steps[at].kind == "SetWeight" else there
    state = replace(go_to(state, at, now), desired=min(there, least), opened=())
    stage: Stage = "Warming" if steps[at].kind == "Warm" else "Progressing"
    return enter(state, stage, now, "SpecChanged", "the spec has other steps")


def _stale_promote(state: State, spec: SpecSeen) -> State:
    """Return the state that will not take this promote for a new one later."""
    return replace(state, promoted=spec.promote)


def _take_promote(state: State, spec: SpecSeen, now: float) -> State:
    if spec.promote == state.promoted or spec.paused:
        return state
    state = _stale_promote(state, spec)
    if spec.promote is None or state.stage in OVER | BACKWARD:
        return state
    if spec.promote.startswith("full"):
        state = replace(state, full=True)
    return _promoted(state, now)


def _promoted(state: State, now: float) -> State:
    """Return the state after people said: go on."""
    reasons = {each.reason for each in state.holds}
    lifted = _lifted(state, now)
    if not reasons or reasons & {"PauseStep", "Inconclusive", "Failed"}:
        return _next(lifted, now)
    return lifted


def _lifted(state: State, now: float) -> State:
    """Return the state without the holds that people may lift."""
    if state.held_for("Failed"):
        state = replace(state, forgiven_at=now)
    if state.held_for("MaxDuration"):
        state = replace(state, run_since=now)
    if state.held_for("WeightsNotHonoured"):
        # Another epoch: what was counted so far doesn't count again.
        state = replace(state, epoch=state.epoch + 1)
    if state.foreign is not None:
        state = replace(state, known=(*state.known, state.foreign), foreign=None)
    if state.held_for("GateClosed") and (gate := gate_needed(state)):
        state = replace(state, opened=(*state.opened, gate))
    causes = tuple(each.reason for each in state.holds if each.reason in OVERRIDABLE)
    state = replace(state, overridden=(*state.overridden, *causes))
    return unhold(without_sticky(state), "ForeignEdit", "GateClosed", *OVERRIDABLE)


def _next(state: State, now: float) -> State:
    """Return the state past a step that waits; a weight is never skipped, only reached."""
    current = state.current
    if current is not None and current.kind != "SetWeight" and state.stage not in BEFORE:
        return go_to(state, state.step + 1, now)
    if state.stage == "Baking" and state.confirmed and state.effective == 100:
        return enter(state, "Draining", now, "Promoted", "promoted before the bake was over")
    return state
