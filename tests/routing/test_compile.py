"""Compiling: what a request then meets, and what the statuses say."""

import base64
import datetime as dt
from collections import Counter

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tidegate.api import gateway
from tidegate.routing.compile import compile as compile_snapshot
from tidegate.routing.match import Request, match
from tidegate.routing.rules import salt, seconds
from tidegate.routing.split import choose_arm, point
from tidegate.routing.table import RoutingTable, Rule
from tidegate.testing.tables import snapshot

POOLS = "group: inference.networking.k8s.io, kind: InferencePool"
BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tidegate}
spec: {controllerName: tidegate.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tidegate, labels: {tidegate.dev/default: "true"}}
spec:
  gatewayClassName: tidegate
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
"""


def pool(name: str, picker: str = "") -> str:
    return f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  targetPorts: [{{number: 8000}}]
  {picker}
"""


def route(refs: str, generation: int = 1, extra: str = "") -> str:
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: llm, generation: {generation}}}
spec:
  parentRefs: [{{name: tidegate}}]
  rules: [{{{extra}backendRefs: [{refs}]}}]
"""


def ref(name: str, weight: int) -> str:
    return f"{{name: {name}, {POOLS}, weight: {weight}}}"


def table(*texts: str) -> RoutingTable:
    return compile_snapshot(snapshot(BASE, *texts)).table


def rule(*texts: str) -> Rule:
    found = match(table(*texts), 80, Request("a.test", "POST", "/v1/chat/completions"))
    assert found
    return found.rule


def drawn(split: Rule, count: int) -> Counter[str]:
    arms = (choose_arm(split, point(split.salt, b"user:%d" % i)) for i in range(count))
    return Counter(arm.name if arm.backend else arm.failure.reason for arm in arms)


def test_seventy_thirty_and_zero_are_the_shares_of_sessions():
    refs = ", ".join([ref("a", 70), ref("b", 30), ref("c", 0)])
    shares = drawn(rule(pool("a"), pool("b"), pool("c"), route(refs)), 5000)
    assert abs(shares["a"] / 5000 - 0.7) < 0.03
    assert abs(shares["b"] / 5000 - 0.3) < 0.03
    assert shares["c"] == 0


def test_a_broken_reference_fails_for_its_share_only():
    shares = drawn(rule(pool("a"), route(f"{ref('a', 75)}, {ref('gone', 25)}")), 5000)
    assert set(shares) == {"a", "BackendNotFound"}
    assert abs(shares["BackendNotFound"] / 5000 - 0.25) < 0.03


def test_neither_weights_nor_the_order_of_lines_change_the_draw():
    before = rule(pool("a"), pool("b"), route(f"{ref('a', 90)}, {ref('b', 10)}"))
    after = rule(pool("a"), pool("b"), route(f"{ref('b', 25)}, {ref('a', 75)}", generation=2))
    assert before.salt == after.salt
    assert [arm.name for arm in before.arms] == [arm.name for arm in after.arms] == ["a", "b"]


def test_rules_and_routes_draw_independently():
    salts = {salt("default/a", "0"), salt("default/a", "1"), salt("default/b", "0")}
    assert len(salts) == 3


def test_an_empty_pool_keeps_its_share_without_endpoints():
    split = rule(pool("a"), route(ref("a", 1)))
    assert split.arms[0].backend.endpoints == ()
    assert split.failure is None


@pytest.mark.parametrize(
    ("port", "served"), [("", True), ("port: 8000", True), ("port: 4321", True)]
)
def test_the_port_of_a_reference_to_a_pool_does_not_matter(port, served):
    split = rule(pool("a"), route(f"{{name: a, {POOLS}, {port}}}"))
    assert (split.arms[0].backend is not None) == served


MISSING = "endpointPickerRef: {name: missing, port: {number: 9002}%s}"


def test_a_pool_whose_picker_is_missing_is_served_all_the_same():
    split = rule(pool("a", MISSING % ""), route(ref("a", 1)))
    assert split.arms[0].failure is None
    assert split.arms[0].backend is not None


def test_v1_models_can_know_all_pools_of_the_route():
    split = rule(pool("a"), pool("b"), route(f"{ref('a', 1)}, {ref('b', 0)}, {ref('gone', 1)}"))
    assert [one.name for one in split.pools] == ["a", "b"]


def conditions(*texts: str, kind: type = gateway.HTTPRoute) -> dict[str, dict]:
    compiled = compile_snapshot(snapshot(BASE, *texts))
    status = next(one.status for one in compiled.statuses if one.kind is kind)
    held = status["parents"][0] if "parents" in status else status
    return {one["type"]: one for one in held["conditions"]}


def test_conditions_carry_the_generation_that_they_are_about():
    for generation in (1, 2):
        found = conditions(pool("a"), route(ref("a", 1), generation))
        assert {one["observedGeneration"] for one in found.values()} == {generation}


def test_a_route_of_somebody_elses_gateway_gets_nothing():
    foreign = route(ref("a", 1)).replace("name: tidegate", "name: other")
    compiled = compile_snapshot(snapshot(BASE, pool("a"), foreign))
    assert not [one for one in compiled.statuses if one.kind is gateway.HTTPRoute]
    assert match(compiled.table, 80, Request("a.test", "GET", "/")) is None


ALIAS = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: llm}
spec:
  parentRefs:
  - {name: mine, group: inference.networking.k8s.io, kind: InferenceGateway}
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {port: 81}}]}]
"""
MINE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: mine}
spec: {gatewayClassName: CLASS, listeners: [{name: http, port: 81, protocol: HTTP}]}
"""


@pytest.mark.parametrize(
    ("gateways", "ports"),
    [
        ([], [80]),
        ([MINE.replace("CLASS", "tidegate")], [81]),
        ([MINE.replace("CLASS", "other")], []),
    ],
    ids=["missing: the default Gateway", "ours: that Gateway", "of others: nothing"],
)
def test_an_inference_gateway_is_the_gateway_of_that_name_or_the_default(gateways, ports):
    routes = table(ALIAS, *gateways)
    request = Request("a.test", "GET", "/")
    assert [port for port in (80, 81) if match(routes, port, request)] == ports


def secret(name: str, host: str, *, other_key: bool = False) -> str:
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    built = x509.CertificateBuilder(
        subject, subject, key.public_key(), 1, begin, begin + dt.timedelta(days=1)
    )
    chain = built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    private = other if other_key else key
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    data = {"tls.crt": chain, "tls.key": pem}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "type": "kubernetes.io/tls",
            "data": {field: base64.b64encode(value).decode() for field, value in data.items()},
        }
    )


SECURE = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: secure}
spec:
  gatewayClassName: tidegate
  listeners:
  - name: a
    port: 443
    protocol: HTTPS
    hostname: a.test
    tls: {certificateRefs: [{name: a}]}
  - name: wild
    port: 443
    protocol: HTTPS
    hostname: "*.b.test"
    tls: {certificateRefs: [{name: missing}, {name: b}]}
  - name: broken
    port: 444
    protocol: HTTPS
    tls: {certificateRefs: [{name: mixed-up}]}
"""


