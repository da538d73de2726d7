"""Whatever was admitted compiles, to the same result everywhere, and every request gets on.

Objects are drawn from the models' own types, with words from a small set, so that most
references lead somewhere: right, wrong, forbidden or missing. They are drawn from a seed, not
by hypothesis itself: whole snapshots are too large for its search.
"""

import re
from functools import cache
from itertools import product
from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from tidegate.api import core, gateway, inference, tidegate
from tidegate.api.meta import Resource
from tidegate.api.scheme import by_model
from tidegate.routing.compile import StatusUpdate
from tidegate.routing.compile import compile as compile_snapshot
from tidegate.routing.match import Request, match
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.split import choose_arm
from tidegate.testing.tables import render_statuses, render_table, resources

KINDS = (
    gateway.Gateway,
    gateway.Gateway,
    gateway.HTTPRoute,
    gateway.HTTPRoute,
    gateway.HTTPRoute,
    gateway.ReferenceGrant,
    inference.InferencePool,
    inference.InferencePool,
    inference.LegacyInferencePool,
    core.Service,
    core.Secret,
    core.Namespace,
    tidegate.ModelServer,
    tidegate.ModelServer,
)

WORDS: dict[str, list[Any]] = {
    "name": ["a", "b"],
    "namespace": ["default", "default", "other"],
    "gatewayClassName": ["ours", "ours", "others"],
    "controllerName": ["tidegate.dev/gateway", "example.com/other"],
    "group": [gateway.GROUP, inference.GROUP, "", "inference.networking.x-k8s.io"],
    "kind": ["Gateway", "InferencePool", "InferencePool", "Service", "InferenceGateway", "Odd"],
    "managedFields": [[]],
    "hostname": ["a.test", "b.a.test", "*.test", "*.a.test"],
    "hostnames": [[], ["a.test"], ["*.test", "b.a.test"]],
    "protocol": ["HTTP", "HTTP", "HTTPS", "TCP"],
    "port": [80, 443],
    "number": [80, 443],
    "labels": [{"app": "a"}, {"app": "b"}, {"tidegate.dev/default": "true"}],
    "matchLabels": [{"app": "a"}, {"app": "b"}],
    "selector": [{"app": "a"}, {}],
    "address": ["127.0.0.1:1", "[::1]:2"],
    "type": ["RequestHeaderModifier", "URLRewrite", "RequestRedirect", "CORS"]
    + 3 * ["RequestMirror"],
    "appProtocol": ["http", "https", "kubernetes.io/h2c", "odd"],
    "value": ["/", "/a", "/a/", "/a/b", "(", "[[a]", "a{99999999999}", "é\r\n"],
    "creationTimestamp": ["", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"],
    "generation": [0, 1, 7],
    "sectionName": ["a"],
    "state": ["Ready", "Starting"],
    "from": ["All", "Same", "Selector"],
    "weight": [0, 0, 90],
    "data": [{}, {"tls.crt": "AA==", "tls.key": "é"}],
}
"""What fields of a name may hold, where their type has it."""

ALWAYS = {"spec", "backendRefs", "matchLabels", "parentRefs", "endpoints"}

PARENTS = [(gateway.GROUP, "Gateway"), (inference.GROUP, "InferenceGateway")]
BACKENDS = [
    (inference.GROUP, "InferencePool"),
    ("inference.networking.x-k8s.io", "InferencePool"),
    ("", "Service"),
]
REFERENCES = {
    gateway.ParentReference: PARENTS,
    gateway.HTTPBackendRef: BACKENDS,
    gateway.BackendObjectReference: BACKENDS,
    gateway.SecretObjectReference: [("", "Secret")],
    gateway.ReferenceGrantTo: [*BACKENDS, ("", "Secret")],
    gateway.ReferenceGrantFrom: [(gateway.GROUP, "HTTPRoute"), (gateway.GROUP, "Gateway")],
}
"""What a reference mostly names."""

STRINGS = ["a", "b.c", "0s", "1m30s", "500ms", "99999h", "127.0.0.1:1", "/"]


def value(rng: Random, kind: inspect.Type, name: str = "") -> Any:
    """Return a JSON value of a model's type."""
    known = [word for word in WORDS.get(name, []) if fits(word, kind)]
    if known:
        return rng.choice(known)
    match kind:
        case inspect.StructType():
            return struct(rng, kind)
        case inspect.Metadata():
            return value(rng, kind.type, name)
        case inspect.UnionType():
            own = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
            return value(rng, rng.choice(own), name)
        case inspect.LiteralType():
            return rng.choice(kind.values)
        case inspect.VarTupleType():
            count = rng.choice([kind.min_length or 0, 1, 1, 2])
            return [value(rng, kind.item_type, name) for _ in range(count)]
        case inspect.IntType():
            return (kind.ge or 0) + rng.randint(0, 3)
        case inspect.FloatType():
            return rng.uniform(0.5, 5)
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.StrType():
            return rng.choice([word for word in STRINGS if fits(word, kind)])
        case _:
            return {}


def fits(word: Any, kind: inspect.Type) -> bool:
    match kind:
        case inspect.Metadata():
            return fits(word, kind.type)
        case inspect.UnionType():
            return any(fits(word, one) for one in kind.types)
        case inspect.StrType():
            return isinstance(word, str) and re.search(kind.pattern or "", word) is not None
        case inspect.IntType():
            return isinstance(word, int)
        case inspect.VarTupleType() | inspect.ListType():
            return isinstance(word, list)
        case inspect.LiteralType():
            return word in kind.values
        case inspect.DictType():
            return isinstance(word, dict) and len(word) >= (kind.min_length or 0)
        case _:
            return False


def struct(rng: Random, kind: inspect.StructType) -> dict[str, Any]:
    drawn = {
        one.encode_name: value(rng, one.type, one.encode_name)
        for one in kind.fields
        if one.required or one.encode_name in ALWAYS or rng.random() < 0.5
    }
    if kind.cls in REFERENCES and rng.random() < 0.8:
        drawn["group"], drawn["kind"] = rng.choice(REFERENCES[kind.cls])
    return drawn


type_info = cache(inspect.type_info)


def resource(rng: Random, model: type[Resource]) -> Resource:
    metadata = {name: rng.choice(WORDS[name]) for name in ("name", "namespace", "labels")}
    metadata |= {name: rng.choice(WORDS[name]) for name in ("generation", "creationTimestamp")}
    if not by_model(model).namespaced:
        metadata["namespace"] = ""
    drawn = struct(rng, type_info(model))
    return msgspec.convert({**drawn, "metadata": metadata}, model)


CLASSES = resources("""
{kind: GatewayClass, apiVersion: gateway.networking.k8s.io/v1, metadata: {name: ours},
 spec: {controllerName: tidegate.dev/gateway}}
""")


def draw(seed: int) -> list[Resource]:
    rng = Random(seed)
    drawn = [*CLASSES, *(resource(rng, rng.choice(KINDS)) for _ in range(rng.randint(0, 30)))]
    return list({(type(one), one.key): one for one in drawn}.values())


SEEDS = st.integers(0, 2**32)


@settings(max_examples=300)
@given(seed=SEEDS)
def test_every_request_gets_an_arm_a_failure_a_redirect_or_no_match(seed):
    table = compile_snapshot(Snapshot.of(draw(seed))).table
    for port, host, path in product((80, 443), ("a.test", "b.a.test", "x"), ("/", "/a/b", "/a")):
        found = match(table, port, Request(host, "GET", path))
        if found is None:
            continue
        arm = choose_arm(found.rule, Random(seed).getrandbits(64))
        assert found.rule.total == sum(one.weight for one in found.rule.arms)
        assert found.rule.failure or found.rule.filters.redirect or arm
        assert arm is None or (arm.backend is None) != (arm.failure is None)
        assert arm is None or arm.backend is None or arm.backend in table.backends


def test_the_drawn_snapshots_reach_what_they_should():
    missing = set(REACHED)
    for seed in range(6000):
        compiled = compile_snapshot(Snapshot.of(draw(seed)))
        text = str(render_table(compiled.table)) + str(render_statuses(compiled.statuses))
        missing = {word for word in missing if word not in text}
        if not missing:
            break
    assert not missing


REACHED = {
    "HTTPS", "InvalidKind", "BackendNotFound", "RefNotPermitted", "UnsupportedValue", "NoWeight",
    "NoBackends", "InvalidExtensionRef", "UnsupportedProtocol", "PartiallyInvalid", "redirect",
    "mirrors", "HostnameConflict", "ProtocolConflict", "InvalidCertificateRef", "endpoints",
    "NotAllowedByListeners", "NoMatchingListenerHostname", "NoMatchingParent", "InferenceGateway",
}  # fmt: skip


@settings(max_examples=150)
@given(seed=SEEDS)
def test_the_order_of_the_resources_does_not_matter(seed):
    drawn = draw(seed)
    shuffled = Random(seed).sample(drawn, len(drawn))
    one, other = (compile_snapshot(Snapshot.of(some)) for some in (drawn, shuffled))
    assert render_table(one.table) == render_table(other.table)
    assert render_statuses(one.statuses) == render_statuses(other.statuses)


@settings(max_examples=150)
@given(seed=SEEDS)
def test_statuses_fit_their_models_and_carry_the_generation(seed):
    snapshot = Snapshot.of(draw(seed))
    for update in compile_snapshot(snapshot).statuses:
        held = snapshot.get(update.kind, update.key)
        assert held is not None
        status = msgspec.convert(update.status, type(held.status))
        listed = [status, *getattr(status, "parents", ()), *getattr(status, "parent", ())]
        listed += getattr(status, "listeners", ())
        for part in listed:
            for one in getattr(part, "conditions", ()):
                assert one.observed_generation == held.metadata.generation
                assert one.reason
            assert getattr(part, "controller_name", None) in (None, "tidegate.dev/gateway")


@settings(max_examples=150)
@given(seed=SEEDS)
def test_statuses_are_settled_after_one_write(seed):
    snapshot = Snapshot.of(draw(seed))
    first = compile_snapshot(snapshot).statuses
    kept = [one for objects in snapshot.objects.values() for one in objects.values()]
    again = compile_snapshot(Snapshot.of([*kept, *(written(snapshot, one) for one in first)]))
    assert {(one.kind, one.key): one.status for one in again.statuses} == {
        (one.kind, one.key): one.status for one in first if not cleared(one.status)
    }


def written(snapshot: Snapshot, update: StatusUpdate) -> Resource:
    before = msgspec.to_builtins(snapshot.get(update.kind, update.key))
    return msgspec.convert({**before, "status": update.status}, update.kind)


def cleared(status: dict[str, Any]) -> bool:
    return status in ({"parents": []}, {"parent": []})
