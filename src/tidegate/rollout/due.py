"""What is still to be done to make a state true.

It is worked out anew each time from the state and the world: no outbox, nothing to lose. When
all that is due has been done, nothing is due.
"""

from collections.abc import Iterator

from tidegate.rollout.cleanup import back_to_stable, leftovers, load, release
from tidegate.rollout.commands import (
    Announce,
    AskGate,
    Command,
    HoldPool,
    HoldRollout,
    ReleaseRollout,
    SetWeights,
)
from tidegate.rollout.gates import gate_needed
from tidegate.rollout.observed import Observed
from tidegate.rollout.state import BACKWARD, BEFORE, MOVING, OVER, State


def due(state: State, seen: Observed) -> tuple[Command, ...]:
    """Return what is to be done now, the most urgent first."""
    # On the way back every millisecond counts; forward, nothing moves that nobody holds.
    weights, finalizers = tuple(_weights(state, seen)), tuple(_finalizers(state, seen))
    first = (*weights, *finalizers) if state.stage in BACKWARD else (*finalizers, *weights)
    return (
        *first,
        *_adapters(state, seen),
        *(leftovers(state, seen) if state.stage in OVER and not state.cleaned else ()),
        *_gate(state),
        *_news(state),
    )


def _weights(state: State, seen: Observed) -> Iterator[Command]:
    """Yield the one write of weights. Other people's weights stand until somebody decides."""
    weights = seen.target.weights
    if weights is None or state.stage not in MOVING | BACKWARD:
        return
    pair = state.units(state.effective)
    if weights.pair == pair:
        return
    if state.stage in MOVING and state.foreign is not None:
        return
    yield SetWeights(*pair)


def _finalizers(state: State, seen: Observed) -> Iterator[Command]:
    if state.stage in OVER:
        if seen.finalizer and state.cleaned:
            yield ReleaseRollout()
    elif not seen.finalizer and not state.deleting:
        yield HoldRollout()
    if state.plan.type == "Adapter":
        return
    if state.stage in MOVING | BACKWARD:
        if seen.stable.exists and not seen.stable.held and not seen.stable.deleting:
            yield HoldPool(state.plan.stable)
        if seen.canary.exists and not seen.canary.held and not seen.canary.deleting:
            yield HoldPool(state.plan.canary)
    elif state.stage in BEFORE:
        yield from release(state, seen)


def _adapters(state: State, seen: Observed) -> Iterator[Command]:
    """Load what the stage needs; a new endpoint gets its adapters too."""
    if state.plan.type != "Adapter":
        if state.stage == "RollingBack":
            yield from back_to_stable(state, seen)
        return
    files = state.plan.adapters
    if state.stage in MOVING or (state.stage == "Preflight" and state.loadable and not state.held):
        yield from load(state.plan.canary, files.canary_path, seen)
    if state.stage in MOVING | BACKWARD:
        yield from load(state.plan.stable, files.stable_path, seen)


def _gate(state: State) -> Iterator[Command]:
    only_gate = all(each.reason == "GateClosed" for each in state.holds)
    gate = gate_needed(state)
    if gate and only_gate:
        yield AskGate(gate)


def _news(state: State) -> Iterator[Command]:
    for entry in state.history:
        if entry.number > state.announced:
            yield Announce(f"{state.uid}-{entry.number}", entry)
