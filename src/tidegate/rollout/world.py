"""What a look at the world changes: weights, pools, capacity, shares."""

from msgspec.structs import replace

from tidegate.rollout.cleanup import is_clean, to_rebind
from tidegate.rollout.moves import fail, hold, hold_while, roll_back, unhold
from tidegate.rollout.observed import Observed, TargetSeen, Warmth
from tidegate.rollout.plan import floor_of
from tidegate.rollout.share import is_off
from tidegate.rollout.state import BEFORE, MOVING, OVER, State

CLEANUP_S = 300.0
"""How long after the end it is tried to clean up, before that is left to people."""


def take_world(state: State, seen: Observed, now: float) -> State:
    """Return the state after a look at the world."""
    state = _take_levels(state, seen)
    if state.stage in BEFORE:
        return _take_before(state, seen)
    if state.stage in OVER:
        return _take_after(state, seen, now)
    state = _take_weights(state, seen.target)
    if state.stage in MOVING:
        state = _take_share(state, seen)
        state = _take_stable(state, seen)
        state = _take_canary(state, seen, now)
    return state


def _take_levels(state: State, seen: Observed) -> State:
    share = seen.share
    counted = share is not None and share.epoch == state.epoch and share.total > 0
    observed = round(100 * share.canary / share.total, 1) if share and counted else state.observed
    return replace(
        state,
        owner=seen.owner,
        problem=seen.target.problem,
        target_gone=seen.target.canary_gone,
        target=seen.target.name or state.target,
        cap=_canary_cap(state, seen),
        cap_message=seen.cap_message,
        stable_cap=_stable_cap(state, seen),
        observed=observed,
        canary_down=seen.canary.ready == 0 or not seen.canary.exists,
    )


def _canary_cap(state: State, seen: Observed) -> int | None:
    """Return the canary's capacity; none without a ready endpoint (an Adapter's pool is one)."""
    if state.plan.type != "Adapter" and seen.canary.ready == 0:
        return 0
    return seen.cap


def _stable_cap(state: State, seen: Observed) -> int | None:
    """Return what percent of the traffic the stable can carry.

    Of its own kind of endpoints it needs as many as when it carried everything. An adapter
    needs to be on every endpoint.
    """
    if state.plan.type == "Adapter":
        if not seen.adapters:
            return None
        return 100 if all(state.plan.stable in each for each in seen.adapters.values()) else 0
    if seen.stable_cap is not None:
        return seen.stable_cap
    if not seen.stable.exists:
        return 0
    if seen.stable.ready is None or not state.stable_baseline:
        return None
    return min(100, 100 * seen.stable.ready // state.stable_baseline)


def _take_before(state: State, seen: Observed) -> State:
    """Remember what the world is like before anything of it is touched."""
    weights = seen.target.weights
    missing = any(state.plan.canary not in each for each in seen.adapters.values())
    return replace(
        state,
        total=seen.target.total,
        original=weights.pair if weights else (0, 0),
        at=weights.pair if weights else None,
        known=(weights.pair,) if weights else (),
        stable_baseline=seen.stable.ready,
        stable_replicas=seen.stable.replicas,
        floor=_floor(state, seen),
        loads=state.loads or (state.plan.adapters.canary_path is not None and missing),
    )


def _floor(state: State, seen: Observed) -> int:
    return floor_of(seen.rate) if state.plan.by_traffic and seen.rate is not None else 0


def _take_after(state: State, seen: Observed, now: float) -> State:
    """Find out, once after the end, what is to be cleaned up, and then whether it was."""
    if state.cleaned:
        return state
    if state.stage == "Completed" and not state.rebound:
        state = replace(state, rebound=to_rebind(state, seen))
    late = now - state.stage_since > CLEANUP_S
    return replace(state, cleaned=late or is_clean(state, seen))


def _take_weights(state: State, target: TargetSeen) -> State:
    """Compare the target's weights with ours; anything that we don't know somebody else did."""
    state = replace(state, at=target.weights.pair if target.weights else None)
    if target.weights is None:
        why = f"{target.problem}: restore it, or abort"
        return hold(state, "TargetUnusable", why) if state.stage in MOVING else state
    state = unhold(state, "TargetUnusable")
    pair = target.weights.pair
    if pair == state.units(state.effective):
        state = unhold(state, "ForeignEdit")
        return replace(state, known=(pair,), foreign=None)
    if pair in state.known or target.ours or state.stage not in MOVING:
        return unhold(replace(state, foreign=None), "ForeignEdit")
    stable, canary = pair
    wanted = "/".join(map(str, state.units(state.effective)))
    who = target.writer or "somebody"
    why = (
        f"{who} set the weights to {stable}/{canary} where the rollout has {wanted}:"
        f" promote to set it again, abort to give all back, or set it to {wanted}"
    )
    return hold(replace(state, foreign=pair), "ForeignEdit", why)


def _take_share(state: State, seen: Observed) -> State:
    share = seen.share
    if share is None or share.epoch != state.epoch or not state.confirmed:
        return state
    stable, canary = state.units(state.effective)
    if not is_off(share.canary, share.total, canary / (stable + canary)):
        return state
    why = (
        f"the canary got {share.canary} of {share.total} sessions where its weight is"
        f" {state.effective} %: the data plane doesn't honour the weights"
    )
    return hold(state, "WeightsNotHonoured", why)


def _take_stable(state: State, seen: Observed) -> State:
    if state.plan.type == "Adapter" or state.stage == "Draining":
        return unhold(state, "StableDeleting", "StableReduced")
    name = state.plan.stable
    going = seen.stable.deleting or not seen.stable.exists
    why = (
        f"the pool {name} is being deleted, but must be able to take everything back:"
        " abort to give it back, or promote to go on without it"
    )
    state = hold_while(going, state, "StableDeleting", why)
    cap = state.stable_cap
    reduced = cap is not None and cap < 100 and not going
    why = (
        f"the pool {name} could take back {cap} % of the traffic only"
        f" ({seen.stable.ready} of {state.stable_baseline} endpoints are ready):"
        " it waits for them, or promote to go on without"
    )
    return hold_while(reduced, state, "StableReduced", why)


def _take_canary(state: State, seen: Observed, now: float) -> State:
    name = state.plan.canary
    if state.plan.type != "Adapter":
        if seen.canary.deleting or not seen.canary.exists:
            return roll_back(state, now, "CanaryDeleted", f"the pool {name} is being deleted")
        if state.canary_down and state.effective > 0:
            return fail(state, now, "CanaryDown", f"no endpoint of {name} is ready")
    whole = state.stage == "Draining" and state.confirmed and state.effective == 100
    drained = whole and seen.stable.in_flight == 0
    return replace(state, drained=drained, warm=state.warm or _is_warm(state, seen.warmth))


_NO_CACHE = 0.05
"""A stable that hits its cache more seldom has nothing to warm."""


def _is_warm(state: State, warmth: Warmth | None) -> bool:
    current = state.current
    if warmth is None or current is None or current.kind != "Warm":
        return False
    return warmth.stable < _NO_CACHE or warmth.canary >= current.hit_rate * warmth.stable
