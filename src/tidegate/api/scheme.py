"""Which kinds are served, under which groups, versions and names: one table.

A kind is a group and a kind name. All versions of a kind have the same shape and one
storage; the first is the storage version and the preferred one. `model` is one to one with
the kind, so the older group's kinds have classes of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tidegate.api import core, event, gateway, inference, rollout, tidegate
from tidegate.api.columns import (
    AGE,
    Column,
    accepted,
    backends,
    hostnames,
    involved,
    model_server_source,
    pool_parents,
    port_list,
    selector,
    targets,
)
from tidegate.api.meta import Resource

LEGACY_GROUP: Final = "inference.networking.x-k8s.io"


@dataclass(frozen=True, slots=True)
class Scale:
    """Where `kubectl scale` finds its numbers, as JSON paths."""

    spec_path: str
    status_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One served kind."""

    group: str
    versions: tuple[str, ...]
    """Newest first; the first is the storage version."""
    kind: str
    plural: str
    singular: str
    model: type[Resource]
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = field(default=(AGE,))
    """What `kubectl get` shows after the name."""
    has_status: bool = True
    """Whether there is a status subresource: writers of spec and of status are apart."""
    scale: Scale | None = None

    @property
    def storage(self) -> str:
        """The version in which objects are kept."""
        return self.versions[0]

    @property
    def list_kind(self) -> str:
        """The kind of a list of these."""
        return f"{self.kind}List"

    @property
    def resource(self) -> str:
        """`plural.group`, as error texts and CRD names have it; the plural in the core group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def api_version(self, version: str = "") -> str:
        """`group/version`, by default of the storage version; the core group has no group."""
        version = version or self.storage
        return f"{self.group}/{version}" if self.group else version

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


def _gateway_api(**names: Any) -> Kind:
    return Kind(
        group=gateway.GROUP, versions=("v1", "v1beta1"), categories=("gateway-api",), **names
    )


SCHEME: Final[tuple[Kind, ...]] = (
    _gateway_api(
        kind="GatewayClass",
        plural="gatewayclasses",
        singular="gatewayclass",
        short_names=("gc",),
        namespaced=False,
        model=gateway.GatewayClass,
        columns=(
            Column("Controller", ".spec.controllerName"),
            accepted(".status.conditions"),
            AGE,
            Column("Description", ".spec.description", priority=1),
        ),
    ),
    _gateway_api(
        kind="Gateway",
        plural="gateways",
        singular="gateway",
        short_names=("gtw",),
        model=gateway.Gateway,
        columns=(
            Column("Class", ".spec.gatewayClassName"),
            Column("Address", ".status.addresses[*].value"),
            Column("Programmed", '.status.conditions[?(@.type=="Programmed")].status'),
            AGE,
            Column("Ports", ".spec.listeners[*].port", priority=1),
        ),
    ),
    _gateway_api(
        kind="HTTPRoute",
        plural="httproutes",
        singular="httproute",
        short_names=("hr",),
        model=gateway.HTTPRoute,
        columns=(
            Column("Hostnames", hostnames, description="The hosts that the route serves."),
            Column("Backends", backends, description="Each backend with its weight."),
            accepted(".status.parents[*].conditions"),
            AGE,
            Column("Parents", ".spec.parentRefs[*].name", priority=1),
        ),
    ),
    _gateway_api(
        kind="ReferenceGrant",
        plural="referencegrants",
        singular="referencegrant",
        short_names=("refgrant",),
        model=gateway.ReferenceGrant,
        has_status=False,
    ),
    Kind(
        group=inference.GROUP,
        versions=("v1",),
        kind="InferencePool",
        plural="inferencepools",
        singular="inferencepool",
        short_names=("infpool",),
        model=inference.InferencePool,
        columns=(
            Column("Selector", selector(".spec.selector.matchLabels")),
            accepted(".status.parents[*].conditions"),
            AGE,
            Column("Ports", port_list, priority=1),
            Column("Parents", pool_parents, priority=1),
        ),
    ),
    Kind(
        group=inference.LLMD_GROUP,
        versions=("v1alpha2",),
        kind="InferenceObjective",
        plural="inferenceobjectives",
        singular="inferenceobjective",
        short_names=("infobj",),
        model=inference.InferenceObjective,
        columns=(
            Column("Inference Pool", ".spec.poolRef.name"),
            Column("Priority", ".spec.priority", type="integer"),
            AGE,
        ),
    ),
    Kind(
        group=inference.LLMD_GROUP,
        versions=("v1alpha2",),
        kind="InferenceModelRewrite",
        plural="inferencemodelrewrites",
        singular="inferencemodelrewrite",
        short_names=("infmr",),
        model=inference.InferenceModelRewrite,
        columns=(
            Column("Inference Pool", ".spec.poolRef.name"),
            Column("Targets", targets),
            AGE,
        ),
    ),
    Kind(
        group=LEGACY_GROUP,
        versions=("v1alpha2",),
        kind="InferencePool",
        plural="inferencepools",
        singular="inferencepool",
        short_names=("xinfpool",),
        model=inference.LegacyInferencePool,
        columns=(Column("Selector", selector(".spec.selector")), AGE),
    ),
    Kind(
        group=LEGACY_GROUP,
        versions=("v1alpha2",),
        kind="InferenceModel",
        plural="inferencemodels",
        singular="inferencemodel",
        model=inference.InferenceModel,
        columns=(
            Column("Model Name", ".spec.modelName"),
            Column("Inference Pool", ".spec.poolRef.name"),
            Column("Criticality", ".spec.criticality"),
            AGE,
        ),
    ),
    Kind(
        group=LEGACY_GROUP,
        versions=("v1alpha2",),
        kind="InferenceObjective",
        plural="inferenceobjectives",
        singular="inferenceobjective",
        model=inference.LegacyInferenceObjective,
        columns=(
            Column("Inference Pool", ".spec.poolRef.name"),
            Column("Priority", ".spec.priority", type="integer"),
            AGE,
        ),
    ),
    Kind(
        group=LEGACY_GROUP,
        versions=("v1alpha2",),
        kind="InferenceModelRewrite",
        plural="inferencemodelrewrites",
        singular="inferencemodelrewrite",
        model=inference.LegacyInferenceModelRewrite,
        columns=(
            Column("Inference Pool", ".spec.poolRef.name"),
            Column("Targets", targets),
            AGE,
        ),
    ),
    Kind(
        group=tidegate.GROUP,
        versions=("v1alpha1",),
        kind="ModelServer",
        plural="modelservers",
        singular="modelserver",
        short_names=("msrv",),
        model=tidegate.ModelServer,
        columns=(
            Column("Source", model_server_source, description="Where its endpoints come from."),
            Column("Replicas", ".status.replicas", type="integer"),
            Column("Ready", ".status.readyReplicas", type="integer"),
            AGE,
            Column("Endpoints", ".status.endpoints[*].address", priority=1),
        ),
        scale=Scale(".spec.replicas", ".status.replicas"),
    ),
    Kind(
        group=rollout.GROUP,
        versions=("v1alpha1",),
        kind="InferenceRollout",
        plural="inferencerollouts",
        singular="inferencerollout",
        short_names=("ir",),
        model=rollout.InferenceRollout,
        columns=(
            Column("Phase", ".status.phase"),
            Column("Step", ".status.step"),
            Column("Desired", ".status.weights.desired", type="integer"),
            Column("Effective", ".status.weights.effective", type="integer"),
            Column("Observed", ".status.weights.observed", type="number"),
            Column("Message", ".status.message"),
            AGE,
            Column("Stable", ".spec.stable", priority=1),
            Column("Canary", ".spec.canary", priority=1),
        ),
    ),
    Kind(
        group="",
        versions=("v1",),
        kind="Namespace",
        plural="namespaces",
        singular="namespace",
        short_names=("ns",),
        namespaced=False,
        model=core.Namespace,
        columns=(Column("Status", ".status.phase"), AGE),
    ),
    Kind(
        group="",
        versions=("v1",),
        kind="Event",
        plural="events",
        singular="event",
        short_names=("ev",),
        model=event.Event,
        has_status=False,
        columns=(
            Column("Type", ".type"),
            Column("Reason", ".reason"),
            Column("Object", involved),
            Column("Message", ".message"),
            AGE,
        ),
    ),
    Kind(
        group="",
        versions=("v1",),
        kind="Secret",
        plural="secrets",
        singular="secret",
        model=core.Secret,
        has_status=False,
        columns=(Column("Type", ".type"), AGE),
    ),
    Kind(
        group="",
        versions=("v1",),
        kind="ConfigMap",
        plural="configmaps",
        singular="configmap",
        short_names=("cm",),
        model=core.ConfigMap,
        has_status=False,
    ),
    Kind(
        group="",
        versions=("v1",),
        kind="Service",
        plural="services",
        singular="service",
        short_names=("svc",),
        model=core.Service,
        columns=(
            Column("Type", ".spec.type"),
            Column("Selector", selector(".spec.selector")),
            Column("Port(s)", ".spec.ports[*].port"),
            AGE,
        ),
    ),
)
"""Every served kind."""

_BY_RESOURCE: Final[Mapping[tuple[str, str], Kind]] = {(k.group, k.plural): k for k in SCHEME}
_BY_KIND: Final[Mapping[tuple[str, str], Kind]] = {(k.group, k.kind): k for k in SCHEME}
_BY_MODEL: Final[Mapping[type[Resource], Kind]] = {k.model: k for k in SCHEME}


def by_resource(group: str, plural: str) -> Kind | None:
    """Return the kind that URLs name by `group` and `plural`."""
    return _BY_RESOURCE.get((group, plural))


def by_kind(group: str, kind: str) -> Kind | None:
    """Return the kind that manifests name by `group` and `kind`."""
    return _BY_KIND.get((group, kind))


def by_model(model: type[Resource]) -> Kind:
    """Return the kind whose objects `model` holds.

    Raises:
        KeyError: No kind is served with this model.

    """
    return _BY_MODEL[model]
