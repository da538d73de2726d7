"""A rollout in plain sentences: what it does or waits for, and what just changed.

Nothing here depends on the present time, so that a status is only written when it changes.
"""

from tidegate.rollout.gates import gate_needed
from tidegate.rollout.plan import PlanStep, brief
from tidegate.rollout.state import State


def sentence(state: State) -> str:
    """Return the state in one sentence."""
    if state.held:
        return "; ".join(each.message for each in state.holds)
    match state.stage:
        case "Pending":
            return _pending(state)
        case "Preflight":
            return _preflight(state)
        case "Warming" | "Progressing":
            return _going(state)
        case "Baking":
            return _baking(state)
        case "Draining":
            limit = brief(state.plan.drain_s)
            return f"{state.plan.stable} gets no new request; those it has may take {limit}"
        case "Completed":
            return _completed(state)
        case _:
            return _back(state)


def _pending(state: State) -> str:
    if state.owner:
        return f"waits for the rollout {state.owner}, which moves the same rule"
    return state.problem or "looks for the rule to move"


def _preflight(state: State) -> str:
    blocking = [each for each in state.findings if each.severity == "Block" and not each.waived]
    if blocking:
        parts = " ".join(f"{each.message} {each.mend}".strip() for each in blocking)
        return f"not started: {parts}"
    if gate := gate_needed(state):
        return f"asks whether it may start ({gate})"
    return "checks whether the canary can serve what the stable serves"


def _going(state: State) -> str:
    if state.effective < state.desired:
        more = f": {state.cap_message}" if state.cap_message else ""
        return f"the canary has {state.effective} % instead of {state.desired} %{more}"
    if gate := gate_needed(state):
        return f"asks whether the canary may have more ({gate})"
    current = state.current
    return _doing(state, current) if current is not None else "all steps are done"


def _doing(state: State, step: PlanStep) -> str:
    share = f"at {state.effective} %"
    match step.kind:
        case "SetWeight":
            return f"sets the canary's weight to {step.weight} %"
        case "Analyze":
            return f"compares the canary with the stable {share}, {_until(state, step)}"
        case "Shadow":
            percent = step.percent
            return f"compares answers to {percent} % of the requests, {_until(state, step)}"
        case "Warm":
            limit = brief(step.duration_s or 0)
            return f"warms the canary's prefix caches, for {limit} at most"
        case "Pause":
            return f"waits {share} for {brief(step.duration_s or 0)}"


def _until(state: State, step: PlanStep) -> str:
    return state.waiting or f"for at least {brief(step.duration_s or 0)}"


def _baking(state: State) -> str:
    if state.effective < 100:
        return _going(state)
    return (
        f"{state.plan.canary} serves all requests; {state.plan.stable} stays whole for"
        f" {brief(state.plan.bake_s)} to take them back"
    )


def _completed(state: State) -> str:
    if state.undo and state.owner:
        return f"complete; the undo waits for the rollout {state.owner}, which has the same rule"
    return f"{state.plan.canary} has taken over all requests from {state.plan.stable}"


def _outcome(state: State) -> str:
    if not state.begun:
        return " before anything was moved"
    return f", {state.plan.canary} gets no requests"


def _back(state: State) -> str:
    cause = state.why or state.reason
    match state.stage:
        case "Aborting":
            return f"gives everything back at once: {cause}"
        case "Aborted":
            return f"aborted{_outcome(state)}: {cause}"
        case "RolledBack":
            return f"rolled back{_outcome(state)}: {cause}"
        case _ if state.effective > 0:
            return (
                f"rolls back ({cause}); the canary keeps {state.effective} % until"
                f" {state.plan.stable} can carry more"
            )
        case _:
            return f"rolls back: {cause}"


def change(before: State, after: State) -> tuple[str, str]:
    """Return what changed from one state to the next: a CamelCase reason and a sentence."""
    if after.run != before.run:
        return "Started", sentence(after)
    if after.held and after.holds != before.holds:
        new = [each for each in after.holds if each not in before.holds] or list(after.holds)
        return new[-1].reason, new[-1].message
    reason, text = _moved(before, after)
    passed = after.shown != before.shown
    return reason, f"{after.shown}: {text}" if passed else text


def _moved(before: State, after: State) -> tuple[str, str]:
    if after.stage != before.stage:
        return after.reason, sentence(after)
    if before.held and not after.held:
        return "Resumed", sentence(after)
    if after.effective != before.effective:
        return "WeightChanged", f"weight {before.effective} % → {after.effective} %"
    return "StepChanged", sentence(after)
