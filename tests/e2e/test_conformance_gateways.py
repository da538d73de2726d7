"""Gateways and listeners: statuses, TLS, who may attach, changes while running.

Each test names the upstream test whose behaviour it mirrors. Left out, because Tidegate doesn't
have the feature: ListenerSets, static addresses, client certificates, TLS towards backends, and
the kinds TLSRoute, TCPRoute, UDPRoute and GRPCRoute.
"""

import json
import socket
import ssl
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidegate.testing.certificates import certificate
from tidegate.testing.conformance import (
    GATEWAY_API,
    Place,
    allowed,
    eventually,
    listener,
    namespace,
    route,
    rule,
    to,
    told,
)

FINE = {
    "Accepted": "True Accepted",
    "Conflicted": "False NoConflicts",
    "Programmed": "True Programmed",
    "ResolvedRefs": "True ResolvedRefs",
}
PARTLY = {"Accepted": "True ListenersNotValid", "Programmed": "True Programmed"}
NONE = {"Accepted": "False ListenersNotValid", "Programmed": "False Invalid"}
HTTP_ROUTE = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]


def generation(place: Place, resource: str, name: str) -> int:
    return place.get(resource, name)["metadata"]["generation"]


def patch(place: Place, resource: str, *operations: dict) -> None:
    place.kubectl("patch", resource, "--type=json", "-p", json.dumps(operations))


# Generations.


def test_a_gateways_conditions_follow_its_generation(place: Place):
    """GatewayObservedGenerationBump."""
    programmed = {"Accepted": "True Accepted", "Programmed": "True Programmed"}
    eventually(lambda: place.conditions("gateway", "gw"), programmed)
    before = generation(place, "gateway", "gw")
    more = listener(place.port, "alternate", hostname="foo.com", allowedRoutes=allowed("All"))
    patch(place, "gateway/gw", {"op": "add", "path": "/spec/listeners/-", "value": more})
    assert generation(place, "gateway", "gw") == before + 1
    eventually(lambda: place.conditions("gateway", "gw"), programmed)
    for name in ("http", "alternate"):
        eventually(lambda name=name: place.at_listener(name), FINE)


def test_a_routes_conditions_follow_its_generation(place: Place):
    """HTTPRouteObservedGenerationBump."""
    resolved = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}
    place.apply(route("route", rule(to("a"))))
    eventually(lambda: place.at_parent("httproute", "route"), resolved)
    before = generation(place, "httproute", "route")
    path = "/spec/rules/0/backendRefs/0/name"
    patch(place, "httproute/route", {"op": "replace", "path": path, "value": "b"})
    assert generation(place, "httproute", "route") == before + 1
    eventually(lambda: place.at_parent("httproute", "route"), resolved)
    place.expect("b")


def gateway_class(name: str, controller: str = "tidegate.dev/gateway") -> dict:
    return {
        "apiVersion": GATEWAY_API,
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller},
    }


def test_a_classs_conditions_follow_its_generation(place: Place):
    """GatewayClassObservedGenerationBump."""
    own = place.namespace
    place.apply(gateway_class(own), place.gateway("gw", gatewayClassName=own))
    accepted = {"Accepted": "True Accepted"}
    eventually(lambda: place.conditions("gatewayclass", own), accepted)
    before = generation(place, "gatewayclass", own)
    patch(
        place,
        f"gatewayclass/{own}",
        {"op": "add", "path": "/spec/description", "value": "new"},
    )
    assert generation(place, "gatewayclass", own) == before + 1
    eventually(lambda: place.conditions("gatewayclass", own), accepted)
    place.apply(route("route", rule(to("a"))))
    place.expect("a")


def test_gateways_of_other_controllers_are_left_alone(place: Place):
    name = f"other-{place.namespace}"
    place.apply(
        gateway_class(name, "example.com/other"),
        place.gateway("other", listener(place.second_port), gatewayClassName=name),
        route("other", rule(to("b")), gateway="other"),
        route("route", rule(to("a"))),
    )
    place.expect("a")
    eventually(lambda: place.attached(), {"http": 1})
    for resource in (f"gatewayclass/{name}", "gateway/other", "httproute/other"):
        assert not json.loads(place.kubectl("get", resource, "-o", "json")).get("status")
    with pytest.raises(ConnectionRefusedError):
        place.ask(port=place.second_port)


