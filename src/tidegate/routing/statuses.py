"""What the compiler says of the resources: conditions, as they go into `status`.

Conditions have no `lastTransitionTime`: the writer knows the time, and what was there before.
Entries of `parents` are ours only; other controllers' entries stay as they are. Types and
reasons are those of Gateway API v1 and of its Inference Extension.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import to_builtins

from tidegate.api import gateway, inference
from tidegate.api.meta import Key, Resource
from tidegate.routing.listeners import Attachment, Problem, State
from tidegate.routing.references import CONTROLLER, World
from tidegate.routing.rules import CompiledRoute

MAX_PARENTS: Final = 32
MAX_MESSAGE: Final = 32768
"""Limits of the schemas."""

Status = dict[str, Any]
Attached = Sequence[tuple[CompiledRoute, tuple[Attachment, ...]]]


@dataclass(frozen=True, slots=True)
class StatusUpdate:
    """The status that an object should have, in the JSON shape of its kind."""

    kind: type[Resource]
    key: Key
    status: Status


def statuses(
    world: World,
    states: Mapping[Key, Sequence[State]],
    routes: Attached,
    addresses: Sequence[str],
) -> Iterable[StatusUpdate]:
    """Yield the statuses of everything that is ours, or that we once wrote to."""
    for one in world.classes:
        yield StatusUpdate(gateway.GatewayClass, one.key, _class_status(one))
    counts = _attached_counts(routes)
    for key, own in states.items():
        status = _gateway_status(world.gateways[key], own, counts, addresses)
        yield StatusUpdate(gateway.Gateway, key, status)
    for route, attachments in routes:
        yield StatusUpdate(gateway.HTTPRoute, route.route.key, _route_status(route, attachments))
    yield from _pool_statuses(world, routes)


def _condition(kind: str, generation: int, problem: Problem | None, true: str = "") -> Status:
    """Return a condition that is True unless there is a problem."""
    return {
        "type": kind,
        "status": "True" if problem is None else "False",
        "reason": (true or kind) if problem is None else problem.reason,
        "message": "" if problem is None else problem.message[:MAX_MESSAGE],
        "observedGeneration": generation,
    }


def _class_status(one: gateway.GatewayClass) -> Status:
    invalid = one.spec.parameters_ref is not None
    problem = _no_parameters("spec.parametersRef") if invalid else None
    return {"conditions": [_condition("Accepted", one.metadata.generation, problem)]}


def _no_parameters(field: str) -> Problem:
    """Return what Gateway API wants to be said; what can be served is served all the same."""
    return Problem("InvalidParameters", f"{field}: Tidegate has no parameters; leave it out")


def _gateway_status(
    owner: gateway.Gateway,
    states: Sequence[State],
    counts: Mapping[str, int],
    addresses: Sequence[str],
) -> Status:
    generation = owner.metadata.generation
    bad = [state.listener.name for state in states if not state.serves]
    none = Problem("Invalid", "no listener can serve: see status.listeners")
    refused = Problem("ListenersNotValid", none.message)
    works = len(bad) < len(states)
    accepted = _condition("Accepted", generation, None if works else refused)
    if works and bad:
        accepted["reason"] = "ListenersNotValid"
        accepted["message"] = f"not serving: {', '.join(bad)}; see status.listeners"
    if (owner.spec.infrastructure or {}).get("parametersRef") is not None:
        problem = _no_parameters("spec.infrastructure.parametersRef")
        accepted = _condition("Accepted", generation, problem)
    return {
        "addresses": [{"type": "IPAddress", "value": address} for address in addresses],
        "conditions": [accepted, _condition("Programmed", generation, None if works else none)],
        "listeners": [_listener_status(state, generation, counts) for state in states],
    }


def _listener_status(state: State, generation: int, counts: Mapping[str, int]) -> Status:
    conflicted = _condition("Conflicted", generation, None, "NoConflicts")
    conflicted["status"] = "False"
    if state.conflict is not None:
        conflicted |= {"status": "True", "reason": state.conflict.reason}
        conflicted["message"] = state.conflict.message
    problem = state.unsupported or state.conflict
    not_served = None if state.serves else problem or state.unresolved
    programmed = Problem("Invalid", not_served.message) if not_served is not None else None
    return {
        "name": state.listener.name,
        "supportedKinds": [{"group": group, "kind": kind} for group, kind in state.kinds],
        "attachedRoutes": counts.get(state.name, 0),
        "conditions": [
            _condition("Accepted", generation, problem),
            conflicted,
            _condition("ResolvedRefs", generation, state.unresolved),
            _condition("Programmed", generation, programmed),
        ],
    }


def _attached_counts(routes: Attached) -> Counter[str]:
    """Return how many routes each listener has: problems of the route itself don't matter."""
    return Counter(
        name
        for _, attachments in routes
        for name in {state.name for one in attachments for state in one.states}
    )


