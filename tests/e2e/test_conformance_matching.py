"""Which rule a request meets: the matching suites of Gateway API's conformance tests.

Each test names the upstream test whose behaviour it mirrors; all of them apply.
"""

from tidegate.testing.conformance import (
    Place,
    allowed,
    eventually,
    exact,
    listener,
    named,
    prefix,
    route,
    rule,
    to,
)

ACCEPTED = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}


def match(place: Place, *cases: tuple[str | int, dict]) -> None:
    """Expect each case: who answers, and the request."""
    for by, request in cases:
        place.expect(by, **request)


def ask(target: str = "/", method: str = "GET", host: str = "example.com", **headers: str) -> dict:
    return {"target": target, "method": method, "host": host, "headers": headers}


def test_path_and_header_matches_of_one_route(place: Place):
    """HTTPRouteMatching, HTTPRouteSimpleSameNamespace."""
    place.apply(
        route(
            "route",
            rule(to("a"), matches=[prefix("/"), {"headers": named(version="one")}]),
            rule(to("b"), matches=[prefix("/v2"), {"headers": named(version="two")}]),
        )
    )
    match(
        place,
        ("a", ask()),
        ("a", ask("/example")),
        ("a", ask(version="one")),
        ("b", ask("/v2")),
        ("b", ask("/v2/example")),
        ("b", ask(Version="two")),
        ("b", ask("/v2/")),
        ("a", ask("/v2example")),
        ("a", ask("/foo/v2/example")),
    )
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)


def test_matches_of_two_routes_are_one_order(place: Place):
    """HTTPRouteMatchingAcrossRoutes."""
    one = rule(to("a"), matches=[prefix("/"), {"headers": named(version="one")}])
    two = rule(to("b"), matches=[prefix("/v2"), {"headers": named(version="two")}])
    place.apply(
        route("one", one, hostnames=["example.com", "example.net"]),
        route("two", two, hostnames=["example.com"]),
    )
    match(
        place,
        ("a", ask()),
        ("a", ask("/example")),
        ("a", ask("/example", host="example.net")),
        ("a", ask("/example", version="one")),
        ("b", ask("/v2")),
        ("a", ask("/v2", host="example.net")),
        ("b", ask("/v2/example")),
        ("b", ask(version="two")),
        (404, ask(host="example.org")),
    )


def test_of_equal_matches_the_older_route_wins_then_the_first_by_name(place: Place):
    """The end of the order: no upstream test has it."""
    place.apply(route("z", rule(to("a"))))

    def of_the_right_ages() -> bool:
        """Ages are whole seconds: `b` and `a` are to be of one, and later than `z`."""
        place.kubectl("delete", "httproute", "a", "b", "--ignore-not-found")
        place.apply(route("b", rule(to("b"))), route("a", rule(to("c"))))
        born = [place.get("httproute", name)["metadata"]["creationTimestamp"] for name in "zba"]
        return born[0] < born[1] == born[2]

    eventually(of_the_right_ages, True)
    place.expect("a")
    place.delete("httproute", "z")
    place.expect("c")
    place.delete("httproute", "a")
    place.expect("b")


def test_exact_paths_beat_prefixes_and_longer_prefixes_shorter_ones(place: Place):
    """HTTPRoutePathMatchOrder."""
    order = {
        exact: {"/match": "a", "/match/exact": "b", "/match/exact/one": "c"},
        prefix: {"/match/": "c", "/match/prefix/": "a", "/match/prefix/one": "b"},
    }
    place.apply(
        route(
            "route",
            *(
                rule(to(by), matches=[kind(path)])
                for kind, paths in order.items()
                for path, by in paths.items()
            ),
        )
    )
    match(
        place,
        ("c", ask("/match/exact/one")),
        ("b", ask("/match/exact")),
        ("a", ask("/match")),
        ("b", ask("/match/prefix/one/any")),
        ("a", ask("/match/prefix/any")),
        ("c", ask("/match/any")),
    )


def test_exact_paths_match_nothing_else(place: Place):
    """HTTPRouteExactPathMatching."""
    one = rule(to("a"), matches=[exact("/one")])
    two = rule(to("b"), matches=[exact("/two")])
    place.apply(route("route", one, two))
    match(
        place,
        ("a", ask("/one")),
        ("b", ask("/two")),
        *((404, ask(path)) for path in ("/", "/one/example", "/two/", "/Two")),
    )


def test_header_matches_are_anded_in_a_match_and_ored_between(place: Place):
    """HTTPRouteHeaderMatching."""

    def by(server: str, *choices: dict[str, str]) -> dict:
        return rule(to(server), matches=[{"headers": named(**one)} for one in choices])

    place.apply(
        route(
            "route",
            by("a", {"version": "one"}),
            by("b", {"version": "two"}),
            by("a", {"version": "two", "color": "orange"}),
            by("a", {"color": "blue"}, {"color": "green"}),
            by("b", {"color": "red"}, {"color": "yellow"}),
        )
    )
    match(
        place,
        ("a", ask(Version="one")),
        ("b", ask(Version="two")),
        ("a", ask(Version="two", Color="orange")),
        ("b", ask(Version="two", Color="blue")),
        (404, ask(Color="orange")),
        (404, ask(Other="one")),
        ("a", ask(Color="blue")),
        ("a", ask(Color="green")),
        ("b", ask(Color="red")),
        ("b", ask(Color="yellow")),
        (404, ask(Color="purple")),
    )


