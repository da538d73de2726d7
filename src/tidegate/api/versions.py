"""From objects as they came to models of the newest shape.

`decode` reads an object by its `apiVersion` and `kind` and passes over fields that the
models don't have. `upgrade` turns what the older group has into today's kinds, so that
nothing above knows the older ones. What it makes keeps the name, labels, times and uid of
what it came from.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tidegate.api import gateway, inference
from tidegate.api.errors import FieldError, InvalidError
from tidegate.api.meta import Resource
from tidegate.api.schema import node_of
from tidegate.api.scheme import LEGACY_GROUP, Kind, by_kind, by_model
from tidegate.api.structure import Check

PRIORITIES: Final[Mapping[str | None, int | None]] = {
    "Critical": 1,
    "Standard": 0,
    "Sheddable": -1,
    None: None,
}
"""A legacy criticality as a priority: only below 0 is shed, and unset counts as 0."""


def decode(obj: Mapping[str, Any]) -> Resource:
    """Return the typed object. A null counts as a missing field, as in Kubernetes.

    Raises:
        InvalidError: The kind or version isn't served, or a field doesn't fit its model.

    """
    model = kind_of(obj).model
    try:
        return msgspec.convert(obj, model)
    except msgspec.ValidationError:
        pass
    plain = without_nulls(obj)
    try:
        return msgspec.convert(plain, model)
    except msgspec.ValidationError as error:
        raise InvalidError(_misfits(plain, model) or [_field_error(error)]) from error


def _misfits(obj: Any, model: type[Resource]) -> list[FieldError]:
    """Return every misfit, where msgspec stops at the first."""
    check = Check()
    check.walk(node_of(model), obj, "")
    return check.errors


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """Return the served kind that `obj` says it is.

    Raises:
        InvalidError: `apiVersion` or `kind` is missing, or names nothing that is served.

    """
    api_version, name = obj.get("apiVersion"), obj.get("kind")
    if not isinstance(api_version, str) or not api_version:
        raise InvalidError([FieldError("apiVersion", api_version, "a group and version")])
    if not isinstance(name, str) or not name:
        raise InvalidError([FieldError("kind", name, "the name of a kind")])
    group, _, version = api_version.rpartition("/")
    kind = by_kind(group, name)
    if kind is None:
        raise InvalidError([FieldError("kind", name, f"a kind that is served in {api_version}")])
    if version not in kind.versions:
        raise InvalidError([FieldError("apiVersion", api_version, _versions(kind))])
    return kind


def _versions(kind: Kind) -> str:
    return " or ".join(kind.api_version(version) for version in kind.versions)


def without_nulls(value: Any) -> Any:
    """Return a copy of a JSON value without the object members that are null."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


_MESSAGE: Final = re.compile(r"^(?P<what>.*?)(?: - at (?:`key` in )?`\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")


def _field_error(error: msgspec.ValidationError) -> FieldError:
    """Return msgspec's first complaint with a path as Kubernetes writes it."""
    message = _MESSAGE.match(str(error))
    what = message["what"] if message else str(error)
    path = ((message["path"] if message else "") or "").lstrip(".")
    if missing := _MISSING.match(what):
        return FieldError(f"{path}.{missing['field']}".lstrip("."), None, "a value")
    expected, _, found = what.removeprefix("Expected ").partition(", got ")
    return FieldError(path, found.strip("`") or "another value", expected)


def upgrade(resource: Resource) -> list[Resource]:
    """Return what `resource` is in the newest kinds: itself, one other, or two."""
    match resource:
        case inference.LegacyInferencePool():
            return [_pool(resource)]
        case inference.InferenceModel():
            return _objective_and_rewrite(resource)
        case inference.LegacyInferenceObjective():
            spec = replace(resource.spec, pool_ref=_newest_ref(resource.spec.pool_ref))
            return [_made(inference.InferenceObjective, resource, spec, resource.status)]
        case inference.LegacyInferenceModelRewrite():
            rewrite = replace(resource.spec, pool_ref=_newest_ref(resource.spec.pool_ref))
            return [_made(inference.InferenceModelRewrite, resource, rewrite, resource.status)]
        case gateway.HTTPRoute():
            return [_route(resource)]
        case gateway.ReferenceGrant():
            return [_grant(resource)]
        case _:
            return [resource]


def _made(model: type[Resource], origin: Resource, spec: object, status: object = None) -> Resource:
    kind = by_model(model)
    parts = {"spec": spec} if status is None else {"spec": spec, "status": status}
    return model(api_version=kind.api_version(), kind=kind.kind, metadata=origin.metadata, **parts)