# Changes.


def test_listeners_come_and_go(place: Place):
    """GatewayModifyListeners."""
    other = place.second_port
    place.apply(route("route", rule(to("a"))))
    place.expect("a")
    more = listener(other, "other")
    patch(place, "gateway/gw", {"op": "add", "path": "/spec/listeners/-", "value": more})
    place.expect("a", port=other)
    eventually(place.attached, {"http": 1, "other": 1})
    patch(place, "gateway/gw", {"op": "remove", "path": "/spec/listeners/0"})
    eventually(place.attached, {"other": 1})
    eventually(lambda: refused(place.port), True, in_a_row=5)
    place.expect("a", port=other)


def test_a_gateway_that_goes_takes_its_port_and_its_part_of_statuses(place: Place):
    place.apply(
        place.gateway("second", listener(place.second_port)),
        route("route", rule(to("a")), parentRefs=[{"name": "gw"}, {"name": "second"}]),
    )
    place.expect("a")
    place.expect("a", port=place.second_port)
    place.delete("gateway", "gw")
    eventually(lambda: refused(place.port), True, in_a_row=5)

    def parents(resource: str, name: str) -> list[str]:
        found = place.get(resource, name)["status"]["parents"]
        return [one["parentRef"]["name"] for one in found]

    for resource in (("httproute", "route"), ("inferencepool", "a")):
        eventually(lambda resource=resource: parents(*resource), ["second"])
    place.expect("a", port=place.second_port)


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


# What is wrong with a listener.


@contextmanager
def taken(place: Place):
    """Hold the place's second port as another program would."""
    place.held[place.second_port].close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.second_port))
        other.listen()
        yield


def test_a_port_that_another_program_has_is_told_and_taken_once_it_is_free(place: Place):
    with taken(place):
        place.apply(
            place.gateway("gw", listener(place.port), listener(place.second_port, "taken")),
            route("route", rule(to("a"))),
        )
        place.expect("a")
        eventually(
            lambda: place.at_listener("taken"),
            {**FINE, "Accepted": "False PortUnavailable", "Programmed": "False Invalid"},
        )
        eventually(lambda: place.at_listener("http"), FINE)
        eventually(lambda: place.conditions("gateway", "gw"), PARTLY)
    place.expect("a", port=place.second_port)
    place.kubectl("label", "gateway", "gw", "look=again")
    eventually(lambda: place.at_listener("taken"), FINE)


def test_protocols_that_share_a_port_conflict(place: Place):
    """Neither serves; the Gateway's other listeners do."""
    tls = {"certificateRefs": [{"name": "any"}]}
    place.apply(
        place.gateway(
            "gw",
            listener(place.second_port, "plain"),
            listener(place.second_port, "secure", "HTTPS", tls=tls, hostname="example.com"),
            listener(place.port),
        ),
        route("route", rule(to("a"))),
    )
    place.expect("a")
    for name in ("plain", "secure"):
        eventually(
            lambda name=name: place.at_listener(name).get("Conflicted"), "True ProtocolConflict"
        )
        assert place.at_listener(name)["Accepted"] == "False ProtocolConflict"
        assert place.at_listener(name)["Programmed"].startswith("False")
    eventually(lambda: place.conditions("gateway", "gw"), PARTLY)
    assert refused(place.second_port)


def test_an_older_gateway_keeps_its_port(place: Place):
    tls = {"certificateRefs": [{"name": "any"}]}
    place.apply(route("route", rule(to("a"))))
    place.expect("a")
    late = place.elsewhere("late")
    late.apply(late.gateway("gw", listener(place.port, "https", "HTTPS", tls=tls)))
    eventually(lambda: late.at_listener("https").get("Conflicted"), "True ProtocolConflict")
    eventually(lambda: late.conditions("gateway", "gw"), NONE)
    place.expect("a")


def test_listeners_that_nothing_tells_apart_are_refused_at_once(place: Place):
    twice = place.gateway("gw", listener(place.port), listener(place.port, "twin"))
    complaint = place.suite.up.kubectl.fails(
        "apply", "-n", place.namespace, "-f", "-", stdin=json.dumps(twice)
    )
    assert "spec.listeners" in complaint


