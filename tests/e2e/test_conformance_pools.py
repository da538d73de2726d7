"""InferencePools: the conformance tests of Gateway API's inference extension, by behaviour.

Left out, because they test the endpoint picker protocol (ext_proc), which Tidegate doesn't
speak since it picks by itself: GatewayFollowingEPPRouting,
GatewayFollowingEPPRoutingWithDataParallelism, GatewayDestinationEndpointServed and
EppUnAvailableFailOpen.

Two differ on purpose. InferencePoolInvalidEPPService wants a 5xx where the picker's Service
is missing; here the pool's status says the same, and requests are served. InferencePoolAppProtocol
wants HTTP/2 to the servers for `kubernetes.io/h2c`; here such a pool is answered with 500 and
the reason.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tidegate.testing.conformance import (
    GATEWAY_API,
    Place,
    at_parents,
    eventually,
    listener,
    prefix,
    route,
    rule,
    service,
    to,
)

ACCEPTED = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}
LEGACY = "inference.networking.x-k8s.io"
OLD_POOLS = f"inferencepools.{LEGACY}"


def test_a_pool_behind_an_accepted_route_is_accepted(place: Place):
    """InferencePoolAccepted; without endpointPickerRef, so InferencePoolMissingEPPRef too."""
    place.apply(route("route", rule(to("a"))))
    eventually(lambda: at_parents(place.get("inferencepool", "a")), {"gw": ACCEPTED})
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    place.expect("a")


def test_a_pools_parents_come_and_go_with_its_routes(place: Place):
    """InferencePoolResolvedRefsCondition."""
    other = place.second_port
    place.apply(
        place.gateway("second", listener(other)),
        route("one", rule(to("a"), matches=[prefix("/one")]), hostnames=["one.example.com"]),
        route(
            "two",
            rule(to("a"), matches=[prefix("/two")]),
            gateway="second",
            hostnames=["two.example.com"],
        ),
    )
    first = {"host": "one.example.com"}
    second = {"host": "two.example.com", "port": other}

    def parents() -> dict:
        return at_parents(place.get("inferencepool", "a"))

    eventually(parents, {"gw": ACCEPTED, "second": ACCEPTED})
    place.expect("a", "/one", **first)
    place.expect("a", "/two", **second)
    place.delete("httproute", "one")
    eventually(parents, {"second": ACCEPTED})
    place.expect(404, "/one", **first)
    place.expect("a", "/two", **second)
    place.delete("httproute", "two")
    eventually(parents, {})
    place.expect(404, "/two", **second)


def test_a_route_to_a_pool_that_is_missing_is_accepted_and_says_so(place: Place):
    """HTTPRouteInvalidInferencePoolRef. The pool may come later."""
    place.apply(route("route", rule(to("late"))))
    wanted = {"Accepted": "True Accepted", "ResolvedRefs": "False BackendNotFound"}
    eventually(lambda: place.at_parent("httproute", "route"), wanted)
    place.expect(500)
    place.apply(*place.pool("late", "a"))
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    place.expect("a")


def test_a_missing_picker_is_told_and_the_pool_is_served(place: Place):
    """InferencePoolInvalidEPPService, but for the 5xx (see above)."""
    picker = {"name": "nowhere", "port": {"number": 9002}}
    place.apply(*place.pool("picked", "a", endpointPickerRef=picker))
    place.apply(route("route", rule(to("picked"))))
    wanted = {"Accepted": "True Accepted", "ResolvedRefs": "False InvalidExtensionRef"}
    eventually(lambda: place.at_parent("inferencepool", "picked"), wanted)
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    place.expect("a")
    place.apply(service("nowhere", ports=[{"port": 9002}]))
    eventually(lambda: place.at_parent("inferencepool", "picked"), ACCEPTED)


def test_the_port_of_a_backend_that_is_a_pool_is_not_read(place: Place):
    """InferencePoolHTTPRoutePortValidation."""
    ports = {"/unset": {}, "/matching": {"port": 8000}, "/other": {"port": 8888}}
    rules = [rule(to("a", **port), matches=[prefix(path)]) for path, port in ports.items()]
    place.apply(route("route", *rules))
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    for path in ports:
        place.expect("a", path)


@pytest.mark.parametrize(
    ("protocol", "by"),
    [
        ({}, "a"),
        ({"appProtocol": "http"}, "a"),
        ({"appProtocol": "kubernetes.io/h2c"}, 500),
    ],
)
def test_pools_speak_http_1_1(place: Place, protocol: dict, by: str | int):
    """InferencePoolAppProtocol, but for h2c (see above)."""
    place.apply(*place.pool("spoken", "a", **protocol), route("route", rule(to("spoken"))))
    place.expect(by)
    if by == 500:
        assert place.ask().header("x-tidegate-reason") == "UnsupportedProtocol"


def test_rules_of_one_route_lead_to_pools_of_their_own(place: Place):
    """HTTPRouteMultipleRulesDifferentPools."""
    paths = {"/primary": "a", "/secondary": "b"}
    rules = [rule(to(name), matches=[prefix(path)]) for path, name in paths.items()]
    place.apply(route("route", *rules))
    for path, name in paths.items():
        place.expect(name, path)
        eventually(lambda name=name: place.at_parent("inferencepool", name), ACCEPTED)


def test_gateways_with_routes_to_different_pools_keep_apart(place: Place):
    """HTTPRouteMultipleGatewaysDifferentPools."""
    other = place.second_port
    place.apply(
        place.gateway("second", listener(other)),
        route("one", rule(to("a"), matches=[prefix("/one")])),
        route("two", rule(to("b"), matches=[prefix("/two")]), gateway="second"),
    )
    place.expect("a", "/one")
    place.expect("b", "/two", port=other)
    place.expect(404, "/two")
    place.expect(404, "/one", port=other)
    eventually(lambda: at_parents(place.get("inferencepool", "a")), {"gw": ACCEPTED})
    eventually(lambda: at_parents(place.get("inferencepool", "b")), {"second": ACCEPTED})


def test_a_split_of_two_pools_keeps_to_its_weights_and_to_their_endpoints(place: Place):
    """GatewayWeightedAcrossTwoInferencePools; 4.5 sigma of 200 requests are 0.146."""
    members = {"primary": "abc", "secondary": "def"}
    pools = [part for name, own in members.items() for part in place.pool(name, *own)]
    place.apply(*pools, route("route", rule(to("primary", 70), to("secondary", 30))))
    eventually(lambda: seen(place, 60), members, in_a_row=2)

    with ThreadPoolExecutor(5) as clients:
        answers = list(clients.map(lambda _: place.ask(method="POST", body=b"{}"), range(200)))
    chosen = [answer.header("x-tidegate-pool") for answer in answers]
    assert abs(chosen.count("primary") / 200 - 0.7) < 0.146
    for answer, name in zip(answers, chosen, strict=True):
        assert answer.by in members[name]


def seen(place: Place, count: int) -> dict[str, str]:
    """Return which servers answered for which pool."""
    found: dict[str, set[str]] = {}
    for _ in range(count):
        answer = place.ask()
        found.setdefault(answer.header("x-tidegate-pool"), set()).add(str(answer.by))
    return {name: "".join(sorted(own)) for name, own in found.items()}


def test_an_empty_pool_is_503_and_its_route_whole(place: Place):
    _, alone = place.pool("empty", "a")
    place.apply(alone, route("route", rule(to("empty"))))
    place.expect(503)
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)


def old(kind: str, name: str, **spec: object) -> dict:
    return {
        "apiVersion": f"{LEGACY}/v1alpha2",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def test_a_pool_of_the_older_group_serves(place: Place):
    """Its status is `parent`; routes may call it by either group."""
    place.apply(
        place.model_server("old", "a"),
        old(
            "InferencePool",
            "old",
            selector={"app": "old"},
            targetPortNumber=8000,
            extensionRef={"name": "picker"},
        ),
        service("picker", ports=[{"port": 9002}]),
        route(
            "route",
            rule(to("old"), matches=[prefix("/new")]),
            rule(to("old", group=LEGACY), matches=[prefix("/old")]),
        ),
    )
    place.expect("a", "/new")
    place.expect("a", "/old")
    eventually(lambda: place.at_parent(OLD_POOLS, "old"), ACCEPTED)
    status = place.get(OLD_POOLS, "old")["status"]
    assert [one["parentRef"]["name"] for one in status["parent"]] == ["gw"]
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)
    place.delete("httproute", "route")
    eventually(lambda: at_parents(place.get(OLD_POOLS, "old")), {})


def test_of_a_name_in_both_groups_the_newer_pool_serves(place: Place):
    place.apply(
        place.model_server("old", "b"),
        old("InferencePool", "a", selector={"app": "old"}, targetPortNumber=8000),
        route("route", rule(to("a"), matches=[prefix("/new")])),
    )
    place.expect("a", "/new")
    place.delete("inferencepool.inference.networking.k8s.io", "a")
    place.expect("b", "/new")


def test_an_inference_model_of_the_older_group_is_taken_and_told_about(place: Place):
    place.apply(
        old(
            "InferenceModel",
            "chat",
            modelName="chat",
            criticality="Critical",
            poolRef={"name": "late"},
            targetModels=[{"name": "chat-v1", "weight": 90}, {"name": "chat-v2", "weight": 10}],
        )
    )
    eventually(
        lambda: place.conditions("inferencemodel", "chat"), {"Accepted": "False PoolNotFound"}
    )
    place.apply(*place.pool("late", "a"))
    place.kubectl("wait", "inferencemodel/chat", "--for=condition=Accepted", "--timeout=10s")


def test_kubectl_waits_for_routes_and_pools(place: Place):
    """Conditions of parents are nested, so `--for=condition` can't see them: jsonpath can."""
    place.apply(route("route", rule(to("a"))))
    accepted = '.status.parents[0].conditions[?(@.type=="Accepted")].status'
    for resource in ("httproute/route", "inferencepool/a"):
        place.kubectl("wait", resource, f"--for=jsonpath={{{accepted}}}=True", "--timeout=10s")
    place.kubectl("wait", "gateway/gw", "--for=condition=Accepted", "--timeout=10s")
    place.kubectl("wait", "gateway/gw", "--for=condition=Programmed", "--timeout=10s")
    place.kubectl("wait", "modelserver/a", "--for=condition=Ready", "--timeout=10s")
    assert place.get("httproute", "route")["apiVersion"] == GATEWAY_API
