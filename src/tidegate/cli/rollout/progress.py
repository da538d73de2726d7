"""How far a rollout is: its steps as done, under way or to come, and what time they need.

Made of the status alone; a pure function of it and of the present time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from tidegate.api.rollout import InferenceRollout, Phase
from tidegate.rollout.plan import PlanStep, brief, plan_of
from tidegate.rollout.state import BACKWARD, BEFORE, OVER, State
from tidegate.rollout.status import restore

Mark = Literal["done", "now", "next", "stopped"]

FAILED: Final[frozenset[Phase]] = frozenset(("Aborted", "RolledBack"))
"""Ends at which the canary didn't take over."""
ENDS: Final[frozenset[Phase]] = FAILED | {"Completed"}


@dataclass(frozen=True, slots=True)
class Line:
    """One step, or a stage after the steps."""

    text: str
    mark: Mark
    share: float | None = None
    """How much of its time is over, 0..1; None where time doesn't end it."""
    left_s: float | None = None
    """How much is left, at least (of warming and draining: at most)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """All of a rollout at one moment."""

    phase: Phase
    stage: str
    """The phase without regard to pauses."""
    steps: tuple[Line, ...]
    after: tuple[Line, ...]
    """Bake and drain."""
    since_s: float | None
    """How long it has been in its stage."""
    left_s: float | None
    """Until it is complete, if nothing holds it up; None where nobody can know."""
    waits: bool
    """A step to come waits for people."""


def state_of(rollout: InferenceRollout) -> State:
    """Return what the controller remembers; of a rollout that it hasn't seen, the plan alone."""
    try:
        state = restore(rollout.status)
    except msgspec.ValidationError:
        state = State()
    if state.run == 0:
        return msgspec.structs.replace(state, plan=plan_of(rollout.spec))
    return state


def progress(rollout: InferenceRollout, now: float) -> Progress:
    """Return how far `rollout` is at `now` (seconds since the epoch)."""
    state = state_of(rollout)
    return Progress(
        phase=rollout.status.phase,
        stage=state.stage,
        steps=tuple(_step(state, index, now) for index in range(len(state.plan.steps))),
        after=(_bake(state, now), _drain(state, now)),
        since_s=now - state.stage_since if state.run else None,
        left_s=_left(state, now),
        waits=any(_waits(step) for step in _rest(state)),
    )


def _step(state: State, index: int, now: float) -> Line:
    step, mark = state.plan.steps[index], _mark(state, index)
    text = wording(step)
    if mark != "now" or not step.duration_s:
        return Line(text, mark)
    waited_s = state.waited_s(now)
    return Line(
        text, mark, min(1.0, waited_s / step.duration_s), max(0.0, step.duration_s - waited_s)
    )


def _mark(state: State, index: int) -> Mark:
    if state.stage in BEFORE:
        return "next"
    if state.stage in ("Baking", "Draining", "Completed") or index < state.step:
        return "done"
    if index > state.step:
        return "next"
    return "stopped" if state.stage in BACKWARD | OVER else "now"


def wording(step: PlanStep) -> str:
    """Return a step as people write it, with its time."""
    match step.kind:
        case "Warm":
            return f"{step}, {brief(step.duration_s or 0)} at most"
        case "Shadow":
            return f"{step}, {brief(step.duration_s or 0)} at least"
        case "SetWeight":
            return f"{step} %"
        case _:
            return str(step)


def _bake(state: State, now: float) -> Line:
    text = f"bake {brief(state.plan.bake_s)}"
    return _stage(text, state, "Baking", state.plan.bake_s, now)


def _drain(state: State, now: float) -> Line:
    text = f"drain, {brief(state.plan.drain_s)} at most"
    return _stage(text, state, "Draining", state.plan.drain_s, now)


_ORDER: Final = ("Baking", "Draining", "Completed")


def _stage(text: str, state: State, stage: str, whole_s: float, now: float) -> Line:
    if state.stage == stage:
        waited_s = now - state.stage_since
        share = min(1.0, max(0.0, waited_s / whole_s)) if whole_s else None
        return Line(text, "now", share, max(0.0, whole_s - waited_s))
    passed = state.stage in _ORDER and _ORDER.index(state.stage) > _ORDER.index(stage)
    return Line(text, "done" if passed else "next")


def _rest(state: State) -> Sequence[PlanStep]:
    """Return the steps that are still to be done, the current one too."""
    if state.stage in BEFORE:
        return state.plan.steps
    if state.stage in ("Warming", "Progressing"):
        return state.plan.steps[state.step :]
    return ()


def _waits(step: PlanStep) -> bool:
    return step.kind == "Pause" and step.duration_s is None


def _left(state: State, now: float) -> float | None:
    """Return the seconds to completion; draining is over as soon as the last answer is."""
    if state.held or state.stage in BACKWARD | OVER or state.problem or state.owner:
        return None
    if state.stage == "Draining":
        return 0.0
    if state.stage == "Baking":
        return max(0.0, state.plan.bake_s - (now - state.stage_since))
    steps = _rest(state)
    over_s = 0.0 if state.stage in BEFORE or not steps else _over(steps[0], state, now)
    return total_s(steps) - over_s + state.plan.bake_s


def _over(step: PlanStep, state: State, now: float) -> float:
    return min(state.waited_s(now), step.duration_s or 0.0)


def total_s(steps: Iterable[PlanStep]) -> float:
    """Return how long steps take if nothing holds them up."""
    return sum(step.duration_s or 0.0 for step in steps)
