"""A namespace, a Gateway and a port of its own for each conformance test, on one `tidegate up`.

Manifests go in by `kubectl apply`, statuses come out through one `kubectl proxy`, requests go
through sockets of their own. Nothing is known at once: the workers and the controller follow
the API each for itself, so what is expected is waited for.
"""

import http.client
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidegate.api.scheme import SCHEME, Kind
from tidegate.controllers import freshness, pickers
from tidegate.testing.deployment import Deployment, deployed
from tidegate.testing.echo import Echo, echoes
from tidegate.testing.ports import reserve
from tidegate.testing.waiting import wait_until

T = TypeVar("T")
Object = dict[str, Any]

GATEWAY_API = "gateway.networking.k8s.io/v1"
POOL_GROUP = "inference.networking.k8s.io"
CONTROLLER = "tidegate.dev/gateway"
OUR_OWN = frozenset({pickers.CONDITION, freshness.CONDITION})
"""Conditions of pools that only Tidegate has."""
IN_A_ROW = 20
"""How often in a row an answer must be right: each new connection meets any of the workers."""
TIMEOUT_S = 30.0
"""Ample: a machine that is busy with other things is slow, not wrong."""


def eventually(see: Callable[[], T], wanted: T, *, in_a_row: int = 1) -> None:
    """Wait until `see()` is `wanted`, so many times in a row, or fail with what else it was."""
    wrong: list[T] = []

    def right() -> bool:
        for _ in range(in_a_row):
            found = see()
            if found != wanted:
                wrong[:] = [found]
                return False
        return True

    try:
        wait_until(right, TIMEOUT_S)
    except AssertionError as error:
        raise AssertionError(f"found {wrong[0]!r}, expected {wanted!r}") from error


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


@dataclass(frozen=True, slots=True)
class Suite:
    """What all places share."""

    up: Deployment
    servers: Mapping[str, Echo]
    proxy: http.client.HTTPConnection

    def get(self, resource: str, name: str, namespace: str) -> Object:
        """Return an object as the API has it."""
        kind = _kind(resource)
        root = f"/apis/{kind.api_version()}" if kind.group else f"/api/{kind.api_version()}"
        scope = f"/namespaces/{namespace}" if kind.namespaced else ""
        self.proxy.request("GET", f"{root}{scope}/{kind.plural}/{name}")
        answer = self.proxy.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise AssertionError(f"{resource} {namespace}/{name}: {answer.status} {body!r}")
        found: Object = msgspec.json.decode(body)
        return found


def _identity(one: Object) -> tuple[str, str, str]:
    return (one["apiVersion"], one["kind"], one["metadata"]["name"])


def _kind(resource: str) -> Kind:
    """Return the kind that kubectl means: the newest group's, unless it is named."""
    return next(one for one in SCHEME if resource in (one.singular, f"{one.plural}.{one.group}"))


@contextmanager
def suite(folder: Path, *names: str) -> Iterator[Suite]:
    """Run a gateway with two workers, echo servers of these names, and `kubectl proxy`."""
    with (
        echoes(*names) as servers,
        deployed(folder, (), "--workers", "2") as up,
        up.kubectl.running("proxy", "--port=0") as lines,
    ):
        # Starting to serve on 127.0.0.1:PORT
        host, _, port = next(lines).split()[-1].partition(":")
        with closing(http.client.HTTPConnection(host, int(port), TIMEOUT_S)) as proxy:
            yield Suite(up, servers, proxy)


def _two_ports() -> dict[int, socket.socket]:
    return {held.getsockname()[1]: held for held in (reserve(), reserve())}


@dataclass(slots=True)
class Place:
    """One test's corner of the deployment: made with the first thing that the test applies."""

    suite: Suite
    namespace: str
    ready_made: list[Object] = field(default_factory=list)
    """Objects to begin with; what the test applies under the same name stands in for them."""
    others: list["Place"] = field(default_factory=list)
    held: dict[int, socket.socket] = field(default_factory=_two_ports)
    """Its ports, kept from other tests."""

    @property
    def port(self) -> int:
        """Where its Gateway listens."""
        return next(iter(self.held))

    @property
    def second_port(self) -> int:
        """Another port, for another Gateway or listener."""
        return list(self.held)[1]

    @property
    def servers(self) -> Mapping[str, Echo]:
        """The echo servers."""
        return self.suite.servers

    def elsewhere(self, suffix: str, *objects: Object, **labels: str) -> "Place":
        """Return another namespace of this test, made with these objects in it."""
        self._begin()
        other = Place(self.suite, f"{self.namespace}-{suffix}")
        other.apply(namespace(other.namespace, **labels), *objects)
        self.others.append(other)
        return other

    def close(self) -> None:
        """Leave nothing behind: every change compiles everything that there is."""
        for one in (self, *self.others):
            for port in one.held.values():
                port.close()
        names = [self.namespace, *(one.namespace for one in self.others)]
        self.suite.up.kubectl("delete", "namespace", *names, "--ignore-not-found", "--wait=false")

    # manifests

    def apply(self, *objects: Object) -> None:
        """Apply objects with kubectl, in this namespace where they name none."""
        items = {_identity(one): one for one in (*self.ready_made, *objects)}
        self.ready_made = []
        whole = {"apiVersion": "v1", "kind": "List", "items": list(items.values())}
        self.kubectl("apply", "-f", "-", stdin=msgspec.json.encode(whole).decode())

    def kubectl(self, *args: str, stdin: str = "") -> str:
        """Run a command that has to succeed, in this namespace."""
        self._begin()
        return self.suite.up.kubectl("-n", self.namespace, *args, stdin=stdin)

    def get(self, resource: str, name: str) -> Object:
        """Return an object as the API has it."""
        self._begin()
        return self.suite.get(resource, name, self.namespace)

    def _begin(self) -> None:
        if self.ready_made:
            self.apply()

    def delete(self, resource: str, *names: str) -> None:
        """Delete objects."""
        self.kubectl("delete", resource, *names)

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
            "spec": {"addresses": addresses},
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

    def accepted(self, name: str, gateway: str = "gw") -> str:
        """Return a route's condition `Accepted` at a Gateway; empty before there is one."""
        return self.at_parent("httproute", name, gateway).get("Accepted", "")

    def resolved(self, name: str, gateway: str = "gw") -> str:
        """Return a route's condition `ResolvedRefs` at a Gateway; empty before there is one."""
        return self.at_parent("httproute", name, gateway).get("ResolvedRefs", "")

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
    """Return the conditions at each Gateway, by its name; only what our controller says.

    Those that the specifications don't know come when they come, and are left out.
    """
    status = found.get("status", {})
    return {
        one["parentRef"]["name"]: {
            name: said for name, said in told(found, one).items() if name not in OUR_OWN
        }
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
