"""A namespace, a Gateway and a port of its own for each conformance test, on one `tidegate up`.

Manifests go in by kubectl, requests through sockets, and nothing is known at once: the
workers and the controller follow the API each for itself, so what is expected is waited for.
"""

import http.client
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from tidegate.testing.deployment import Deployment
from tidegate.testing.echo import Echo
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_until

T = TypeVar("T")
Object = dict[str, Any]

GATEWAY_API = "gateway.networking.k8s.io/v1"
POOL_GROUP = "inference.networking.k8s.io"
CONTROLLER = "tidegate.dev/gateway"
IN_A_ROW = 20
"""How often in a row an answer must be right: each new connection meets any of the workers."""
TIMEOUT_S = 10.0


def eventually(see: Callable[[], T], wanted: T, *, in_a_row: int = 1) -> None:
    """Wait until `see()` is `wanted`, or fail with what it is instead."""
    with suppress(AssertionError):
        wait_until(lambda: all(see() == wanted for _ in range(in_a_row)), TIMEOUT_S)
        return
    found = see()
    if found != wanted:
        raise AssertionError(f"found {found!r}, expected {wanted!r}")
    raise AssertionError(f"found {wanted!r}, but not {in_a_row} times in a row")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client got."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def by(self) -> str | int:
        """Who answered: a server's name, or the status where it isn't 200."""
        return str(self.seen["server"]) if self.status == 200 else self.status

    @property
    def seen(self) -> dict[str, Any]:
        """What the server says that it saw."""
        echo: dict[str, Any] = msgspec.json.decode(self.body)
        return echo

    def header(self, name: str) -> str | None:
        """Return the values of a header of the answer, joined; None where there is none."""
        return _joined(self.headers, name)

    def sent(self, name: str) -> str | None:
        """Return the values of a header that the server saw, joined."""
        return _joined(self.seen["headers"], name)


def _joined(headers: Iterable[Sequence[str]], name: str) -> str | None:
    values = [value for key, value in headers if key.lower() == name.lower()]
    return ",".join(values) if values else None


@dataclass(slots=True)
class Place:
    """One test's corner of the deployment."""

    up: Deployment
    servers: Mapping[str, Echo]
    namespace: str
    port: int = field(default_factory=free_port)
    second_port: int = field(default_factory=free_port)

    def elsewhere(self, suffix: str, *objects: Object, **labels: str) -> "Place":
        """Return another namespace of this test, made with these objects in it."""
        other = Place(self.up, self.servers, f"{self.namespace}-{suffix}")
        other.apply(namespace(other.namespace, **labels), *objects)
        return other

    # manifests

    def apply(self, *objects: Object) -> str:
        """Apply objects with kubectl, in this namespace where they name none."""
        items = [self._placed(one) for one in objects]
        whole = {"apiVersion": "v1", "kind": "List", "items": items}
        return self.up.kubectl("apply", "-f", "-", stdin=msgspec.json.encode(whole).decode())

    def kubectl(self, *args: str) -> str:
        """Run a command that has to succeed, in this namespace."""
        return self.up.kubectl("-n", self.namespace, *args)

    def get(self, resource: str, name: str) -> Object:
        """Return an object as kubectl shows it."""
        found: Object = self.up.kubectl.json("-n", self.namespace, resource, name)
        return found

    def delete(self, resource: str, *names: str) -> None:
        """Delete objects."""
        self.kubectl("delete", resource, *names)

    def _placed(self, one: Object) -> Object:
        metadata = one["metadata"]
        if one["kind"] in ("Namespace", "GatewayClass"):
            return one
        return {**one, "metadata": {"namespace": self.namespace, **metadata}}

    # what the test needs before it begins

    def pool(self, name: str, *servers: str, **spec: Any) -> list[Object]:
        """Return a ModelServer with these echo servers, and the InferencePool that selects it."""
        selector = {"matchLabels": {"app": name}}
        ports = [{"number": 8000}]
        return [
            self.model_server(name, *servers),
            {
                "apiVersion": f"{POOL_GROUP}/v1",
                "kind": "InferencePool",
                "metadata": {"name": name},
                "spec": {"selector": selector, "targetPorts": ports, **spec},
            },
        ]

    def model_server(self, name: str, *servers: str) -> Object:
        """Return a ModelServer with the addresses of these echo servers, labelled `app: NAME`."""
        addresses = [self.servers[one].address for one in servers]
        return {
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "ModelServer",
            "metadata": {"name": name, "labels": {"app": name}},
            # Asked once: there are hundreds of them, and they are always well.
            "spec": {"addresses": addresses, "health": {"periodSeconds": 3600}},
        }

    def gateway(self, name: str = "gw", *listeners: Object, **spec: Any) -> Object:
        """Return a Gateway, by default with one HTTP listener on this place's port."""
        return {
            "apiVersion": GATEWAY_API,
            "kind": "Gateway",
            "metadata": {"name": name},
            "spec": {
                "gatewayClassName": "tidegate",
                "listeners": list(listeners) or [listener(self.port)],
                **spec,
            },
        }

    # requests

    def ask(
        self,
        target: str = "/",
        *,
        method: str = "GET",
        host: str = "example.com",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        port: int | None = None,
        tls: ssl.SSLContext | None = None,
        sni: str = "",
    ) -> Reply:
        """Send one request on a connection of its own; with `tls`, for `sni` or else `host`."""
        plain = socket.create_connection(("127.0.0.1", port or self.port), TIMEOUT_S)
        with closing(http.client.HTTPConnection("127.0.0.1")) as connection:
            connection.sock = plain
            if tls is not None:
                connection.sock = tls.wrap_socket(plain, server_hostname=sni or host)
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())

    def expect(self, by: str | int, target: str = "/", **request: Any) -> None:
        """Wait until such requests are answered by this server, or with this status."""
        eventually(lambda: self._try(target, **request), by, in_a_row=IN_A_ROW)

    def _try(self, target: str, **request: Any) -> str | int:
        try:
            return self.ask(target, **request).by
        except OSError as error:  # nobody listens yet
            return repr(error)

    def shares(self, count: int, target: str = "/", **request: Any) -> Counter[str | int]:
        """Return who answered how many of `count` requests."""
        return Counter(self.ask(target, **request).by for _ in range(count))

    # statuses

    def conditions(self, resource: str, name: str) -> dict[str, str]:
        """Return an object's conditions as "STATUS REASON" by type."""
        return told(self.get(resource, name))

    def at_parent(self, resource: str, name: str, gateway: str = "gw") -> dict[str, str]:
        """Return what our controller says of a route or pool at one Gateway."""
        return at_parents(self.get(resource, name)).get(gateway, {})

    def at_listener(self, name: str, gateway: str = "gw") -> dict[str, str]:
        """Return the conditions of a listener."""
        found = self.get("gateway", gateway)
        listeners = found.get("status", {}).get("listeners", [])
        one: Object = next((each for each in listeners if each["name"] == name), {})
        return told(found, one)

    def attached(self, gateway: str = "gw") -> dict[str, int]:
        """Return how many routes each listener has."""
        listeners = self.get("gateway", gateway).get("status", {}).get("listeners", [])
        return {one["name"]: one["attachedRoutes"] for one in listeners}