def test_https_listeners_bring_their_certificates_by_hostname():
    mixed_up = secret("mixed-up", "c.test", other_key=True)
    compiled = compile_snapshot(
        snapshot(BASE, SECURE, secret("a", "a.test"), secret("b", "*.b.test"), mixed_up)
    )
    served = compiled.table.ports[443]
    assert served.protocol == "HTTPS"
    assert set(served.certificates) == {"a.test", "*.b.test"}
    assert all(one.chain.startswith(b"-----BEGIN") for one in served.certificates["a.test"])
    assert 444 not in compiled.table.ports
    assert "PRIVATE KEY" not in repr(compiled.table)


def test_a_certificate_that_cannot_be_used_is_said_in_the_listeners_status():
    compiled = compile_snapshot(
        snapshot(BASE, SECURE, secret("a", "a.test"), secret("b", "*.b.test"))
    )
    status = next(one.status for one in compiled.statuses if one.key.name == "secure")
    found = {
        (listener["name"], one["type"]): (one["status"], one["reason"])
        for listener in status["listeners"]
        for one in listener["conditions"]
    }
    assert found["a", "ResolvedRefs"] == ("True", "ResolvedRefs")
    assert found["wild", "ResolvedRefs"] == ("False", "InvalidCertificateRef")
    assert found["wild", "Programmed"] == ("True", "Programmed")
    assert found["broken", "Programmed"] == ("False", "Invalid")


@pytest.mark.parametrize(
    ("text", "value"),
    [("10s", 10), ("1h2m3s4ms", 3723.004), ("500ms", 0.5), ("0s", 0), ("0h0ms", 0), (None, None)],
)
def test_durations_are_seconds(text, value):
    assert seconds(text) == value
