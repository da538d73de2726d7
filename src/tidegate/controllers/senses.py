"""All that the controller learns of one rollout's world, put together for a look.

Objects come from the cache, counts from the workers, loads from the servers' metrics, models
and adapters from probes. Whatever isn't known yet is left out, and asked for beside the look.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from tidegate.api.meta import Key
from tidegate.api.rollout import FindingStatus, InferenceRollout
from tidegate.controllers import sight
from tidegate.controllers.cache import Cache
from tidegate.controllers.case import Case
from tidegate.controllers.facts import facts
from tidegate.controllers.gauges import Gauges
from tidegate.controllers.newest import Newest
from tidegate.controllers.probes import Probes
from tidegate.controllers.records import Records
from tidegate.controllers.sight import FINALIZER
from tidegate.controllers.values import Sides
from tidegate.rollout.capacity import Headroom, headroom
from tidegate.rollout.observed import Observed, PoolSeen, Share, Warmth
from tidegate.rollout.preflight import preflight
from tidegate.rollout.state import BACKWARD, BEFORE, MOVING, State

BEFORE_S: Final = 2.0
"""How old models' lists may be before the start."""
DEEP_S: Final = 30.0
"""How old it may be before the start that an endpoint answered a request."""
MOVING_S: Final = 10.0
"""And while it moves."""
DOWN_S: Final = 3.0
"""A pool that has had no ready endpoint for so long is down."""
ADAPTERS_S: Final = 1.0
"""And where adapters come and go."""


class Senses:
    """Looks at the world."""

    def __init__(
        self,
        cache: Cache,
        newest: Newest,
        records: Records,
        probes: Probes,
        gauges: Gauges,
        now: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._newest = newest
        self._records = records
        self._probes = probes
        self._gauges = gauges
        self._now = now

    def observed(self, case: Case, rollout: InferenceRollout, *, owner: str) -> Observed:
        """Return the world as it is now."""
        state, namespace = case.state, rollout.metadata.namespace
        plan = state.plan
        room = self._room(state, namespace)
        stable = self._pool(case, plan.stable, namespace)
        canary = self._pool(case, plan.canary, namespace)
        return Observed(
            target=sight.target(plan, namespace, self._newest),
            owner=owner,
            stable=stable,
            canary=self._sure(case, stable, canary),
            finalizer=FINALIZER in rollout.metadata.finalizers,
            rate=self._records.rate(case.trail.scope) if case.trail else None,
            cap=room.cap,
            cap_message=room.message,
            share=_share(case),
            warmth=self._warmth(state, namespace),
            adapters=self._adapters(state, namespace),
            bindings=sight.bound(plan, namespace, self._cache),
        )

    def findings(self, case: Case, namespace: str) -> tuple[FindingStatus, ...] | None:
        """Return what preflight finds; None while it can't be told."""
        state = case.state
        if state.stage == "Pending" or state.stage not in BEFORE | MOVING:
            return None
        known = facts(
            state,
            namespace,
            self._cache,
            self._newest,
            self._probes,
            traffic=self._records.traffic(case.trail.scope if case.trail else ""),
            age_s=BEFORE_S if state.stage in BEFORE else self._age(state),
            deep_age_s=answers_age_s(state, self._now()),
        )
        return None if known is None else preflight(known)

    def sides(self, case: Case, rollout: InferenceRollout) -> Sides:
        """Return who sources of values are asked about."""
        plan, namespace = case.state.plan, rollout.metadata.namespace
        return Sides(
            rollout=rollout.metadata.name,
            namespace=namespace,
            stable=plan.stable,
            canary=plan.canary,
            stable_pool=sight.pool_of(plan, plan.stable, namespace, self._newest),
            canary_pool=sight.pool_of(plan, plan.canary, namespace, self._newest),
        )

    @staticmethod
    def _age(state: State) -> float:
        return ADAPTERS_S if state.plan.type == "Adapter" else MOVING_S

    def _pool(self, case: Case, side: str, namespace: str) -> PoolSeen:
        plan = case.state.plan
        name = sight.pool_of(plan, side, namespace, self._newest)
        models = frozenset({side}) if plan.type == "Adapter" else None
        # A worker that hasn't the weights yet may be sending one more.
        in_flight = self._records.running(str(Key(namespace, name)), models, case.at_since)
        return sight.pool_seen(name, namespace, self._cache, in_flight=in_flight)

    def _sure(self, case: Case, stable: PoolSeen, canary: PoolSeen) -> PoolSeen:
        """Return the canary's pool; that it is down is only said when it is down by itself.

        After a restart of everything, both pools begin without an endpoint, and one of them
        has its first before the other. Meanwhile failed requests speak for themselves.
        """
        if canary.ready or not canary.exists or case.state.stage in BEFORE:
            case.down_since = None
            return canary
        if not stable.ready:
            case.down_since = None
        elif case.down_since is None:
            case.down_since = self._now()
        long = case.down_since is not None and self._now() - case.down_since >= DOWN_S
        return canary if long else replace(canary, ready=None)

    def _engines(self, side: str, namespace: str) -> Mapping[str, str]:
        return sight.endpoints(side, namespace, self._cache).engines

    def _room(self, state: State, namespace: str) -> Headroom:
        plan = state.plan
        if plan.type == "Adapter" or state.stage not in BEFORE | MOVING:
            return Headroom(None)
        engines = [self._engines(side, namespace) for side in (plan.canary, plan.stable)]
        # Without an endpoint there is nothing to measure; `_sure` says when that counts.
        loads = [self._gauges.load(each) if each else None for each in engines]
        canary, stable = loads
        return Headroom(None) if canary is None or stable is None else headroom(canary, stable)

    def _warmth(self, state: State, namespace: str) -> Warmth | None:
        plan = state.plan
        if state.stage != "Warming" or plan.type == "Adapter":
            return None
        canary = self._gauges.hit_rate(self._engines(plan.canary, namespace))
        stable = self._gauges.hit_rate(self._engines(plan.stable, namespace))
        return None if canary is None or stable is None else Warmth(canary, stable)

    def _adapters(self, state: State, namespace: str) -> Mapping[str, frozenset[str]]:
        if state.plan.type != "Adapter" or (state.over and state.cleaned):
            return {}
        pool = sight.pool_of(state.plan, state.plan.canary, namespace, self._newest)
        busy = state.stage in MOVING | BACKWARD or state.over
        known = {
            each.address: self._probes.facts(
                each.address,
                (each.pid, each.restarts),
                age_s=ADAPTERS_S if busy else BEFORE_S,
            )
            for each in sight.endpoints(pool, namespace, self._cache).ready
        }
        return {
            address: found.adapters
            for address, found in known.items()
            if found is not None and found.models is not None
        }


def answers_age_s(state: State, now: float) -> float:
    """Return how old it may be that an endpoint answered a request, in seconds.

    Before the first weight that must be since the rollout began: another one may have asked
    while the canary was still well.
    """
    return min(DEEP_S, now - state.run_since) if state.stage in BEFORE else math.inf


def _share(case: Case) -> Share | None:
    if case.trail is None or case.epoch != case.state.epoch:
        return None
    return Share(case.epoch, *case.trail.share(case.epoch_since))
