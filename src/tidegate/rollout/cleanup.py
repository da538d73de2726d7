"""What remains to be done once a rollout is over, whichever way it ended."""

from collections.abc import Iterator

from tidegate.rollout.commands import (
    Command,
    LoadAdapter,
    Rebind,
    ReleasePool,
    Scale,
    UnloadAdapter,
)
from tidegate.rollout.observed import Observed
from tidegate.rollout.state import State


def is_clean(state: State, seen: Observed) -> bool:
    """Whether nothing is left to do after the end, and nothing to wait for either."""
    return not leftovers(state, seen) and not any(True for _ in _adapters_to_go(state, seen))


def leftovers(state: State, seen: Observed) -> tuple[Command, ...]:
    """Return what is still to be done after the end."""
    if state.stage == "Completed":
        return (*_keep_objectives(state, seen), *_retire_stable(state, seen), *release(state, seen))
    return (*back_to_stable(state, seen), *_retire_canary(state, seen), *release(state, seen))


def release(state: State, seen: Observed) -> Iterator[Command]:
    """Yield what lets the pools go."""
    if state.plan.type == "Adapter":
        return
    if seen.stable.held:
        yield ReleasePool(state.plan.stable)
    if seen.canary.held:
        yield ReleasePool(state.plan.canary)


def to_rebind(state: State, seen: Observed) -> tuple[str, ...]:
    """Return the objects (`Kind/name`) that would lose their pool with the stable."""
    if state.plan.type == "Adapter" or seen.stable.shared:
        return ()
    return tuple(each.identity for each in seen.bindings if each.pool == state.plan.stable)


def _keep_objectives(state: State, seen: Observed) -> Iterator[Command]:
    """Bind the stable's objectives and rewrites to the canary: they held for both till now."""
    if state.plan.type == "Adapter":
        return
    for each in seen.bindings:
        if each.pool == state.plan.stable and each.identity in state.rebound:
            yield Rebind(each.kind, each.name, state.plan.canary)


def back_to_stable(state: State, seen: Observed) -> Iterator[Command]:
    """Undo what was done to the stable after completion, before traffic comes back to it."""
    for each in seen.bindings:
        if each.pool == state.plan.canary and each.identity in state.rebound:
            yield Rebind(each.kind, each.name, state.plan.stable)
    if state.plan.scale_down and seen.stable.replicas == 0 and state.stable_replicas:
        yield Scale(state.plan.stable, state.stable_replicas)
    if state.plan.type == "Adapter":
        yield from load(state.plan.stable, state.plan.adapters.stable_path, seen)


def load(adapter: str, path: str | None, seen: Observed) -> Iterator[Command]:
    """Yield what loads `adapter` wherever it is missing."""
    if path is None:
        return
    for endpoint, adapters in sorted(seen.adapters.items()):
        if adapter not in adapters:
            yield LoadAdapter(endpoint, adapter, path)


def _retire_stable(state: State, seen: Observed) -> Iterator[Command]:
    if state.plan.scale_down and seen.stable.replicas and not seen.stable.shared:
        yield Scale(state.plan.stable, 0)
    # A server may fail the requests of an adapter that it unloads: they end first.
    if seen.stable.in_flight == 0:
        yield from _adapters_to_go(state, seen)


def _retire_canary(state: State, seen: Observed) -> Iterator[Command]:
    if seen.canary.in_flight == 0:
        yield from _adapters_to_go(state, seen)


def _adapters_to_go(state: State, seen: Observed) -> Iterator[Command]:
    """Yield what unloads the adapter that lost, where the rollout may do that."""
    files, won = state.plan.adapters, state.stage == "Completed"
    if state.plan.type != "Adapter" or not (files.unload if won else state.loads):
        return
    adapter = state.plan.stable if won else state.plan.canary
    for endpoint, adapters in sorted(seen.adapters.items()):
        if adapter in adapters:
            yield UnloadAdapter(endpoint, adapter)