def _route_status(route: CompiledRoute, attachments: Sequence[Attachment]) -> Status:
    generation = route.route.metadata.generation
    resolved = _condition("ResolvedRefs", generation, _unresolved(route))
    broken = _unsupported(route)
    whole = len(route.problems.broken) == len(route.route.spec.rules)
    parents = []
    for one in attachments[:MAX_PARENTS]:
        refused = one.problem or (broken if whole else None)
        conditions = [_condition("Accepted", generation, refused), resolved]
        if broken is not None and not whole:
            # Gateway API wants the message to begin like this.
            partly = Problem(broken.reason, f"Dropped Rule: {broken.message}")
            invalid = _condition("PartiallyInvalid", generation, partly)
            conditions.append({**invalid, "status": "True"})
        parents.append(
            {
                "parentRef": _parent_ref(one.parent),
                "controllerName": CONTROLLER,
                "conditions": conditions,
            }
        )
    return {"parents": parents}


def _unresolved(route: CompiledRoute) -> Problem | None:
    """Return what keeps the route's references from resolving."""
    found = route.problems.unresolved
    if not found:
        return None
    message = "; ".join(f"{where}: {failure.message}" for where, failure in found)
    return Problem(found[0][1].reason, message)


def _unsupported(route: CompiledRoute) -> Problem | None:
    if not route.problems.unsupported:
        return None
    texts = [f"{where}: {text}" for where, text in route.problems.unsupported]
    return Problem("UnsupportedValue", "; ".join(texts))


def _parent_ref(ref: gateway.ParentReference) -> Status:
    wire: Status = to_builtins(ref)
    return {"group": ref.group, "kind": ref.kind, **wire}


def _pool_statuses(world: World, routes: Attached) -> Iterable[StatusUpdate]:
    parents = _pool_parents(routes)
    legacy = world.snapshot.all(inference.LegacyInferencePool)
    newest = world.snapshot.all(inference.InferencePool)
    for key, pool in world.pools.items():
        found = parents.get(key, {})
        problem = world.picker_failure(pool)
        old, new = legacy.get(key), newest.get(key)
        if old is not None and (found or _ours(old.status.parent)):
            status = {"parent": _pool_status(old, problem, found)}
            yield StatusUpdate(inference.LegacyInferencePool, key, status)
        if new is not None and (found or _ours(new.status.parents)):
            status = {"parents": _pool_status(new, problem, found)}
            yield StatusUpdate(inference.InferencePool, key, status)


def _pool_parents(routes: Attached) -> dict[Key, dict[Key, bool]]:
    """Return for each pool the Gateways that a route connects it to, and whether one took it."""
    found: defaultdict[Key, dict[Key, bool]] = defaultdict(dict)
    for route, attachments in routes:
        for key in route.pools:
            for one in attachments:
                taken = found[key].get(one.owner.key, False)
                found[key][one.owner.key] = taken or one.problem is None
    return found


def _pool_status(pool: Resource, problem: str | None, parents: Mapping[Key, bool]) -> list[Status]:
    generation = pool.metadata.generation
    broken = None if problem is None else Problem("InvalidExtensionRef", problem)
    resolved = _condition("ResolvedRefs", generation, broken)
    refused = Problem("HTTPRouteNotAccepted", "no listener of the Gateway took the pool's route")
    return [
        {
            "parentRef": {
                "group": gateway.GROUP,
                "kind": "Gateway",
                "namespace": key.namespace,
                "name": key.name,
            },
            "controllerName": CONTROLLER,
            "conditions": [
                _condition("Accepted", generation, None if taken else refused),
                resolved,
            ],
        }
        for key, taken in sorted(parents.items())[:MAX_PARENTS]
    ]


def _ours(parents: Iterable[inference.PoolParentStatus]) -> bool:
    return any(one.controller_name == CONTROLLER for one in parents)