def test_method_matches(place: Place):
    """HTTPRouteMethodMatching."""

    def on(server: str, *matches: dict) -> dict:
        return rule(to(server), matches=list(matches))

    def headers(version: str) -> list[dict]:
        return named(version=version)

    place.apply(
        route(
            "route",
            on("a", {"method": "POST"}),
            on("b", {"method": "GET"}),
            on("a", prefix("/path1", method="GET")),
            on("b", {"headers": headers("one"), "method": "PUT"}),
            on("c", prefix("/path2", headers=headers("two"), method="POST")),
            on(
                "a",
                prefix("/path3", method="PATCH"),
                prefix("/path4", headers=headers("three"), method="DELETE"),
            ),
            on("a", prefix("/path5")),
            on("b", {"method": "PATCH"}),
            on("c", {"headers": headers("four")}),
        )
    )
    match(
        place,
        ("a", ask(method="POST")),
        ("b", ask(method="GET")),
        (404, ask(method="HEAD")),
        ("a", ask("/path1", "GET")),
        ("b", ask("/", "PUT", version="one")),
        ("c", ask("/path2", "POST", version="two")),
        ("a", ask("/path3", "PATCH")),
        ("a", ask("/path4", "DELETE", version="three")),
        (404, ask("/", "PUT")),
        (404, ask("/path4", "DELETE")),
        ("a", ask("/path5", "PATCH")),
        ("b", ask("/", "PATCH", version="four")),
    )


def test_query_parameter_matches(place: Place):
    """HTTPRouteQueryParamMatching."""

    def on(server: str, *matches: dict) -> dict:
        return rule(to(server), matches=list(matches))

    def asks(**values: str) -> dict:
        return {"queryParams": named(**values)}

    place.apply(
        route(
            "route",
            on("a", asks(animal="whale")),
            on("b", asks(animal="dolphin")),
            on("c", asks(animal="dolphin", color="blue"), asks(ANIMAL="Whale")),
            on("a", prefix("/path1", **asks(animal="whale"))),
            on("b", {"headers": named(version="one"), **asks(animal="whale")}),
            on("c", prefix("/path2", headers=named(version="two"), **asks(animal="whale"))),
            on(
                "a",
                prefix("/path3", **asks(animal="shark")),
                prefix("/path4", headers=named(version="three"), **asks(animal="kraken")),
            ),
            on("a", prefix("/path5")),
            on("b", asks(animal="hydra")),
            on("c", {"headers": named(version="four")}),
        )
    )
    match(
        place,
        ("a", ask("/?animal=whale")),
        ("b", ask("/?animal=dolphin")),
        ("c", ask("/?animal=dolphin&color=blue")),
        ("c", ask("/?ANIMAL=Whale")),
        ("a", ask("/?animal=whale&otherparam=irrelevant")),
        ("b", ask("/?animal=dolphin&color=yellow")),
        (404, ask("/?color=blue")),
        (404, ask("/?animal=dog")),
        (404, ask("/?animal=whaledolphin")),
        (404, ask("/")),
        ("a", ask("/path1?animal=whale")),
        ("b", ask("/?animal=whale", version="one")),
        ("c", ask("/path2?animal=whale", version="two")),
        ("a", ask("/path3?animal=shark")),
        ("a", ask("/path4?animal=kraken", version="three")),
        (404, ask("/?animal=shark")),
        (404, ask("/path4?animal=kraken")),
        ("a", ask("/path5?animal=hydra")),
        ("c", ask("/?animal=hydra", version="four")),
    )


def test_rules_with_and_without_a_name_serve_alike(place: Place):
    """HTTPRouteNamedRule."""
    place.apply(
        route(
            "route",
            rule(to("a"), name="named-rule", matches=[prefix("/named")]),
            rule(to("b"), matches=[prefix("/unnamed")]),
        )
    )
    match(place, ("a", ask("/named")), ("b", ask("/unnamed")), (404, ask("/")))


def on_path(path: str, server: str) -> dict:
    return rule(to(server), matches=[prefix(path)])


