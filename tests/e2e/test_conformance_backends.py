"""Who answers: weights, references that lead nowhere, and Services.

Each test names the upstream test whose behaviour it mirrors. Backends are InferencePools where
upstream has Services, and Services where that is the point. Left out, because endpoints are
spoken to in plain HTTP/1.1: HTTPRouteBackendProtocolH2C and HTTPRouteBackendProtocolWebSocket.
"""

import math

import pytest

from tidegate.testing.conformance import (
    Place,
    eventually,
    grant,
    named,
    prefix,
    route,
    rule,
    service,
    step,
    to,
)

ACCEPTED = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}


def near(count: int, total: int, share: float, sigmas: float = 4.5) -> bool:
    return abs(count - share * total) <= sigmas * math.sqrt(total * share * (1 - share))


def to_service(name: str, port: int | None = 80, **fields: object) -> dict:
    return {"name": name, **({} if port is None else {"port": port}), **fields}


def test_weights_are_shares_and_0_gets_nothing(place: Place):
    """HTTPRouteWeight."""
    place.apply(route("route", rule(to("a", 70), to("b", 30), to("c", 0))))
    eventually(lambda: set(place.shares(30)), {"a", "b"}, in_a_row=3)
    shares = place.shares(500)
    assert near(shares["a"], 500, 0.7)
    assert near(shares["b"], 500, 0.3)
    assert shares["c"] == 0


def test_a_weight_that_moves_to_0_gets_nothing_more(place: Place):
    place.apply(route("route", rule(to("a", 1), to("b", 0))))
    place.expect("a")
    place.apply(route("route", rule(to("a", 0), to("b", 1))))
    place.expect("b")
    before = len(place.servers["a"].seen)
    assert place.shares(100) == {"b": 100}
    assert len(place.servers["a"].seen) == before


def test_weights_of_0_everywhere_are_500(place: Place):
    place.apply(route("route", rule(to("a", 0), to("b", 0))))
    place.expect(500)


def test_filters_of_a_backend_run_only_where_it_was_chosen(place: Place):
    """HTTPRouteRequestHeaderModifierBackendWeights."""

    def tagged(name: str, weight: int) -> dict:
        edits = {"set": named(Backend=name)}
        return to(name, weight, filters=[step("RequestHeaderModifier", **edits)])

    place.apply(route("route", rule(tagged("a", 70), tagged("b", 30), tagged("c", 0))))
    eventually(lambda: set(place.shares(30)), {"a", "b"}, in_a_row=3)
    answers = [place.ask(headers={"Backend": "mine"}) for _ in range(200)]
    assert {(one.by, one.sent("backend")) for one in answers} == {("a", "a"), ("b", "b")}
    assert near([one.by for one in answers].count("a"), 200, 0.7)


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ({"group": "unknownkind.example.com", "kind": "Unknown", "name": "a"}, "InvalidKind"),
        ({"group": "", "kind": "ConfigMap", "name": "a"}, "InvalidKind"),
        (to_service("nowhere"), "BackendNotFound"),
        (to("nowhere"), "BackendNotFound"),
        (to("a", namespace="default"), "RefNotPermitted"),
        (to_service("web", namespace="nowhere"), "RefNotPermitted"),
    ],
)
def test_a_backend_that_cant_be_had_is_500_with_a_reason(place: Place, backend: dict, reason: str):
    """HTTPRouteInvalidBackendRefUnknownKind, …NonExistentBackendRef, …CrossNamespaceBackendRef."""
    place.apply(route("route", rule(backend)))
    wanted = {"Accepted": "True Accepted", "ResolvedRefs": f"False {reason}"}
    eventually(lambda: place.at_parent("httproute", "route"), wanted)
    place.expect(500)
    assert place.ask().header("x-tidegate-reason") == reason


def test_an_invalid_backend_fails_its_own_share_only(place: Place):
    place.apply(route("route", rule(to("a", 70), to("nowhere", 30))))
    eventually(lambda: set(place.shares(30)), {"a", 500}, in_a_row=3)
    shares = place.shares(300)
    assert near(shares[500], 300, 0.3)
    assert shares["a"] + shares[500] == 300