def told(found: Object, status: Object | None = None) -> dict[str, str]:
    """Return the conditions in `status` (by default the object's) that are up to date."""
    generation = found["metadata"]["generation"]
    conditions = (found.get("status", {}) if status is None else status).get("conditions", [])
    return {
        one["type"]: f"{one['status']} {one['reason']}"
        for one in conditions
        if one.get("observedGeneration") == generation
    }


def at_parents(found: Object) -> dict[str, dict[str, str]]:
    """Return the conditions at each Gateway, by its name; only what our controller says."""
    status = found.get("status", {})
    return {
        one["parentRef"]["name"]: told(found, one)
        for one in status.get("parents", status.get("parent", []))
        if one["controllerName"] == CONTROLLER
    }


# Manifests.


def namespace(name: str, **labels: str) -> Object:
    """Return a Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def listener(port: int, name: str = "http", protocol: str = "HTTP", **fields: Any) -> Object:
    """Return a listener."""
    return {"name": name, "port": port, "protocol": protocol, **fields}


def allowed(source: str, **fields: Any) -> Object:
    """Return `allowedRoutes` for namespaces from `source`."""
    return {"namespaces": {"from": source, **fields}}


def route(name: str, *rules: Object, gateway: str = "gw", **spec: Any) -> Object:
    """Return an HTTPRoute, by default on the Gateway `gw` of its namespace."""
    return {
        "apiVersion": GATEWAY_API,
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": gateway}], "rules": list(rules), **spec},
    }


def rule(*backends: Object, **fields: Any) -> Object:
    """Return a rule."""
    return {"backendRefs": list(backends), **fields}


def to(name: str, weight: int | None = None, **fields: Any) -> Object:
    """Return a backendRef to an InferencePool."""
    weighted = {} if weight is None else {"weight": weight}
    return {"group": POOL_GROUP, "kind": "InferencePool", "name": name, **weighted, **fields}


def service(name: str, **spec: Any) -> Object:
    """Return a Service."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def prefix(path: str, **fields: Any) -> Object:
    """Return a match by path prefix."""
    return {"path": {"type": "PathPrefix", "value": path}, **fields}


def exact(path: str, **fields: Any) -> Object:
    """Return a match by exact path."""
    return {"path": {"type": "Exact", "value": path}, **fields}


def named(**values: str) -> list[Object]:
    """Return a list of names and values: headers, or query parameters."""
    return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]


def step(kind: str, **fields: Any) -> Object:
    """Return a filter, such as `step("RequestRedirect", scheme="https")`."""
    name = "urlRewrite" if kind == "URLRewrite" else kind[0].lower() + kind[1:]
    return {"type": kind, name: fields}


def grant(
    name: str, source: str, to_kind: str, to_name: str | None = None, **fields: Any
) -> Object:
    """Return a ReferenceGrant for the HTTPRoutes of the namespace `source`."""
    to = {"group": POOL_GROUP if to_kind == "InferencePool" else "", "kind": to_kind}
    sender = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": source}
    return {
        "apiVersion": GATEWAY_API,
        "kind": "ReferenceGrant",
        "metadata": {"name": name},
        "spec": {
            "from": [{**sender, **fields}],
            "to": [to if to_name is None else {**to, "name": to_name}],
        },
    }
