"""The core group as far as others refer to it: Namespace, Secret, ConfigMap, Service.

Fields that Tidegate doesn't read are there so that they are kept.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from tidegate.api.meta import Model, Resource
from tidegate.api.scalars import Port


class NamespaceSpec(Model, frozen=True, kw_only=True):
    """What must be done before the namespace is gone."""

    finalizers: tuple[str, ...] = ()


_ACTIVE = {"phase": "Active"}


class Namespace(Resource, frozen=True, kw_only=True):
    """A scope for names."""

    spec: NamespaceSpec = NamespaceSpec()
    status: Annotated[dict[str, Any], Meta(extra={"default": _ACTIVE})] = {}


class Secret(Resource, frozen=True, kw_only=True):
    """Certificates and keys; values in `data` are base64."""

    type: str = "Opaque"
    """`kubernetes.io/tls` for certificates of listeners."""
    data: dict[str, str] = {}
    """Values as base64."""
    string_data: dict[str, str] = {}
    """Values as text: written into `data` and never read."""
    immutable: bool | None = None
    """Whether the data can't be changed."""


class ConfigMap(Resource, frozen=True, kw_only=True):
    """Plain settings."""

    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    """Values as base64."""
    immutable: bool | None = None
    """Whether the data can't be changed."""


class ServicePort(Model, frozen=True, kw_only=True):
    """One port of a Service."""

    name: str | None = None
    port: Port
    target_port: int | str | None = None
    protocol: str = "TCP"
    app_protocol: str | None = None
    node_port: int | None = None


class ServiceSpec(Model, frozen=True, kw_only=True):
    """Who answers: model servers with these labels, or an external name."""

    selector: dict[str, str] = {}
    """Labels of the ModelServers that answer; all must be equal."""
    ports: tuple[ServicePort, ...] = ()
    type: str = "ClusterIP"
    external_name: str | None = None
    """The host that answers, where `type` is ExternalName."""
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    ip_families: tuple[str, ...] = msgspec.field(default=(), name="ipFamilies")
    ip_family_policy: str | None = None
    session_affinity: str = "None"
    session_affinity_config: dict[str, Any] | None = None
    external_traffic_policy: str | None = None
    internal_traffic_policy: str | None = None
    traffic_distribution: str | None = None
    health_check_node_port: int | None = None
    publish_not_ready_addresses: bool | None = None
    allocate_load_balancer_node_ports: bool | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str | None = msgspec.field(default=None, name="loadBalancerIP")
    load_balancer_source_ranges: tuple[str, ...] = ()


class Service(Resource, frozen=True, kw_only=True):
    """A backend that is not an InferencePool."""

    spec: ServiceSpec = ServiceSpec()
    status: dict[str, Any] = {}