def test_only_hosts_that_listener_and_route_both_have_are_served(place: Place):
    """HTTPRouteHostnameIntersection."""
    hosts = {"1": "very.specific.com", "2": "*.wildcard.io", "3": "*.anotherwildcard.io"}
    place.apply(
        place.gateway(
            "gw",
            *(listener(place.port, f"listener-{n}", hostname=host) for n, host in hosts.items()),
        ),
        route(
            "specific-to-specific",
            on_path("/s1", "a"),
            hostnames=["non.matching.com", "*.nonmatchingwildcard.io", "very.specific.com"],
        ),
        route(
            "specific-to-wildcard",
            on_path("/s2", "b"),
            hostnames=[
                "non.matching.com",
                "wildcard.io",
                "foo.wildcard.io",
                "bar.wildcard.io",
                "foo.bar.wildcard.io",
            ],
        ),
        route(
            "wildcard-to-specific",
            on_path("/s3", "c"),
            hostnames=["non.matching.com", "*.specific.com"],
        ),
        route("wildcard-to-wildcard", on_path("/s4", "a"), hostnames=["*.anotherwildcard.io"]),
        route(
            "none",
            on_path("/s5", "b"),
            hostnames=["specific.but.wrong.com", "wildcard.io"],
        ),
    )
    served = {
        "/s1": ("a", ["very.specific.com", "very.specific.com:1234"]),
        "/s2": ("b", ["foo.wildcard.io", "bar.wildcard.io", "foo.bar.wildcard.io"]),
        "/s3": ("c", ["very.specific.com"]),
        "/s4": ("a", [f"{sub}.anotherwildcard.io" for sub in ("foo", "bar", "foo.bar")]),
    }
    refused = {
        "/s1": ["non.matching.com", "foo.nonmatchingwildcard.io", "foo.wildcard.io"],
        "/s2": ["non.matching.com", "wildcard.io", "very.specific.com"],
        "/s3": ["non.matching.com", "foo.specific.com", "foo.wildcard.io"],
        "/s4": ["anotherwildcard.io", "foo.wildcard.io", "very.specific.com"],
        "/s5": ["specific.but.wrong.com", "wildcard.io"],
        "/elsewhere": ["very.specific.com", "foo.wildcard.io", "foo.anotherwildcard.io"],
    }
    for path, (by, names) in served.items():
        match(place, *((by, ask(path, host=name)) for name in names))
    for path, names in refused.items():
        match(place, *((404, ask(path, host=name)) for name in names))
    eventually(
        lambda: place.accepted("none"),
        "False NoMatchingListenerHostname",
    )
    eventually(place.attached, {"listener-1": 2, "listener-2": 1, "listener-3": 1})


def test_the_listener_with_the_most_specific_hostname_takes_the_request(place: Place):
    """HTTPRouteListenerHostnameMatching, GatewayHTTPListenerIsolation."""
    hosts = {"1": "bar.com", "2": "foo.bar.com", "3": "*.bar.com", "4": "*.foo.com"}

    def parents(*sections: str) -> list[dict]:
        return [{"name": "gw", "sectionName": f"listener-{one}"} for one in sections]

    place.apply(
        place.gateway(
            "gw",
            *(listener(place.port, f"listener-{n}", hostname=host) for n, host in hosts.items()),
        ),
        route("a", rule(to("a")), parentRefs=parents("1")),
        route("b", rule(to("b")), parentRefs=parents("2")),
        route("c", rule(to("c")), parentRefs=parents("3", "4")),
    )
    match(
        place,
        ("a", ask(host="bar.com")),
        ("b", ask(host="foo.bar.com")),
        ("c", ask(host="baz.bar.com")),
        ("c", ask(host="boo.bar.com")),
        ("c", ask(host="multi.prefix.bar.com")),
        ("c", ask(host="multi.prefix.foo.com")),
        (404, ask(host="foo.com")),
        (404, ask(host="no.matching.host")),
    )


def test_a_parents_port_and_section_choose_the_listeners(place: Place):
    """HTTPRouteListenerPortMatching; HTTPRouteInvalidParentRef…: SectionName and Port."""
    place.apply(
        place.gateway("gw", listener(place.port, "one"), listener(place.second_port, "two")),
        route("one", rule(to("a")), parentRefs=[{"name": "gw", "port": place.port}]),
        route("two", rule(to("b")), parentRefs=[{"name": "gw", "sectionName": "two"}]),
        route("section", rule(to("c")), parentRefs=[{"name": "gw", "sectionName": "three"}]),
        route("port", rule(to("c")), parentRefs=[{"name": "gw", "port": 1}]),
        route(
            "both",
            rule(to("c")),
            parentRefs=[{"name": "gw", "sectionName": "one", "port": place.second_port}],
        ),
    )
    place.expect("a")
    place.expect("b", port=place.second_port)
    for name in ("section", "port", "both"):
        eventually(
            lambda name=name: place.accepted(name),
            "False NoMatchingParent",
        )
    eventually(place.attached, {"one": 1, "two": 1})


def test_routes_of_another_namespace_attach_only_where_it_is_allowed(place: Place):
    """HTTPRouteCrossNamespace, HTTPRouteInvalidCrossNamespaceParentRef."""
    home = place.elsewhere("home", *place.pool("a", "a"))
    parents = [{"name": "gw", "namespace": place.namespace}]
    home.apply(route("route", rule(to("a")), parentRefs=parents))
    eventually(lambda: home.accepted("route"), "False NotAllowedByListeners")
    place.expect(404)
    place.apply(place.gateway("gw", listener(place.port, allowedRoutes=allowed("All"))))
    place.expect("a")
    eventually(lambda: home.at_parent("httproute", "route"), ACCEPTED)