def _pool(old: inference.LegacyInferencePool) -> Resource:
    """Return the v1 pool: a nested selector, ports as a list, `portNumber` as `port.number`."""
    spec = inference.InferencePoolSpec(
        selector=inference.PoolSelector(match_labels=old.spec.selector),
        target_ports=(inference.PortNumber(number=old.spec.target_port_number),),
        endpoint_picker_ref=_picker_ref(old.spec.extension_ref),
    )
    status = inference.InferencePoolStatus(parents=old.status.parent)
    return _made(inference.InferencePool, old, spec, status)


LEGACY_PICKER_PORT: Final = 9002
"""What a missing `portNumber` means (`apix/v1alpha2/inferencepool_types.go`)."""


def _picker_ref(old: inference.LegacyExtensionRef | None) -> inference.EndpointPickerRef | None:
    if old is None:
        return None
    return inference.EndpointPickerRef(
        group=old.group,
        kind=old.kind,
        name=old.name,
        port=inference.PortNumber(number=old.port_number or LEGACY_PICKER_PORT),
        failure_mode=old.failure_mode,
    )


def _objective_and_rewrite(old: inference.InferenceModel) -> list[Resource]:
    """Return the objective, and the rewrite if there are models to rewrite to."""
    pool = _newest_ref(old.spec.pool_ref)
    objective = inference.InferenceObjectiveSpec(
        priority=PRIORITIES[old.spec.criticality], pool_ref=pool
    )
    made = [_made(inference.InferenceObjective, old, objective)]
    if old.spec.target_models:
        made.append(_made(inference.InferenceModelRewrite, old, _rewrite(old.spec, pool)))
    return made


def _rewrite(
    old: inference.InferenceModelSpec, pool: inference.PoolObjectReference
) -> inference.InferenceModelRewriteSpec:
    asked = inference.RewriteMatch(model=inference.ModelMatch(value=old.model_name))
    targets = tuple(
        inference.TargetModel(model_rewrite=target.name, weight=target.weight)
        for target in old.target_models
    )
    rule = inference.RewriteRule(matches=(asked,), targets=targets)
    return inference.InferenceModelRewriteSpec(pool_ref=pool, rules=(rule,))


def _newest_ref(ref: inference.PoolObjectReference) -> inference.PoolObjectReference:
    return replace(ref, group=inference.GROUP) if ref.group == LEGACY_GROUP else ref


def _route(route: gateway.HTTPRoute) -> gateway.HTTPRoute:
    """Return the route with backends of the older group named by today's.

    The copy is made only where there is one: routes are many and this is rare.
    """
    if LEGACY_GROUP not in {ref.group for rule in route.spec.rules for ref in _refs(rule)}:
        return route
    rules = tuple(_rule(rule) for rule in route.spec.rules)
    return replace(route, spec=replace(route.spec, rules=rules))


def _refs(rule: gateway.HTTPRouteRule) -> list[gateway.BackendObjectReference]:
    mirrors = [f.request_mirror for f in rule.filters if f.request_mirror]
    return [*rule.backend_refs, *(mirror.backend_ref for mirror in mirrors)]


def _rule(rule: gateway.HTTPRouteRule) -> gateway.HTTPRouteRule:
    return replace(
        rule,
        backend_refs=tuple(_backend(ref) for ref in rule.backend_refs),
        filters=tuple(_filter(step) for step in rule.filters),
    )


def _backend(ref: gateway.HTTPBackendRef) -> gateway.HTTPBackendRef:
    return replace(ref, group=inference.GROUP) if ref.group == LEGACY_GROUP else ref


def _filter(step: gateway.HTTPRouteFilter) -> gateway.HTTPRouteFilter:
    mirror = step.request_mirror
    if mirror is None or mirror.backend_ref.group != LEGACY_GROUP:
        return step
    backend = replace(mirror.backend_ref, group=inference.GROUP)
    return replace(step, request_mirror=replace(mirror, backend_ref=backend))


def _grant(grant: gateway.ReferenceGrant) -> gateway.ReferenceGrant:
    """Return the grant with targets of the older group named by today's."""
    if LEGACY_GROUP not in {to.group for to in grant.spec.to}:
        return grant
    targets = tuple(
        replace(to, group=inference.GROUP) if to.group == LEGACY_GROUP else to
        for to in grant.spec.to
    )
    return replace(grant, spec=replace(grant.spec, to=targets))