def test_rules_without_backends_are_500(place: Place):
    """HTTPRouteNoBackendRefs."""
    omitted = {"matches": [prefix("/omitted")]}
    place.apply(
        route(
            "route",
            rule(to("a"), matches=[prefix("/forward")]),
            omitted,
            rule(matches=[prefix("/empty")]),
        )
    )
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    place.expect("a", "/forward")
    place.expect(500, "/omitted")
    place.expect(500, "/empty")


@pytest.mark.parametrize("kind", ["InferencePool", "Service"])
def test_a_grant_opens_another_namespace_while_it_is_there(place: Place, kind: str):
    """HTTPRouteReferenceGrant; upstream has Services."""
    other = place.elsewhere(
        "other",
        *place.pool("web", "b"),
        service("web", selector={"app": "web"}, ports=[{"port": 80}]),
    )
    backend = to("web") if kind == "InferencePool" else to_service("web")
    place.apply(route("route", rule({**backend, "namespace": other.namespace})))
    place.expect(500)
    other.apply(grant("grant", place.namespace, kind))
    place.expect("b")
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    other.delete("referencegrant", "grant")
    place.expect(500)
    eventually(lambda: place.resolved("route"), "False RefNotPermitted")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "Gateway"},
        {"namespace": "default"},
        {"group": "example.com"},
    ],
)
def test_a_grant_for_others_opens_nothing(place: Place, wrong: dict):
    """HTTPRouteInvalidReferenceGrant."""
    other = place.elsewhere("other", *place.pool("web", "b"))
    other.apply(grant("grant", place.namespace, "InferencePool", **wrong))
    place.apply(route("route", rule(to("web", namespace=other.namespace))))
    eventually(lambda: place.resolved("route"), "False RefNotPermitted")
    place.expect(500)


def test_a_grant_for_one_backend_leaves_the_other_closed(place: Place):
    """HTTPRoutePartiallyInvalidViaInvalidReferenceGrant."""
    other = place.elsewhere("other", *place.pool("one", "a"), *place.pool("two", "b"))
    other.apply(grant("grant", place.namespace, "InferencePool", "one"))
    place.apply(
        route(
            "route",
            rule(to("two", namespace=other.namespace), matches=[prefix("/v2")]),
            rule(to("one", namespace=other.namespace)),
        )
    )
    wanted = {"Accepted": "True Accepted", "ResolvedRefs": "False RefNotPermitted"}
    eventually(lambda: place.at_parent("httproute", "route"), wanted)
    place.expect(500, "/v2")
    place.expect("a")


def test_a_grant_may_be_of_the_older_version(place: Place):
    other = place.elsewhere("other", *place.pool("web", "b"))
    old = grant("grant", place.namespace, "InferencePool")
    other.apply({**old, "apiVersion": "gateway.networking.k8s.io/v1beta1"})
    place.apply(route("route", rule(to("web", namespace=other.namespace))))
    place.expect("b")


def test_a_service_leads_to_the_model_servers_that_it_selects(place: Place):
    place.apply(
        service("web", selector={"app": "b"}, ports=[{"port": 80, "targetPort": 3000}]),
        route("route", rule(to_service("web"))),
    )
    place.expect("b")
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    place.apply(service("web", selector={"app": "c"}, ports=[{"port": 80}]))
    place.expect("c")


def test_a_port_that_the_service_lacks_is_not_found(place: Place):
    place.apply(
        service("web", selector={"app": "b"}, ports=[{"port": 80}]),
        route("route", rule(to_service("web", 81))),
    )
    place.expect(500)
    eventually(lambda: place.resolved("route"), "False BackendNotFound")


def test_a_service_that_selects_nothing_is_503(place: Place):
    place.apply(
        service("web", selector={"app": "nobody"}, ports=[{"port": 80}]),
        route("route", rule(to_service("web"))),
    )
    place.expect(503)
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)


def test_an_external_name_leads_to_that_host_and_the_backends_port(place: Place):
    host, _, port = place.servers["b"].address.partition(":")
    place.apply(
        service("outside", type="ExternalName", externalName=host),
        route("route", rule(to_service("outside", int(port)))),
    )
    place.expect("b")
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)


def test_pools_and_services_share_a_rule(place: Place):
    place.apply(
        service("web", selector={"app": "b"}, ports=[{"port": 80}]),
        route("route", rule(to("a", 1), to_service("web", weight=1))),
    )
    eventually(lambda: set(place.shares(30)), {"a", "b"}, in_a_row=3)
    assert near(place.shares(200)["a"], 200, 0.5)