@pytest.mark.parametrize(
    "ref",
    [
        {"name": "nowhere"},
        {"name": "malformed"},
        {"name": "nowhere", "group": "wrong.group.company.io"},
        {"name": "nowhere", "kind": "WrongKind"},
    ],
)
def test_a_certificate_that_cant_be_had_is_told(place: Place, ref: dict):
    """GatewayInvalidTLSConfiguration, and the last of GatewayWithAttachedRoutes."""
    malformed = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "malformed"},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "Hello world\n", "tls.key": "Hello world\n"},
    }
    place.apply(
        malformed,
        place.gateway("gw", listener(place.port, "https", "HTTPS", tls={"certificateRefs": [ref]})),
        route("route", rule(to("nowhere")), parentRefs=[{"name": "gw", "sectionName": "https"}]),
    )
    eventually(
        lambda: place.at_listener("https"),
        {**FINE, "ResolvedRefs": "False InvalidCertificateRef", "Programmed": "False Invalid"},
    )
    eventually(lambda: place.conditions("gateway", "gw"), NONE)
    eventually(place.attached, {"https": 1})
    eventually(lambda: place.resolved("route"), "False BackendNotFound")
    assert place.get("gateway", "gw")["status"]["listeners"][0]["supportedKinds"] == HTTP_ROUTE


@pytest.mark.parametrize("also", [False, True])
def test_kinds_of_routes_that_arent_served_are_told(place: Place, also: bool):
    """GatewayInvalidRouteKind."""
    kinds = [{"kind": "InvalidRoute"}, *([{"kind": "HTTPRoute"}] if also else [])]
    place.apply(
        place.gateway("gw", listener(place.port, allowedRoutes={"kinds": kinds})),
        route("route", rule(to("a"))),
    )
    eventually(lambda: place.at_listener("http").get("ResolvedRefs"), "False InvalidRouteKinds")
    status = place.get("gateway", "gw")["status"]["listeners"][0]
    assert status.get("supportedKinds", []) == (HTTP_ROUTE if also else [])
    if also:
        place.expect("a")
    else:
        eventually(
            lambda: place.accepted("route"),
            "False NotAllowedByListeners",
        )


def test_protocols_that_arent_served_are_told(place: Place):
    """GatewayListenerUnsupportedProtocol."""
    odd = listener(place.second_port, "invalid", "WrongProtocol")
    place.apply(place.gateway("gw", listener(place.port), odd), place.gateway("odd", odd))
    for gateway, whole in (("gw", PARTLY), ("odd", NONE)):
        eventually(lambda gateway=gateway: place.conditions("gateway", gateway), whole)
        found = place.at_listener("invalid", gateway)
        assert found["Accepted"] == "False UnsupportedProtocol"
        listeners = place.get("gateway", gateway)["status"]["listeners"]
        status = next(one for one in listeners if one["name"] == "invalid")
        assert status.get("supportedKinds", []) == []
    assert place.at_listener("http") == FINE


def test_parameters_of_a_gateway_are_told_as_invalid(place: Place):
    """GatewayInvalidParametersRef: there is no kind of parameters."""
    ref = {"group": "invalid.io", "kind": "InvalidParameters", "name": "invalid"}
    place.apply(place.gateway("gw", infrastructure={"parametersRef": ref}))
    eventually(lambda: place.conditions("gateway", "gw").get("Accepted"), "False InvalidParameters")


# Who may attach.


def test_attached_routes_are_counted(place: Place):
    """GatewayWithAttachedRoutes, GatewayWithAttachedRoutesWithPort8080."""
    me = {"matchLabels": {"kubernetes.io/metadata.name": place.namespace}}
    mine = {"kinds": [{"kind": "HTTPRoute"}], **allowed("Selector", selector=me)}
    place.apply(
        place.gateway("gw", listener(place.port, hostname="foo.example.com", allowedRoutes=mine)),
        route("one", rule(to("a"))),
        route("two", rule(to("nowhere")), hostnames=["*.example.com"]),
        route("three", rule(to("a")), hostnames=["not-accepted.test.com"]),
        place.gateway("two", listener(place.second_port, "unused"), listener(place.port, "used")),
        route("four", rule(to("a")), parentRefs=[{"name": "two", "sectionName": "used"}]),
    )
    eventually(place.attached, {"http": 2})
    eventually(lambda: place.attached("two"), {"unused": 0, "used": 1})
    eventually(
        lambda: place.accepted("three"),
        "False NoMatchingListenerHostname",
    )
    place.delete("httproute", "one", "two", "four")
    eventually(place.attached, {"http": 0})
    eventually(lambda: place.attached("two"), {"unused": 0, "used": 0})


