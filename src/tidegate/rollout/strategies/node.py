"""Node and base-model updates: the weights of two backendRefs in one rule of an HTTPRoute.

Only these two fields are ever written. Other rules, filters and backends stay as they are.
"""

from collections.abc import Iterable, Iterator

from tidegate.api.gateway import HTTPBackendRef, HTTPRoute, HTTPRouteRule
from tidegate.api.inference import GROUP
from tidegate.rollout.plan import Plan
from tidegate.rollout.strategies.weights import Found, Patch, Problem, put, test


def read(plan: Plan, namespace: str, routes: Iterable[HTTPRoute]) -> Found | Problem:
    """Return the weights that `plan` moves.

    Args:
        plan: Of a rollout in `namespace`.
        namespace: Where route and pools are.
        routes: All routes; those of other namespaces are left out.

    """
    place = find(plan, namespace, routes)
    if isinstance(place, Problem):
        return place
    route, index = place
    return _weights(plan, route, index)


def find(
    plan: Plan, namespace: str, routes: Iterable[HTTPRoute]
) -> tuple[HTTPRoute, int] | Problem:
    """Return the route and the index of its rule, named by the plan or found by the pools."""
    own = [route for route in routes if route.metadata.namespace == namespace]
    if plan.target is not None:
        return _named(plan, plan.target.name, plan.target.rule, own)
    places = list(_places(plan, own, both=True))
    if len(places) == 1:
        return places[0]
    if places:
        names = ", ".join(_name(route, index) for route, index in places)
        return Problem(f"several rules have both pools ({names}): name one in spec.target")
    half = [_name(route, index) for route, index in _places(plan, own, both=False)]
    if half:
        return Problem(
            f"{', '.join(half)} sends to {plan.stable} but not to {plan.canary}:"
            f" add {plan.canary} to its backendRefs with weight 0",
            canary_gone=True,
        )
    return Problem(f"no HTTPRoute sends to the pool {plan.stable}", canary_gone=True)


def _named(
    plan: Plan, name: str, rule: str | None, routes: list[HTTPRoute]
) -> tuple[HTTPRoute, int] | Problem:
    route = next((each for each in routes if each.metadata.name == name), None)
    if route is None:
        return Problem(f"there is no HTTPRoute {name}", canary_gone=True)
    if rule is not None:
        index = _index(route, rule)
        if index is None:
            return Problem(f"the HTTPRoute {name} has no rule {rule}", canary_gone=True)
        return route, index
    places = list(_places(plan, [route], both=True)) or list(_places(plan, [route], both=False))
    if len(places) > 1:
        names = ", ".join(_name(*each) for each in places)
        return Problem(f"several rules have the pools ({names}): name one in spec.target.rule")
    if not places:
        return Problem(f"no rule of the HTTPRoute {name} sends to the pool {plan.stable}")
    return places[0]


def _index(route: HTTPRoute, rule: str) -> int | None:
    for index, each in enumerate(route.spec.rules):
        if each.name == rule or (each.name is None and str(index) == rule):
            return index
    return None


def _places(
    plan: Plan, routes: Iterable[HTTPRoute], *, both: bool
) -> Iterator[tuple[HTTPRoute, int]]:
    wanted = {plan.stable, plan.canary} if both else {plan.stable}
    for route in routes:
        for index, rule in enumerate(route.spec.rules):
            namespace = route.metadata.namespace
            if wanted <= {ref.name for ref in rule.backend_refs if _is_pool(ref, namespace)}:
                yield route, index


def _is_pool(ref: HTTPBackendRef, namespace: str) -> bool:
    """Whether `ref` is an InferencePool of the route's own namespace."""
    here = ref.namespace is None or ref.namespace == namespace
    return here and ref.kind == "InferencePool" and ref.group == GROUP


def _name(route: HTTPRoute, index: int) -> str:
    return f"HTTPRoute/{route.metadata.name}/{route.spec.rules[index].name or index}"


def _ref(rule: HTTPRouteRule, pool: str, namespace: str) -> int | None:
    """Return the index of the one backendRef that is this pool."""
    at = [
        index
        for index, ref in enumerate(rule.backend_refs)
        if ref.name == pool and _is_pool(ref, namespace)
    ]
    return at[0] if len(at) == 1 else None


def _weights(plan: Plan, route: HTTPRoute, index: int) -> Found | Problem:
    rule, name = route.spec.rules[index], _name(route, index)
    namespace = route.metadata.namespace
    stable, canary = (_ref(rule, pool, namespace) for pool in (plan.stable, plan.canary))
    if stable is None:
        return Problem(f"{name} must have {plan.stable} once in its backendRefs")
    if canary is None:
        there = any(ref.name == plan.canary for ref in rule.backend_refs)
        return Problem(
            f"{name} must have {plan.canary} once in its backendRefs: add it with weight 0",
            canary_gone=not there,
        )
    weights = [1 if ref.weight is None else ref.weight for ref in rule.backend_refs]
    others = sum(weights) - weights[stable] - weights[canary]
    return Found(name, weights[stable], weights[canary], others)


def patch(plan: Plan, route: HTTPRoute, index: int, *, stable: int, canary: int) -> Patch:
    """Return the edits that give both sides their weights in the rule with this index.

    Raises:
        ValueError: The rule doesn't have both sides; `read` says so.

    """
    rule, namespace = route.spec.rules[index], route.metadata.namespace
    edits: Patch = []
    for pool, weight in ((plan.stable, stable), (plan.canary, canary)):
        at = _ref(rule, pool, namespace)
        if at is None:
            raise ValueError(f"{_name(route, index)} has no backendRef {pool}")
        place = f"/spec/rules/{index}/backendRefs/{at}"
        edits += [test(f"{place}/name", pool), put(f"{place}/weight", weight)]
    return sorted(edits, key=lambda edit: edit["op"] != "test")
