"""Follows references of routes and Gateways: what they name, or a reason why not.

`World` is a snapshot made ready for that: older resources upgraded, everything that is asked
for often indexed. A reference into another namespace counts as forbidden before it counts as
missing, so nobody learns what exists where he may not look.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Literal, TypeVar

from tidegate.api import core, gateway, inference
from tidegate.api.meta import Key, LabelSelector, Resource
from tidegate.api.rollout import InferenceRollout
from tidegate.api.scheme import LEGACY_GROUP
from tidegate.api.tidegate import ModelServer
from tidegate.api.versions import upgrade
from tidegate.routing.moves import Moves
from tidegate.routing.objectives import objectives_by_pool
from tidegate.routing.pickers import ADAPTERS, MissingConfig, config_text
from tidegate.routing.rewrites import rewrites_by_pool
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.table import Backend, Failure

CONTROLLER: Final = "tidegate.dev/gateway"
"""The controllerName of our GatewayClasses, and our signature in statuses."""

DEFAULT_LABEL: Final = "tidegate.dev/default"
"""`"true"` on the Gateway that serves routes whose InferenceGateway doesn't exist."""

ALIAS_KIND: Final = "InferenceGateway"
"""In the group of InferencePool: a Gateway of that name, as some manifests call it."""

POOL_GROUPS: Final = frozenset({inference.GROUP, LEGACY_GROUP})

CLEAR_HTTP2: Final = frozenset({"kubernetes.io/h2c", "grpc"})
"""appProtocols of Service ports that mean HTTP/2 without TLS; the others mean HTTP/1.1."""

ENCRYPTED: Final = frozenset({"https", "tls", "kubernetes.io/wss"})
"""appProtocols that would need TLS towards the backend."""

R = TypeVar("R", bound=Resource)

Grant = tuple[str, str, str, str, str, str, str | None]
"""Group, kind and namespace that may refer; namespace, group, kind and name (None: all)."""


