"""Gateway API Inference Extension and llm-d: pools, objectives, rewrites.

InferencePool is `inference.networking.k8s.io/v1`; InferenceObjective and
InferenceModelRewrite are `llm-d.ai/v1alpha2`. Older groups and versions are converted to
these by `tidegate.api.versions`.
"""

from typing import Annotated, Literal

from msgspec import Meta

from tidegate.api.meta import LabelSelector, Model, Name, Resource
from tidegate.api.scalars import (
    Conditions,
    ControllerName,
    Group,
    KindName,
    NamespaceName,
    Port,
)

GROUP = "inference.networking.k8s.io"
LLMD_GROUP = "llm-d.ai"


class PortNumber(Model, frozen=True, kw_only=True):
    """A port."""

    number: Port


class PoolSelector(LabelSelector, frozen=True, kw_only=True):
    """Labels of the pool's model servers, all of which must be equal."""

    match_labels: Annotated[dict[str, str], Meta(min_length=1, max_length=64)]
    """Labels and their values; all must be equal."""


class EndpointPickerRef(Model, frozen=True, kw_only=True):
    """An external endpoint picker. Tidegate picks by itself and only checks the reference."""

    group: Group = ""
    kind: KindName = "Service"
    name: Name
    port: PortNumber | None = None
    """The Service's port; needed where `kind` is Service."""
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"


class InferencePoolSpec(Model, frozen=True, kw_only=True):
    """Which model servers belong to the pool, and at which ports they serve."""

    selector: PoolSelector
    target_ports: Annotated[tuple[PortNumber, ...], Meta(min_length=1, max_length=8)]
    """The ports of each model server; each port is an endpoint of its own."""
    app_protocol: Literal["http", "kubernetes.io/h2c"] = "http"
    """What the model servers speak."""
    endpoint_picker_ref: EndpointPickerRef | None = None


class PoolParentReference(Model, frozen=True, kw_only=True):
    """A Gateway that a route connects the pool to."""

    group: Group = "gateway.networking.k8s.io"
    kind: KindName = "Gateway"
    name: Name
    namespace: NamespaceName | None = None


class PoolParentStatus(Model, frozen=True, kw_only=True):
    """What one parent's controller says of the pool."""

    parent_ref: PoolParentReference
    controller_name: ControllerName | None = None
    conditions: Conditions = ()


class InferencePoolStatus(Model, frozen=True, kw_only=True):
    """What each parent says of the pool."""

    parents: tuple[PoolParentStatus, ...] = ()


class InferencePool(Resource, frozen=True, kw_only=True):
    """A set of model servers that serve the same models."""

    spec: InferencePoolSpec
    status: InferencePoolStatus = InferencePoolStatus()


class PoolObjectReference(Model, frozen=True, kw_only=True):
    """An InferencePool in the same namespace."""

    group: Group = GROUP
    kind: KindName = "InferencePool"
    name: Name


class ConditionsStatus(Model, frozen=True, kw_only=True):
    """A status that is conditions only."""

    conditions: Conditions = ()


class InferenceObjectiveSpec(Model, frozen=True, kw_only=True):
    """The priority of requests that name this objective. Unset is 0; below 0 sheds first."""

    priority: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    """Higher is served first; requests below 0 are the first to be refused."""
    pool_ref: PoolObjectReference


class InferenceObjective(Resource, frozen=True, kw_only=True):
    """What a class of requests needs."""

    spec: InferenceObjectiveSpec
    status: ConditionsStatus = ConditionsStatus()


class ModelMatch(Model, frozen=True, kw_only=True):
    """The model name that a client asked for."""

    type: Literal["Exact"] = "Exact"
    value: Annotated[str, Meta(min_length=1)]


class RewriteMatch(Model, frozen=True, kw_only=True):
    """What a rewrite rule applies to."""

    model: ModelMatch


class TargetModel(Model, frozen=True, kw_only=True):
    """A model to send to, with its weight (all targets have one, or none has)."""

    model_rewrite: Annotated[str, Meta(min_length=1)]
    weight: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class RewriteRule(Model, frozen=True, kw_only=True):
    """Matches (one must hold; none means every request) and the targets to choose from."""

    matches: tuple[RewriteMatch, ...] = ()
    targets: Annotated[tuple[TargetModel, ...], Meta(min_length=1)] | None = None


class InferenceModelRewriteSpec(Model, frozen=True, kw_only=True):
    """How model names are rewritten for a pool."""

    pool_ref: PoolObjectReference
    rules: tuple[RewriteRule, ...]


class InferenceModelRewrite(Resource, frozen=True, kw_only=True):
    """Gives a client's model name other names behind the gateway, by weight."""

    spec: InferenceModelRewriteSpec
    status: ConditionsStatus = ConditionsStatus()


# Older shapes: read from the wire, then converted by `tidegate.api.versions`.


class LegacyExtensionRef(Model, frozen=True, kw_only=True):
    """The endpoint picker of `inference.networking.x-k8s.io/v1alpha2`."""

    group: Group = ""
    kind: KindName = "Service"
    name: Name
    port_number: Port | None = None
    failure_mode: Literal["FailOpen", "FailClose"] = "FailClose"


class LegacyPoolSpec(Model, frozen=True, kw_only=True):
    """A flat selector and one port."""

    selector: Annotated[dict[str, str], Meta(min_length=1, max_length=64)]
    target_port_number: Port
    extension_ref: LegacyExtensionRef | None = None


class LegacyPoolStatus(Model, frozen=True, kw_only=True):
    """The key is singular in this version."""

    parent: tuple[PoolParentStatus, ...] = ()


class LegacyInferencePool(Resource, frozen=True, kw_only=True):
    """InferencePool of `inference.networking.x-k8s.io/v1alpha2`."""

    spec: LegacyPoolSpec
    status: LegacyPoolStatus = LegacyPoolStatus()


class LegacyTargetModel(Model, frozen=True, kw_only=True):
    """A model to send to, with its weight."""

    name: Annotated[str, Meta(min_length=1, max_length=253)]
    weight: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None


class InferenceModelSpec(Model, frozen=True, kw_only=True):
    """A model name, how critical it is, and the models behind it."""

    model_name: Annotated[str, Meta(min_length=1, max_length=256)]
    criticality: Literal["Critical", "Standard", "Sheddable"] | None = None
    target_models: Annotated[tuple[LegacyTargetModel, ...], Meta(max_length=10)] = ()
    pool_ref: PoolObjectReference


class InferenceModel(Resource, frozen=True, kw_only=True):
    """Legacy: objective and rewrite in one (`inference.networking.x-k8s.io/v1alpha2`)."""

    spec: InferenceModelSpec
    status: ConditionsStatus = ConditionsStatus()


class LegacyInferenceObjective(InferenceObjective, frozen=True, kw_only=True):
    """InferenceObjective of `inference.networking.x-k8s.io/v1alpha2`: the same shape."""


class LegacyInferenceModelRewrite(InferenceModelRewrite, frozen=True, kw_only=True):
    """InferenceModelRewrite of `inference.networking.x-k8s.io/v1alpha2`: the same shape."""
