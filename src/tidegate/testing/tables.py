"""Routing tables and manifests as text that people read: for golden files and short tests."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final

import yaml

from tidegate.api.meta import Resource
from tidegate.api.versions import decode
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.statuses import StatusUpdate
from tidegate.routing.table import Candidate, Hosts, Listener, PathIndex, RoutingTable, Rule

GATEWAY: Final = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: tidegate.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec: {gatewayClassName: ours, listeners: [{name: http, port: 80, protocol: HTTP}]}
"""


def split(weights: Mapping[str, int]) -> str:
    """Return pools, and the route `r` on `GATEWAY` whose rule `chat` splits between them."""
    pools = "---".join(map(_pool, weights))
    refs = ", ".join(
        f"{{group: inference.networking.k8s.io, kind: InferencePool, name: {name}, weight: {n}}}"
        for name, n in weights.items()
    )
    return f"""{pools}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec: {{parentRefs: [{{name: gw}}], rules: [{{name: chat, backendRefs: [{refs}]}}]}}
"""


def _pool(name: str) -> str:
    return f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}}}
spec: {{selector: {{matchLabels: {{app: {name}}}}}, targetPorts: [{{number: 1}}]}}
"""


def resources(text: str) -> list[Resource]:
    """Return the objects of a YAML text; a missing namespace is `default`."""
    objects = [document for document in yaml.safe_load_all(text) if document]
    for one in objects:
        if one["kind"] not in ("GatewayClass", "Namespace"):
            one["metadata"].setdefault("namespace", "default")
    return [decode(one) for one in objects]


def snapshot(*texts: str) -> Snapshot:
    """Return a snapshot of the objects of YAML texts."""
    return Snapshot.of(one for text in texts for one in resources(text))


def render_table(table: RoutingTable) -> dict[str, Any]:
    """Return `table` as plain data: what is bound, what is asked in which order, the rules."""
    rules: dict[str, Rule] = {}
    ports = {
        port: {
            "protocol": served.protocol,
            "listeners": {host: _listener(one, rules) for host, one in _patterns(served.listeners)},
        }
        for port, served in table.ports.items()
    }
    return {
        "ports": ports,
        "rules": {name: _rule(rule) for name, rule in sorted(rules.items())},
        "backends": {
            one.identity: _plain(one, but=("kind", "name", "namespace", "port"))
            for one in table.backends
        },
    }


def render_statuses(statuses: Iterable[StatusUpdate]) -> dict[str, Any]:
    """Return the statuses by kind and key, each condition on one line."""
    return {f"{one.kind.__name__} {one.key}": _conditions(one.status) for one in statuses}


def _listener(listener: Listener, rules: dict[str, Rule]) -> dict[str, Any]:
    routes = {host: list(_lines(index, rules)) for host, index in _patterns(listener.routes)}
    rendered: dict[str, Any] = {"gateways": list(listener.gateways), "routes": routes}
    if listener.certificates:
        rendered["certificates"] = len(listener.certificates)
    return rendered


def _patterns(hosts: Hosts[Any]) -> Iterable[tuple[str, Any]]:
    yield from sorted(hosts.exact.items())
    yield from sorted((f"*{suffix}", value) for suffix, value in hosts.wildcard.items())
    if hosts.any is not None:
        yield "any", hosts.any


def _lines(index: PathIndex, rules: dict[str, Rule]) -> Iterable[str]:
    """Yield one line for each candidate, those that are asked first in front."""
    for path, bucket in sorted(index.exact.items()):
        yield from (_line(f"= {path}", one, rules) for one in _ordered(bucket))
    for pattern, one in index.patterns:
        yield _line(f"~ {pattern.pattern}", one, rules)
    for path, bucket in sorted(index.prefixes.items(), key=lambda pair: -len(pair[0])):
        yield from (_line(path or "/", one, rules) for one in _ordered(bucket))


def _ordered(bucket: Any) -> list[Candidate]:
    members = [*bucket.rest, *(one for some in bucket.by_value.values() for one in some)]
    return sorted(members, key=lambda one: one.rank)


def _line(path: str, candidate: Candidate, rules: dict[str, Rule]) -> str:
    rule = candidate.match.rule
    name = f"{rule.route}/{rule.name}"
    rules[name] = rule
    tests = [f"{_plain(one.name)}:{_plain(one.value)}" for one in candidate.headers]
    tests += [f"?{one.name}={_plain(one.value)}" for one in candidate.query]
    words = [path, *([candidate.method] if candidate.method else []), *tests]
    return f"{' '.join(words)} -> {name}"


def _rule(rule: Rule) -> dict[str, Any]:
    rendered: dict[str, Any] = _plain(rule, but=("route", "name", "salt", "total", "pools"))
    for arm, shown in zip(rule.arms, rendered.get("arms", ()), strict=True):
        if arm.backend is not None:
            shown["backend"] = arm.backend.identity
    return rendered


def _plain(value: Any, but: tuple[str, ...] = ()) -> Any:
    """Return `value` as YAML can have it; fields with their default are left out."""
    match value:
        case bytes():
            return value.decode()
        case re.Pattern():
            return f"~{_plain(value.pattern)}"
        case tuple() | list():
            return [_plain(one) for one in value]
        case frozenset():
            return sorted(_plain(one) for one in value)
        case Mapping():
            return {_plain(name): _plain(one) for name, one in value.items()}
    if not is_dataclass(value):
        return value
    shown = [one for one in fields(value) if one.init and one.name not in but]
    pairs = [(one, getattr(value, one.name)) for one in shown]
    return {one.name: _plain(held) for one, held in pairs if held != _default(one)}


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _conditions(value: Any) -> Any:
    """Return a status with its conditions as `Type=Status Reason gN: message`."""
    if isinstance(value, list):
        return [_conditions(one) for one in value]
    if not isinstance(value, dict):
        return value
    if {"type", "status", "reason"} <= value.keys():
        generation = f"g{value['observedGeneration']}"
        line = f"{value['type']}={value['status']} {value['reason']} {generation}"
        return f"{line}: {value['message']}" if value["message"] else line
    return {name: _conditions(one) for name, one in value.items()}
