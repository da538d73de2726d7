"""The reducer: one event in, the next state out.

In this order, whatever the event: what happened is taken in, then what follows from it by
itself, then the effective weight is set to what capacity allows. Weights only rise here, and
only to what the current step asks for.
"""

from typing import Final, assert_never

from msgspec.structs import replace

from tidegate.api.rollout import HistoryEntry
from tidegate.rollout.advance import advance
from tidegate.rollout.capacity import limit
from tidegate.rollout.events import (
    Announced,
    Checked,
    Event,
    GateAnswered,
    Judged,
    SpecSeen,
    Tick,
    Verdict,
    WorldSeen,
)
from tidegate.rollout.gates import gate_needed
from tidegate.rollout.intents import take_spec
from tidegate.rollout.message import change
from tidegate.rollout.moves import fail, hold, hold_while, unhold
from tidegate.rollout.state import BACKWARD, BEFORE, MOVING, OVER, State
from tidegate.rollout.times import timestamp
from tidegate.rollout.world import take_world

LONGEST_HISTORY: Final = 40
MOST_KNOWN: Final = 16


def step(state: State, event: Event, now: float) -> State:
    """Return the state after `event` at `now` (seconds since the epoch)."""
    before = _rewound(state, now)
    after = advance(_take(before, event, now), now)
    return _recorded(before, _clocked(before, _settled(before, after), now), now)


def _take(state: State, event: Event, now: float) -> State:
    match event:
        case SpecSeen():
            return take_spec(state, event, now)
        case WorldSeen():
            return take_world(state, event.observed, now)
        case Checked():
            return _take_check(state, event)
        case Judged():
            return _take_verdict(state, event.verdict, now)
        case GateAnswered():
            return _take_answer(state, event)
        case Announced():
            return replace(state, announced=max(state.announced, event.number))
        case Tick():
            return state
    assert_never(event)


def _take_check(state: State, event: Checked) -> State:
    if state.stage in OVER | BACKWARD:
        return state
    blocking = [each for each in event.findings if each.severity == "Block" and not each.waived]
    only_adapter = all(each.name == "AdaptersServed" for each in blocking)
    state = replace(state, findings=event.findings, checked=not blocking, loadable=only_adapter)
    if state.stage in BEFORE:
        return state
    why = " ".join(f"{each.message} {each.mend}".strip() for each in blocking)
    return hold_while(bool(blocking), state, "PreflightFailed", why)


def _take_verdict(state: State, verdict: Verdict, now: float) -> State:
    """Take a verdict in: a fail counts for the run, anything else for the epoch alone."""
    if state.stage not in MOVING or verdict.run != state.run:
        return state
    if verdict.outcome == "fail":
        state = replace(state, evidence=verdict.evidence)
        return fail(state, now, verdict.reason or "Failed", verdict.message)
    if verdict.epoch != state.epoch:
        return state
    state = replace(state, evidence=verdict.evidence)
    judged = state.current is not None and state.current.kind in ("Analyze", "Shadow")
    if verdict.outcome == "pass":
        shown = verdict.message if judged else state.shown
        return replace(state, passed=state.epoch, waiting="", shown=shown)
    state = replace(state, waiting=verdict.message if judged else "")
    if verdict.outcome == "inconclusive" and judged:
        why = f"{verdict.message}: promote to go on, or abort"
        return hold(state, "Inconclusive", why)
    return state


def _take_answer(state: State, answer: GateAnswered) -> State:
    if answer.gate != gate_needed(state):
        return state
    if answer.opened:
        return replace(unhold(state, "GateClosed"), opened=(*state.opened, answer.gate))
    return hold(state, "GateClosed", f"the gate {answer.gate} is closed: {answer.message}")


def _settled(before: State, after: State) -> State:
    """Return the state with the effective weight, of which the target doesn't know yet."""
    effective = _allowed(before, after)
    moved = effective != before.effective
    if moved:
        known = (*after.known, after.units(effective))[-MOST_KNOWN:]
        # What was counted was another weight's.
        after = replace(after, effective=effective, known=known, observed=None)
    if moved or (after.step, after.run) != (before.step, before.run):
        after = replace(after, epoch=before.epoch + 1, waiting="")
    return after


def _allowed(before: State, after: State) -> int:
    now_at = before.effective
    if after.stage in MOVING:
        allowed = limit(after.desired, after.cap, now_at)
        return min(allowed, now_at) if after.held else allowed
    if after.stage == "RollingBack":
        if after.canary_down or after.stable_cap is None:
            return 0
        return min(now_at, max(0, 100 - after.stable_cap))
    return now_at if after.stage == "Completed" else 0


def _clocked(before: State, after: State, now: float) -> State:
    """Return the state with its clocks stopped while it is held, and running on after that."""
    if after.held:
        since = before.held_since if before.held else None
        return replace(after, held_since=now if since is None else since)
    if before.held_since is None:
        return after
    lost = now - before.held_since
    clocks = {
        name: value + lost
        for name in _CLOCKS
        if (value := getattr(after, name)) == getattr(before, name)
    }
    return replace(after, held_since=None, **clocks)


_CLOCKS: Final = ("step_since", "stage_since", "run_since")


def _rewound(state: State, now: float) -> State:
    """Return the state with no clock in the future: the system's clock may be set back."""
    late = {name: now for name in _CLOCKS if getattr(state, name) > now}
    if state.held_since is not None and state.held_since > now:
        late["held_since"] = now
    return replace(state, **late) if late else state


def _recorded(before: State, after: State, now: float) -> State:
    """Return the state with an entry in its history if people would call it a change."""
    if _outline(before) == _outline(after):
        return after
    reason, message = change(before, after)
    entry = HistoryEntry(
        number=after.transition + 1,
        time=timestamp(now),
        phase=after.phase,
        step=after.step,
        weight=after.effective,
        desired=after.desired,
        reason=reason,
        message=message,
    )
    history = (*after.history, entry)[-LONGEST_HISTORY:]
    return replace(after, transition=entry.number, history=history)


def _outline(state: State) -> tuple[object, ...]:
    reasons = tuple(each.reason for each in state.holds) if state.held else ()
    return (state.run, state.phase, state.step, state.effective, reasons)