@pytest.mark.parametrize(
    ("rules", "inside", "labelled", "outside"),
    [
        (allowed("Same"), True, False, False),
        (allowed("All"), True, True, True),
        (allowed("None"), False, False, False),
        (allowed("Selector", selector={"matchLabels": {"team": "blue"}}), False, True, False),
        (
            allowed(
                "Selector",
                selector={
                    "matchExpressions": [{"key": "team", "operator": "In", "values": ["blue"]}]
                },
            ),
            False,
            True,
            False,
        ),
    ],
)
def test_routes_attach_from_the_namespaces_that_are_allowed(
    place: Place, rules: dict, inside: bool, labelled: bool, outside: bool
):
    """HTTPRouteCrossNamespace, and the Same of nearly all upstream tests."""
    blue = place.elsewhere("blue", *place.pool("b", "b"), team="blue")
    red = place.elsewhere("red", *place.pool("c", "c"), team="red")
    place.apply(place.gateway("gw", listener(place.port, allowedRoutes=rules)))
    parents = [{"name": "gw", "namespace": place.namespace}]
    expected = [(place, "a", inside), (blue, "b", labelled), (red, "c", outside)]
    for home, pool, _ in expected:
        hosts = [f"{pool}.example.com"]
        home.apply(route("route", rule(to(pool)), hostnames=hosts, parentRefs=parents))
    for home, pool, fits in expected:
        place.expect(pool if fits else 404, host=f"{pool}.example.com")
        wanted = "True Accepted" if fits else "False NotAllowedByListeners"
        eventually(lambda home=home: home.accepted("route"), wanted)


def test_a_namespaces_new_label_lets_its_routes_in(place: Place):
    chosen = allowed("Selector", selector={"matchLabels": {"team": "blue"}})
    home = place.elsewhere("home", *place.pool("b", "b"))
    place.apply(place.gateway("gw", listener(place.port, allowedRoutes=chosen)))
    parents = [{"name": "gw", "namespace": place.namespace}]
    home.apply(route("route", rule(to("b")), parentRefs=parents))
    place.expect(404)
    home.apply(namespace(home.namespace, team="blue"))
    place.expect("b")
    home.apply(namespace(home.namespace))
    place.expect(404)


# TLS.


def make_secret(place: Place, name: str, folder: Path, *hosts: str) -> ssl.SSLContext:
    """Make a TLS secret, or renew it, as people do; return a context that trusts it."""
    chain, key = certificate(*hosts)
    (folder / "tls.crt").write_bytes(chain)
    (folder / "tls.key").write_bytes(key)
    made = place.kubectl(
        "create",
        "secret",
        "tls",
        name,
        f"--cert={folder / 'tls.crt'}",
        f"--key={folder / 'tls.key'}",
        "--dry-run=client",
        "-o",
        "yaml",
    )
    place.kubectl("apply", "-f", "-", stdin=made)
    return ssl.create_default_context(cadata=chain.decode())


def secure(place: Place, name: str = "https", **fields: object) -> dict:
    tls = {"mode": "Terminate", "certificateRefs": [{"name": "certificate"}]}
    return listener(place.port, name, "HTTPS", **{"tls": tls, **fields})


def test_https_with_a_secret_made_by_kubectl(place: Place, tmp_path: Path):
    """HTTPRouteHTTPSListener."""
    hosts = ("example.org", "second-example.org", "unknown-example.org")
    old = make_secret(place, "certificate", tmp_path, *hosts)
    place.apply(
        place.gateway("gw", secure(place)),
        route("one", rule(to("a")), hostnames=["example.org"]),
        route("two", rule(to("b")), hostnames=["second-example.org"]),
    )
    place.expect("a", host="example.org", tls=old)
    place.expect("b", host="second-example.org", tls=old)
    place.expect(404, host="unknown-example.org", tls=old)
    eventually(lambda: place.at_listener("https"), FINE)
    assert place.ask(host="example.org", tls=old).sent("x-forwarded-proto") == "https"
    new = make_secret(place, "certificate", tmp_path, *hosts)
    place.expect("a", host="example.org", tls=new)
    with pytest.raises(ssl.SSLCertVerificationError):
        place.ask(host="example.org", tls=old)


