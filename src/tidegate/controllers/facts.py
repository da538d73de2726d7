"""What preflight looks at, put together from the cache, the probes and the traffic."""

import json
from collections.abc import Iterable
from pathlib import Path

from tidegate.api.inference import LegacyInferencePool
from tidegate.controllers import sight
from tidegate.controllers.cache import Cache
from tidegate.controllers.newest import Newest
from tidegate.controllers.probes import Probes
from tidegate.rollout.facts import AdapterFacts, EndpointFacts, Facts, PoolFacts, TrafficFacts
from tidegate.rollout.state import State

MOST_BYTES = 1024 * 1024
"""Of an `adapter_config.json`."""


def pool_facts(
    name: str, namespace: str, cache: Cache, probes: Probes, *, age_s: float, deep_age_s: float
) -> PoolFacts | None:
    """Return one side's pool; None while not all of its endpoints were asked."""
    pool = sight.pool_object(name, namespace, cache)
    if pool is None:
        return PoolFacts(name=name, exists=False)
    known: list[EndpointFacts] = []
    for each in sight.endpoints(name, namespace, cache).ready:
        identity = (each.pid, each.restarts)
        facts = probes.facts(each.address, identity, age_s=age_s, deep_age_s=deep_age_s)
        if facts is None:
            return None
        known.append(facts)
    parents = pool.status.parent if isinstance(pool, LegacyInferencePool) else pool.status.parents
    said = [
        condition.status == "True"
        for parent in parents
        for condition in parent.conditions
        if condition.type == "Accepted"
    ]
    return PoolFacts(name=name, accepted=any(said) if said else None, endpoints=tuple(known))


def facts(
    state: State,
    namespace: str,
    cache: Cache,
    newest: Newest,
    probes: Probes,
    *,
    traffic: TrafficFacts,
    age_s: float,
    deep_age_s: float,
) -> Facts | None:
    """Return all that is known; None while endpoints are still being asked.

    All of them are asked at once: what isn't known yet doesn't keep the rest from being asked.
    """
    plan = state.plan
    names = [sight.pool_of(plan, side, namespace, newest) for side in (plan.stable, plan.canary)]
    stable, canary = (
        pool_facts(name, namespace, cache, probes, age_s=age_s, deep_age_s=deep_age_s)
        for name in names
    )
    if stable is None or canary is None:
        return None
    weights = sight.target(plan, namespace, newest).weights
    path = plan.adapters.canary_path
    return Facts(
        plan=plan,
        stable=stable,
        canary=canary,
        stable_weight=weights.stable if weights is not None else None,
        coarse=sight.coarse(plan, namespace, newest),
        adapter=adapter_facts(path) if plan.type == "Adapter" and path else None,
        base_models=_bases(canary.endpoints, probes),
        traffic=traffic,
        first_weight=next((step.weight for step in plan.steps if step.weight), 0),
        cap=state.cap,
        cap_message=state.cap_message,
    )


def _bases(endpoints: Iterable[EndpointFacts], probes: Probes) -> frozenset[str]:
    """Return the names under which the base model is known: of serving, and of its files."""
    names: set[str] = set()
    for each in endpoints:
        names.update(each.models or (), probes.roots(each.address))
    return frozenset(names)


def adapter_facts(path: str) -> AdapterFacts | None:
    """Return what an adapter's `adapter_config.json` says; None where we can't read it.

    It need not be on this machine: then the servers will say themselves what they can't load.
    """
    file = Path(path) / "adapter_config.json"
    try:
        if file.stat().st_size > MOST_BYTES:
            return None
        config = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    base, rank = config.get("base_model_name_or_path"), config.get("r")
    return AdapterFacts(
        base_model=base if isinstance(base, str) else None,
        rank=rank if isinstance(rank, int) else None,
        target_modules=_names(config.get("target_modules")),
        modules_to_save=_names(config.get("modules_to_save")),
    )


def _names(value: object) -> frozenset[str]:
    return (
        frozenset(each for each in value if isinstance(each, str))
        if isinstance(value, list)
        else frozenset()
    )
