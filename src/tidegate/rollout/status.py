"""A state as an InferenceRollout's status, and back.

What people read is made of the state; `memory` is the state. So one write persists both, and
they can't disagree.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from tidegate.api.meta import Condition
from tidegate.api.rollout import (
    InferenceRolloutStatus,
    MirrorStatus,
    RolloutWeights,
)
from tidegate.rollout.message import sentence
from tidegate.rollout.state import BEFORE, MOVING, State


def render(state: State) -> InferenceRolloutStatus:
    """Return the status to persist; conditions have no transition times yet."""
    return InferenceRolloutStatus(
        observed_generation=state.generation,
        phase=state.phase,
        step=_progress(state),
        message=sentence(state),
        weights=RolloutWeights(
            desired=state.desired, effective=state.effective, observed=state.observed
        ),
        steps=tuple(str(step) for step in state.plan.steps),
        target=state.target,
        joined=joined(state),
        mirror=mirror(state),
        evidence=state.evidence,
        findings=state.findings,
        history=state.history,
        conditions=tuple(_conditions(state)),
        memory=_remember(state),
    )


_SHOWN: Final = ("evidence", "findings", "history")
"""What is remembered by being shown."""


def _remember(state: State) -> dict[str, Any]:
    memory: dict[str, Any] = msgspec.to_builtins(state)
    return {name: value for name, value in memory.items() if name not in _SHOWN}


def restore(status: InferenceRolloutStatus) -> State:
    """Return the state that `status` remembers: a new one if it remembers nothing.

    Raises:
        msgspec.ValidationError: Somebody edited the memory.

    """
    state = msgspec.convert(status.memory, State, strict=False)
    shown = {name: getattr(status, name) for name in _SHOWN}
    return replace(state, **shown)


def _progress(state: State) -> str:
    steps = len(state.plan.steps)
    if state.stage in BEFORE or not steps:
        return f"0/{steps}" if steps else ""
    return f"{min(state.step + 1, steps)}/{steps}"


def joined(state: State) -> tuple[str, ...]:
    """Return the pools that count as one for what is bound to either.

    They do until all that was bound to the loser is bound to the winner.
    """
    if state.plan.type == "Adapter" or not state.begun or (state.over and state.cleaned):
        return ()
    return state.plan.stable, state.plan.canary


def mirror(state: State) -> MirrorStatus:
    """Return what workers copy to the canary now; nothing while the rollout stands still."""
    step = state.current
    if state.held or step is None or state.stage not in ("Warming", "Progressing"):
        return MirrorStatus()
    match step.kind:
        case "Warm":
            return MirrorStatus(percent=step.percent, purpose="Warm")
        case "Shadow":
            return MirrorStatus(percent=step.percent, purpose="Shadow")
        case _:
            return MirrorStatus()


Flag = Literal["True", "False", "Unknown"]


def _conditions(state: State) -> Iterator[Condition]:
    for name, status, reason, message in _facts(state):
        yield Condition(
            type=name,
            status=status,
            reason=reason,
            message=message,
            observed_generation=state.generation,
        )


def _facts(state: State) -> Iterator[tuple[str, Flag, str, str]]:
    for name, stage in (
        ("Completed", "Completed"),
        ("RolledBack", "RolledBack"),
        ("Aborted", "Aborted"),
    ):
        ended = state.stage == stage
        reason = (state.reason if ended else state.phase) or "Pending"
        yield name, _flag(ended), reason, sentence(state) if ended else ""
    on_its_way = not state.over and not state.held
    yield "Progressing", _flag(on_its_way), state.phase, sentence(state)
    reasons = [each.reason for each in state.holds]
    why = sentence(state) if state.held else ""
    yield "Paused", _flag(state.held), reasons[-1] if state.held else "NotPaused", why
    yield _preflight(state)
    yield _capacity(state)
    off = next((each for each in state.holds if each.reason == "WeightsNotHonoured"), None)
    yield (
        "WeightsNotHonoured",
        _flag(off is not None),
        "ShareDiffers" if off else "AsExpected",
        off.message if off else "",
    )


def _preflight(state: State) -> tuple[str, Flag, str, str]:
    waived = [each.name for each in state.findings if each.waived]
    blocking = [each for each in state.findings if each.severity == "Block" and not each.waived]
    if blocking:
        message = " ".join(each.message for each in blocking)
        return "PreflightPassed", "False", blocking[0].name, message
    if not state.checked:
        return "PreflightPassed", "Unknown", "NotChecked", ""
    if waived:
        return "PreflightPassed", "True", "Waived", f"waived: {', '.join(waived)}"
    return "PreflightPassed", "True", "AllPassed", ""


def _capacity(state: State) -> tuple[str, Flag, str, str]:
    forward = state.stage in MOVING and state.effective < state.desired
    if forward and state.cap is not None and state.cap < state.desired:
        return "CapacityLimited", "True", "CanaryTooSmall", state.cap_message or sentence(state)
    if state.stage == "RollingBack" and state.effective > 0:
        return "CapacityLimited", "True", "StableTooSmall", sentence(state)
    return "CapacityLimited", "False", "Enough", ""


def _flag(value: bool) -> Flag:
    return "True" if value else "False"