OTHERS = ("second.org", "unknown.org", "*.wildcard.org")


def test_a_connection_for_one_listener_carries_nothing_for_another(place: Place, tmp_path: Path):
    """HTTPRouteHTTPSListenerDetectMisdirectedRequests."""
    trusted = make_secret(place, "certificate", tmp_path, "first.org", *OTHERS)
    hosts = {
        "second": "second.org",
        "wildcard": "*.wildcard.org",
        "fourth": "fourth.wildcard.org",
    }
    extra = [secure(place, name, hostname=host) for name, host in hosts.items()]

    def at(section: str, backend: str, **spec: object) -> dict:
        parents = [{"name": "gw", "sectionName": section}]
        return route(section, rule(to(backend)), parentRefs=parents, **spec)

    place.apply(
        place.gateway("gw", secure(place), *extra),
        at("https", "a", hostnames=["first.org"]),
        at("second", "b"),
        at("wildcard", "c"),
        at("fourth", "a"),
    )
    cases = [
        ("first.org", "first.org", "a"),
        ("first.org", "second.org", 421),
        ("first.org", "unknown.org", 404),
        ("second.org", "second.org", "b"),
        ("second.org", "first.org", 421),
        ("second.org", "unknown.org", 421),
        ("third.wildcard.org", "third.wildcard.org", "c"),
        ("third.wildcard.org", "fifth.wildcard.org", "c"),
        ("third.wildcard.org", "fourth.wildcard.org", 421),
        ("third.wildcard.org", "unknown.org", 421),
        ("fourth.wildcard.org", "fourth.wildcard.org", "a"),
        ("fourth.wildcard.org", "fifth.wildcard.org", 421),
        ("unknown.org", "first.org", "a"),
        ("unknown.org", "unknown.org", 404),
    ]
    for sni, host, by in cases:
        place.expect(by, host=host, sni=sni, tls=trusted)


def test_a_secret_of_another_namespace_needs_a_grant(place: Place, tmp_path: Path):
    """GatewaySecretMissingReferenceGrant, …InvalidReferenceGrant, …ReferenceGrantSpecific."""
    home = place.elsewhere("home")
    trusted = make_secret(home, "certificate", tmp_path, "example.com")
    refs = [{"name": "certificate", "namespace": home.namespace}]
    place.apply(
        place.gateway("gw", secure(place, tls={"certificateRefs": refs})),
        route("route", rule(to("a"))),
    )

    def grant(secret: str) -> dict:
        return {
            "apiVersion": GATEWAY_API,
            "kind": "ReferenceGrant",
            "metadata": {"name": "grant"},
            "spec": {
                "from": [
                    {
                        "group": "gateway.networking.k8s.io",
                        "kind": "Gateway",
                        "namespace": place.namespace,
                    }
                ],
                "to": [{"group": "", "kind": "Secret", "name": secret}],
            },
        }

    closed = {**FINE, "ResolvedRefs": "False RefNotPermitted", "Programmed": "False Invalid"}
    eventually(lambda: place.at_listener("https"), closed)
    home.apply(grant("another"))
    eventually(lambda: place.at_listener("https"), closed)
    home.apply(grant("certificate"))
    eventually(lambda: place.at_listener("https"), FINE)
    place.expect("a", tls=trusted)
    home.delete("referencegrant", "grant")
    eventually(lambda: place.at_listener("https"), closed)


def test_a_filter_that_isnt_served_refuses_its_rule(place: Place):
    """HTTPRouteCORS is optional: what asks for it fails, and says so."""
    cors = {"type": "CORS", "cors": {"allowOrigins": ["https://example.com"]}}
    place.apply(route("route", rule(to("a"), filters=[cors])))
    place.expect(500)
    eventually(
        lambda: told(place.get("httproute", "route"), first_parent(place)).get("Accepted"),
        "False UnsupportedValue",
    )


def first_parent(place: Place) -> dict:
    return place.get("httproute", "route").get("status", {}).get("parents", [{}])[0]
