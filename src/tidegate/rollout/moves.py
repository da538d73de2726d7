"""The small moves that all transitions are made of."""

from msgspec.structs import replace

from tidegate.rollout.state import BACKWARD, OVER, STICKY, Hold, HoldReason, Stage, State


def enter(state: State, stage: Stage, now: float, reason: str, why: str = "") -> State:
    """Return the state at another stage, with the reason for it."""
    return replace(state, stage=stage, stage_since=now, reason=reason, why=why)


def hold(state: State, reason: HoldReason, message: str) -> State:
    """Return the state with a reason to stand still; a second of the same kind replaces it."""
    others = tuple(each for each in state.holds if each.reason != reason)
    new = Hold(reason=reason, message=message)
    if new in state.holds or reason in state.overridden:
        return state
    return replace(state, holds=(*others, new))


def unhold(state: State, *reasons: HoldReason) -> State:
    """Return the state without these reasons to stand still."""
    return replace(state, holds=tuple(each for each in state.holds if each.reason not in reasons))


def hold_while(condition: bool, state: State, reason: HoldReason, message: str) -> State:
    """Return the state held for `reason` if, and only if, `condition` holds."""
    return hold(state, reason, message) if condition else unhold(state, reason)


def without_sticky(state: State) -> State:
    """Return the state without the holds that only people lift."""
    return unhold(state, *STICKY)


def go_to(state: State, index: int, now: float) -> State:
    """Return the state at the beginning of the step with this index."""
    state = without_sticky(state)
    return replace(state, step=index, step_since=now, warm=False, passed=None)


def abort(state: State, now: float, reason: str, why: str) -> State:
    """Return the state in which the canary gets nothing from now on, come what may."""
    if state.stage in OVER or state.stage == "Aborting":
        return state
    if state.stage in ("Pending", "Preflight"):
        return enter(state, "Aborted", now, reason, why)
    return replace(enter(state, "Aborting", now, reason, why), desired=0)


def roll_back(state: State, now: float, reason: str, why: str) -> State:
    """Return the state in which everything goes back as fast as the stable can carry it."""
    if state.stage in BACKWARD or state.stage in ("Aborted", "RolledBack"):
        return state
    if state.stage in ("Pending", "Preflight"):
        return enter(state, "RolledBack", now, reason, why)
    back = enter(state, "RollingBack", now, reason, why)
    return replace(back, desired=0, cleaned=False)


def fail(state: State, now: float, reason: str, why: str) -> State:
    """Return the state after the canary was found to be bad."""
    if state.plan.on_failure == "Hold":
        return hold(state, "Failed", f"{why}: promote to go on all the same, or abort")
    return roll_back(state, now, reason, why)
