"""The core group as far as others refer to it: Namespace, Secret, ConfigMap, Service."""

from typing import Annotated

import msgspec
from msgspec import Meta

from tidegate.api.gateway import Port
from tidegate.api.meta import Model, Resource


class Namespace(Resource, frozen=True, kw_only=True):
    """A scope for names."""


class Secret(Resource, frozen=True, kw_only=True):
    """Certificates and keys; values in `data` are base64."""

    type: str = "Opaque"
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}


class ConfigMap(Resource, frozen=True, kw_only=True):
    """Plain settings."""

    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}


class ServicePort(Model, frozen=True, kw_only=True):
    """One port of a Service."""

    name: str | None = None
    port: Port
    target_port: int | str | None = None
    protocol: str = "TCP"
    app_protocol: str | None = None


class ServiceSpec(Model, frozen=True, kw_only=True):
    """Who answers: model servers with these labels, or an external name."""

    selector: dict[str, str] = {}
    ports: tuple[ServicePort, ...] = ()
    type: str = "ClusterIP"
    external_name: str | None = None
    cluster_ip: Annotated[str, Meta()] | None = msgspec.field(default=None, name="clusterIP")


class Service(Resource, frozen=True, kw_only=True):
    """A backend that is not an InferencePool."""

    spec: ServiceSpec = ServiceSpec()
