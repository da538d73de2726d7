"""A look at the world of one rollout: what `step` learns and `due` compares.

Everything is read from the cache and from what others measured; nothing here waits.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from tidegate.api.gateway import HTTPRoute
from tidegate.api.inference import (
    GROUP,
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    LegacyInferenceModelRewrite,
    LegacyInferencePool,
)
from tidegate.api.meta import Key, Resource
from tidegate.api.rollout import InferenceRollout
from tidegate.api.tidegate import EndpointStatus, ModelServer
from tidegate.controllers.cache import Cache
from tidegate.controllers.newest import Newest
from tidegate.rollout.observed import Binding, PoolSeen, TargetSeen
from tidegate.rollout.plan import Plan
from tidegate.rollout.strategies import adapter, base_model, node
from tidegate.rollout.strategies.weights import Problem, target_seen

MANAGER: Final = "tidegate-rollout"
FINALIZER: Final = "tidegate.dev/rollout"
"""On a rollout: it gives the traffic back before it goes."""
IN_USE: Final = "tidegate.dev/in-use"
"""On a pool: a rollout moves its traffic."""
KINDS: Final[tuple[type[Resource], ...]] = (
    InferenceRollout,
    HTTPRoute,
    InferencePool,
    LegacyInferencePool,
    InferenceModelRewrite,
    LegacyInferenceModelRewrite,
    InferenceModel,
    InferenceObjective,
    ModelServer,
)
"""What a rollout depends on."""

Holder = HTTPRoute | InferenceModelRewrite | InferenceModel
Place = tuple[HTTPRoute, int] | adapter.Place


@dataclass(frozen=True, slots=True)
class Endpoints:
    """One pool's endpoints that are ready, with the engine that each runs."""

    ready: tuple[EndpointStatus, ...] = ()
    engines: dict[str, str] = field(default_factory=dict)
    """By address."""
    replicas: int | None = None


def find(plan: Plan, namespace: str, newest: Newest) -> Place | Problem:
    """Return where the plan's weights stand."""
    if plan.type == "Adapter":
        return adapter.find(plan, namespace, _holders(namespace, newest))
    return node.find(plan, namespace, newest.all(HTTPRoute, namespace))


def holder_of(place: Place) -> Holder:
    """Return the object that has the weights."""
    return place.holder if isinstance(place, adapter.Place) else place[0]


def patch(plan: Plan, place: Place, *, stable: int, canary: int) -> list[dict[str, Any]]:
    """Return the edits that set the weights."""
    if isinstance(place, adapter.Place):
        return adapter.patch(plan, place, stable=stable, canary=canary)
    return node.patch(plan, place[0], place[1], stable=stable, canary=canary)


def target(plan: Plan, namespace: str, newest: Newest) -> TargetSeen:
    """Return the weights as they are."""
    if plan.type == "Adapter":
        found = adapter.read(plan, namespace, _holders(namespace, newest))
    else:
        found = node.read(plan, namespace, newest.all(HTTPRoute, namespace))
    place = find(plan, namespace, newest)
    writer = "" if isinstance(place, Problem) else writer_of(holder_of(place))
    return target_seen(found, writer=writer, ours=writer == MANAGER)


def coarse(plan: Plan, namespace: str, newest: Newest) -> bool:
    """Whether the rule's weights are too small for single percents."""
    found = node.read(plan, namespace, newest.all(HTTPRoute, namespace))
    return plan.type != "Adapter" and not isinstance(found, Problem) and found.coarse


def _holders(namespace: str, newest: Newest) -> list[adapter.Holder]:
    return [
        *newest.all(InferenceModelRewrite, namespace),
        *newest.all(LegacyInferenceModelRewrite, namespace),
        *newest.all(InferenceModel, namespace),
    ]


def writer_of(holder: Holder) -> str:
    """Return the manager that wrote the list of weights last; '' if nobody tells."""
    field_name = "f:targetModels" if isinstance(holder, InferenceModel) else "f:rules"
    writers = [
        entry
        for entry in holder.metadata.managed_fields
        if not entry.subresource and field_name in (entry.fields_v1.get("f:spec") or {})
    ]
    return max(writers, key=lambda entry: entry.time).manager if writers else ""


def pool_of(plan: Plan, side: str, namespace: str, newest: Newest) -> str:
    """Return the name of a side's pool: of an Adapter, of the pool that both are on."""
    if plan.type != "Adapter":
        return side
    place = find(plan, namespace, newest)
    return place.holder.spec.pool_ref.name if isinstance(place, adapter.Place) else ""


def pool_object(
    name: str, namespace: str, cache: Cache
) -> InferencePool | LegacyInferencePool | None:
    """Return a pool, of the new group or of the old one."""
    key = Key(namespace, name)
    return cache.get(InferencePool, key) or cache.get(LegacyInferencePool, key)


def servers(pool: str, namespace: str, cache: Cache) -> list[ModelServer]:
    """Return the ModelServers that a pool selects."""
    found = pool_object(pool, namespace, cache)
    if found is None:
        return []
    selector = found.spec.selector
    wanted = selector if isinstance(selector, dict) else selector.match_labels
    return [
        server
        for key, server in sorted(cache.all(ModelServer).items())
        if key.namespace == namespace and wanted.items() <= server.metadata.labels.items()
    ]


def endpoints(pool: str, namespace: str, cache: Cache) -> Endpoints:
    """Return the ready endpoints of a pool."""
    selected = servers(pool, namespace, cache)
    ready = [
        (each, server.spec.engine)
        for server in selected
        for each in server.status.endpoints
        if each.state == "Ready"
    ]
    scaled = [server.spec.replicas for server in selected if not server.spec.addresses]
    return Endpoints(
        tuple(each for each, _ in ready),
        {each.address: engine for each, engine in ready},
        sum(scaled) if scaled else None,
    )


def pool_seen(name: str, namespace: str, cache: Cache, *, in_flight: int | None) -> PoolSeen:
    """Return one side's pool."""
    pool = pool_object(name, namespace, cache)
    if pool is None:
        return PoolSeen(exists=False, ready=0, in_flight=in_flight)
    there = endpoints(name, namespace, cache)
    return PoolSeen(
        exists=True,
        deleting=pool.metadata.deletion_timestamp is not None,
        held=IN_USE in pool.metadata.finalizers,
        ready=len(there.ready),
        in_flight=in_flight,
        shared=_uses(name, namespace, cache) > 1,
        replicas=there.replicas,
    )


def _uses(pool: str, namespace: str, cache: Cache) -> int:
    """Return how many rules have `pool` among their backends."""
    return sum(
        any(
            ref.name == pool and ref.group == GROUP and (ref.namespace or namespace) == namespace
            for ref in rule.backend_refs
        )
        for key, route in cache.all(HTTPRoute).items()
        if key.namespace == namespace
        for rule in route.spec.rules
    )


def bound(plan: Plan, namespace: str, cache: Cache) -> tuple[Binding, ...]:
    """Return the objects that are bound to either pool."""
    if plan.type == "Adapter":
        return ()
    return base_model.bindings(
        (plan.stable, plan.canary),
        namespace,
        cache.all(InferenceObjective).values(),
        cache.all(InferenceModelRewrite).values(),
    )
