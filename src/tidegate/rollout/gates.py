"""Where somebody outside must agree before a rollout goes on."""

from tidegate.rollout.state import State


def gate_needed(state: State) -> str:
    """Return the gate that must open before the rollout may go on, or ''."""
    wanted: list[str] = []
    current = state.current
    if state.stage == "Preflight" and state.checked:
        wanted = ["BeforeStart"]
    elif state.stage == "Progressing" and current is not None and current.weight > state.desired:
        wanted = ["BeforeIncrease"] + ["BeforePromotion"] * (current.weight == 100)
    for gate in wanted:
        name = f"{gate}/{state.step}"
        if gate in state.plan.gates and name not in state.opened:
            return name
    return ""