class World:
    """A snapshot, upgraded and indexed. Answers are kept, so that routes share backends."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        classes = snapshot.all(gateway.GatewayClass).values()
        self.classes = tuple(one for one in classes if one.spec.controller_name == CONTROLLER)
        self.gateways = self._own_gateways()
        self.routes = tuple(sorted(self._upgraded(gateway.HTTPRoute), key=age))
        self.pools = self._all_pools()
        self.moves = Moves(snapshot.all(InferenceRollout).values())
        self._rewrites = rewrites_by_pool(snapshot, self.moves)
        self._objectives = objectives_by_pool(snapshot, self.moves)
        self._servers = _Servers(snapshot.all(ModelServer).values())
        self._grants = frozenset(
            key for one in self._upgraded(gateway.ReferenceGrant) for key in _grants(one)
        )
        self._default = self._default_gateway()
        self._backends: dict[tuple[str, Key, int | None], Backend | Failure] = {}

    def parent(self, ref: gateway.ParentReference, namespace: str) -> gateway.Gateway | None:
        """Return our Gateway that a route of `namespace` refers to, or None."""
        key = Key(namespace if ref.namespace is None else ref.namespace, ref.name)
        if ref.group == gateway.GROUP and ref.kind == "Gateway":
            return self.gateways.get(key)
        if ref.group == inference.GROUP and ref.kind == ALIAS_KIND:
            exists = self.snapshot.get(gateway.Gateway, key) is not None
            return self.gateways.get(key) if exists else self._default
        return None

    def backend(self, ref: gateway.BackendObjectReference, namespace: str) -> Backend | Failure:
        """Return what an HTTPRoute of `namespace` refers to, or why requests for it fail."""
        key = Key(namespace if ref.namespace is None else ref.namespace, ref.name)
        kind = _backend_kind(ref)
        if kind is None:
            what = f"{ref.kind} in group {ref.group!r}"
            wanted = f"an InferencePool in group {inference.GROUP} or a Service in group ''"
            return Failure(500, "InvalidKind", f"{what} is not {wanted}")
        if not self._permitted(gateway.GROUP, "HTTPRoute", namespace, ref.group, kind, key):
            return _not_permitted(kind, key, "HTTPRoutes", namespace)
        port = ref.port if kind == "Service" else None
        known = self._backends.get((kind, key, port))
        if known is None:
            known = self._pool(key) if kind == "InferencePool" else self._service(key, port)
            self._backends[kind, key, port] = known
        return known

    def pool_key(self, ref: gateway.BackendObjectReference, namespace: str) -> Key | None:
        """Return the pool that a reference of an HTTPRoute reaches, working or not, or None."""
        key = Key(namespace if ref.namespace is None else ref.namespace, ref.name)
        if _backend_kind(ref) != "InferencePool" or key not in self.pools:
            return None
        source = (gateway.GROUP, "HTTPRoute", namespace)
        return key if self._permitted(*source, ref.group, "InferencePool", key) else None

    def secret(self, ref: gateway.SecretObjectReference, namespace: str) -> core.Secret | Failure:
        """Return the Secret that a Gateway of `namespace` refers to, or why it can't be had."""
        key = Key(namespace if ref.namespace is None else ref.namespace, ref.name)
        if (ref.group, ref.kind) != ("", "Secret"):
            return Failure(500, "InvalidCertificateRef", f"{ref.kind} {key} is not a core Secret")
        if not self._permitted(gateway.GROUP, "Gateway", namespace, "", "Secret", key):
            return _not_permitted("Secret", key, "Gateways", namespace)
        found = self.snapshot.get(core.Secret, key)
        return found or Failure(500, "InvalidCertificateRef", f"Secret {key} is not there")

    def picker_failure(self, pool: inference.InferencePool) -> str | None:
        """Return what is wrong with the pool's reference to an endpoint picker, or None."""
        ref = pool.spec.endpoint_picker_ref
        if ref is None:
            return None
        key = Key(pool.metadata.namespace, ref.name)
        if (ref.group, ref.kind) != ("", "Service"):
            return f"the endpoint picker {ref.kind} {key} is not a core Service"
        found = self.snapshot.get(core.Service, key)
        if found is None:
            return f"the endpoint picker Service {key} is not there; Tidegate picks by itself"
        if found.spec.type == "ExternalName":
            return f"the endpoint picker Service {key} must not be an ExternalName"
        return None

    def namespace_labels(self, name: str) -> dict[str, str]:
        """Return the labels of a namespace, with the one that Kubernetes gives to each."""
        found = self.snapshot.get(core.Namespace, Key("", name))
        labels = found.metadata.labels if found is not None else {}
        return {**labels, "kubernetes.io/metadata.name": name}

    def _upgraded(self, kind: type[R]) -> Iterable[R]:
        for resource in self.snapshot.all(kind).values():
            for newest in upgrade(resource):
                if isinstance(newest, kind):
                    yield newest

    def _all_pools(self) -> dict[Key, inference.InferencePool]:
        """Return the pools by name; of an older and a newer one of a name the newer counts."""
        pools: dict[Key, inference.InferencePool] = {}
        for old in self.snapshot.all(inference.LegacyInferencePool).values():
            newest = [one for one in upgrade(old) if isinstance(one, inference.InferencePool)]
            pools.update((one.key, one) for one in newest)
        pools.update(self.snapshot.all(inference.InferencePool))
        return pools

    def _own_gateways(self) -> dict[Key, gateway.Gateway]:
        """Return the Gateways of our classes, the oldest first."""
        names = {one.metadata.name for one in self.classes}
        gateways = self.snapshot.all(gateway.Gateway).values()
        own = (one for one in gateways if one.spec.gateway_class_name in names)
        return {one.key: one for one in sorted(own, key=age)}

    def _default_gateway(self) -> gateway.Gateway | None:
        own = self.gateways.values()
        return next((one for one in own if one.metadata.labels.get(DEFAULT_LABEL) == "true"), None)

    def _permitted(
        self, group: str, kind: str, namespace: str, to_group: str, to_kind: str, to: Key
    ) -> bool:
        if to.namespace == namespace:
            return True
        to_group = inference.GROUP if to_group == LEGACY_GROUP else to_group
        whole = (group, kind, namespace, to.namespace, to_group, to_kind)
        return bool({(*whole, to.name), (*whole, None)} & self._grants)

    def _pool(self, key: Key) -> Backend | Failure:
        pool = self.pools.get(key)
        if pool is None:
            return Failure(500, "BackendNotFound", f"InferencePool {key} is not there")
        # We pick by ourselves, so a picker that isn't there stops nothing: most pools that people
        # bring name one. The pool's status says that its reference doesn't resolve.
        endpoints = self._servers.endpoints(key.namespace, pool.spec.selector.match_labels)
        h2c = pool.spec.app_protocol == "kubernetes.io/h2c"
        config = config_text(pool, self.snapshot)
        configured = bool(config) and not isinstance(config, MissingConfig)
        return Backend(
            "InferencePool",
            *key,
            tuple(endpoints),
            endpoints,
            h2c,
            rewrites=self._rewrites.get(key),
            labels=self._servers.labels(endpoints) if configured else {},
            picker=config if configured else "",
            objectives=self._objectives.get(key),
            adapter_path=pool.metadata.annotations.get(ADAPTERS, ""),
        )

    def _service(self, key: Key, number: int | None) -> Backend | Failure:
        service = self.snapshot.get(core.Service, key)
        if service is None:
            return Failure(500, "BackendNotFound", f"Service {key} is not there")
        port = next((one for one in service.spec.ports if one.port == number), None)
        if port is None and service.spec.ports and number is not None:
            return Failure(500, "BackendNotFound", f"Service {key} has no port {number}")
        protocol = port.app_protocol if port is not None else None
        if protocol in ENCRYPTED:
            message = f"Service {key}, port {number}: appProtocol {protocol} is not supported"
            return Failure(500, "UnsupportedProtocol", message)
        endpoints = self._service_endpoints(service, number)
        h2c = protocol in CLEAR_HTTP2
        return Backend("Service", *key, tuple(endpoints), _known(endpoints), h2c, number)

    def _service_endpoints(self, service: core.Service, number: int | None) -> dict[str, str]:
        spec = service.spec
        if spec.type == "ExternalName":
            number = number or next((one.port for one in spec.ports), None)
            return {f"{spec.external_name}:{number}": ""} if spec.external_name and number else {}
        if not spec.selector:
            return {}
        return self._servers.endpoints(service.metadata.namespace, spec.selector)


class _Servers:
    """Model servers by namespace and label, so that a selector need not ask each of them."""

    def __init__(self, servers: Iterable[ModelServer]) -> None:
        self._by_label: defaultdict[tuple[str, str, str], list[ModelServer]] = defaultdict(list)
        self._by_namespace: defaultdict[str, list[ModelServer]] = defaultdict(list)
        self._labels: dict[str, dict[str, str]] = {}
        for server in sorted(servers, key=lambda one: one.key):
            self._by_namespace[server.metadata.namespace].append(server)
            for one in server.status.endpoints:
                self._labels[one.address] = server.metadata.labels
            for name, value in server.metadata.labels.items():
                self._by_label[server.metadata.namespace, name, value].append(server)

    def labels(self, addresses: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the labels of the endpoints' servers, by address."""
        return {address: self._labels[address] for address in addresses}

    def endpoints(self, namespace: str, labels: dict[str, str]) -> dict[str, str]:
        """Return the ready endpoints of the servers that have all of `labels`: address → engine."""
        some = [self._by_label.get((namespace, *label), []) for label in labels.items()]
        servers = min(some, key=len, default=self._by_namespace.get(namespace, []))
        selector = LabelSelector(match_labels=labels)
        return {
            endpoint.address: server.spec.engine
            for server in servers
            if selector.matches(server.metadata.labels)
            for endpoint in server.status.endpoints
            if endpoint.state == "Ready"
        }


def age(resource: Resource) -> tuple[str, Key]:
    """Sorts resources by when they were made, then by name: the oldest has precedence."""
    return (resource.metadata.creation_timestamp, resource.key)


def _known(endpoints: dict[str, str]) -> dict[str, str]:
    return {address: engine for address, engine in endpoints.items() if engine}


def _backend_kind(
    ref: gateway.BackendObjectReference,
) -> Literal["InferencePool", "Service"] | None:
    if ref.group in POOL_GROUPS and ref.kind == "InferencePool":
        return "InferencePool"
    return "Service" if (ref.group, ref.kind) == ("", "Service") else None


def _grants(grant: gateway.ReferenceGrant) -> Iterable[Grant]:
    namespace = grant.metadata.namespace
    for one in grant.spec.from_:
        for to in grant.spec.to:
            yield (one.group, one.kind, one.namespace, namespace, to.group, to.kind, to.name)


def _not_permitted(kind: str, key: Key, who: str, namespace: str) -> Failure:
    grant = f"a ReferenceGrant in {key.namespace} must allow {who} of {namespace}"
    return Failure(500, "RefNotPermitted", f"{kind} {key} is in another namespace: {grant}")
