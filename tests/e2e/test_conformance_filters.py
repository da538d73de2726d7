"""What happens to a request on its way: filters, timeouts, retries.

Each test names the upstream test whose behaviour it mirrors.
"""

import math
from itertools import count

import pytest

from tidegate.testing.conformance import (
    IN_A_ROW,
    Place,
    eventually,
    listener,
    named,
    prefix,
    route,
    rule,
    step,
    to,
)

ACCEPTED = {"Accepted": "True Accepted", "ResolvedRefs": "True ResolvedRefs"}
IDS = count()
EDITS = {
    "set": named(X_Header_Set="set-overwrites-values"),
    "add": named(X_Header_Add="header-val-1", X_Header_Add_Append="header-val-2"),
    "remove": ["X-Header-Remove"],
}
GIVEN = {
    "X-Header-Set": "set-val",
    "X-Header-Add-Append": "append-val-1",
    "X-Header-Remove": "remove-val",
}
EDITED = {
    "X-Header-Set": "set-overwrites-values",
    "X-Header-Add": "header-val-1",
    "X-Header-Add-Append": "append-val-1,header-val-2",
    "X-Header-Remove": None,
}


def on(path: str, *filters: dict, backend: str = "a", **fields: object) -> dict:
    return rule(to(backend), matches=[prefix(path)], filters=list(filters), **fields)


# Header modifiers.


@pytest.mark.parametrize("where", ["rule", "backend"])
def test_request_headers_are_set_added_and_removed(place: Place, where: str):
    """HTTPRouteRequestHeaderModifier, HTTPRouteBackendRequestHeaderModifier."""
    cases = {
        "/set": (
            {"set": named(X_Header_Set="new")},
            {"X-Header-Set": "old", "Other": "kept"},
            {"X-Header-Set": "new", "Other": "kept"},
        ),
        "/add": (
            {"add": named(X_Header_Add="more")},
            {"X-Header-Add": "some", "Other": "kept"},
            {"X-Header-Add": "some,more", "Other": "kept"},
        ),
        "/remove": (
            {"remove": ["X-Header-Remove"]},
            {"X-Header-Remove": "away", "Other": "kept"},
            {"X-Header-Remove": None, "Other": "kept"},
        ),
        "/multiple": (EDITS, GIVEN, EDITED),
        "/case-insensitivity": (
            EDITS,
            {name.lower(): value for name, value in GIVEN.items()},
            {name.upper(): value for name, value in EDITED.items()},
        ),
    }
    rules = []
    for path, (edits, _, _) in cases.items():
        filters = [step("RequestHeaderModifier", **edits)]
        backend = to("a", filters=filters) if where == "backend" else to("a")
        own = {"filters": filters} if where == "rule" else {}
        rules.append(rule(backend, matches=[prefix(path)], **own))
    place.apply(route("route", *rules))
    for path, (_, given, wanted) in cases.items():
        place.expect("a", path)
        answer = place.ask(path, headers=given)
        assert {name: answer.sent(name) for name in wanted} == wanted
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)


@pytest.mark.parametrize("where", ["rule", "backend"])
def test_headers_of_the_answer_are_set_added_and_removed(place: Place, where: str):
    """HTTPRouteResponseHeaderModifier."""
    filters = [step("ResponseHeaderModifier", **EDITS)]
    backend = to("a", filters=filters) if where == "backend" else to("a")
    place.apply(route("route", rule(backend, **({"filters": filters} if where == "rule" else {}))))
    place.expect("a")
    given = "&".join(f"answer={name.lower()}:{value}" for name, value in GIVEN.items())
    answer = place.ask(f"/?{given}&answer=other:kept")
    assert {name: answer.header(name) for name in EDITED} == EDITED
    assert answer.header("other") == "kept"


def test_request_and_answer_are_edited_by_one_rule(place: Place):
    """HTTPRouteResponseHeaderModifier, its last case."""
    both = [step("RequestHeaderModifier", **EDITS), step("ResponseHeaderModifier", **EDITS)]
    place.apply(route("route", on("/", *both)))
    place.expect("a")
    given = "&".join(f"answer={name}:{value}" for name, value in GIVEN.items())
    answer = place.ask(f"/?{given}", headers=GIVEN)
    assert {name: answer.sent(name) for name in EDITED} == EDITED
    assert {name: answer.header(name) for name in EDITED} == EDITED


# Rewrites.


def test_hosts_are_rewritten(place: Place):
    """HTTPRouteRewriteHost."""

    def host(name: str) -> dict:
        return step("URLRewrite", hostname=name)

    place.apply(
        route(
            "route",
            on("/one", host("one.example.org")),
            on("/", host("example.org"), backend="b"),
            on("/edited", host("test.example.org"), step("RequestHeaderModifier", **EDITS)),
            hostnames=["rewrite.example"],
        )
    )
    wanted = {"/one": ("a", "one.example.org"), "/two": ("b", "example.org")}
    for path, (by, name) in wanted.items():
        place.expect(by, path, host="rewrite.example")
        answer = place.ask(path, host="rewrite.example")
        assert (answer.seen["target"], answer.sent("host")) == (path, name)
    edited = place.ask("/edited", host="rewrite.example", headers=GIVEN)
    assert edited.sent("host") == "test.example.org"
    assert {name: edited.sent(name) for name in EDITED} == EDITED


def test_paths_are_rewritten(place: Place):
    """HTTPRouteRewritePath."""

    def cut(value: str) -> dict:
        return step("URLRewrite", path={"type": "ReplacePrefixMatch", "replacePrefixMatch": value})

    def full(value: str) -> dict:
        return step("URLRewrite", path={"type": "ReplaceFullPath", "replaceFullPath": value})

    edits = step("RequestHeaderModifier", **EDITS)
    place.apply(
        route(
            "route",
            on("/prefix/one", cut("/one")),
            on("/strip-prefix", cut("/")),
            on("/full/one", full("/one")),
            on("/full/edited", full("/test"), edits),
            on("/prefix/edited", cut("/prefix"), edits),
        )
    )
    wanted = {
        "/prefix/one/two": "/one/two",
        "/strip-prefix/three": "/three",
        "/strip-prefix": "/",
        "/full/one/two": "/one",
        "/prefix/one?q=1": "/one?q=1",
        "/full/edited/test": "/test",
        "/prefix/edited/one": "/prefix/one",
    }
    for path, target in wanted.items():
        place.expect("a", path)
        answer = place.ask(path, headers=GIVEN)
        assert answer.seen["target"] == target
        if "edited" in path:
            assert {name: answer.sent(name) for name in EDITED} == EDITED


# Redirects.


def redirects(place: Place, cases: dict[str, tuple[dict, int, str]], port: int = 0) -> None:
    """Expect each path to be sent elsewhere: the filter, the status and the Location."""
    for path, (_, status, location) in cases.items():
        place.expect(status, path, port=port or place.port)
        assert place.ask(path, port=port or place.port).header("location") == location, path


def redirecting(cases: dict[str, tuple[dict, int, str]], **spec: object) -> dict:
    rules = [
        {"matches": [prefix(path)], "filters": [step("RequestRedirect", **fields)]}
        for path, (fields, _, _) in cases.items()
    ]
    return route("route", *rules, **spec)


def test_redirects_change_host_port_path_scheme_and_status(place: Place):
    """HTTPRouteRedirectHostAndStatus, …Path, …Port, …Scheme, …PortAndScheme, 303, 307, 308."""
    here = f"http://example.com:{place.port}"
    cut = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/replacement-prefix"}
    full = {"type": "ReplaceFullPath", "replaceFullPath": "/replacement"}
    org = {"hostname": "example.org"}
    cases = {
        "/host": (org, 302, f"http://example.org:{place.port}/host"),
        "/host-301": ({**org, "statusCode": 301}, 301, f"http://example.org:{place.port}/host-301"),
        "/prefix": ({"path": cut}, 302, f"{here}/replacement-prefix"),
        "/full": ({"path": full}, 302, f"{here}/replacement"),
        "/full-301": ({"path": full, "statusCode": 301}, 301, f"{here}/replacement"),
        "/port": ({"port": 8083}, 302, "http://example.com:8083/port"),
        "/port-host": ({"port": 8083, **org}, 302, "http://example.org:8083/port-host"),
        "/port-80": ({"port": 80}, 302, "http://example.com/port-80"),
        "/https": ({"scheme": "https"}, 302, "https://example.com/https"),
        "/https-443": ({"scheme": "https", "port": 443}, 302, "https://example.com/https-443"),
        "/https-8443": (
            {"scheme": "https", "port": 8443},
            302,
            "https://example.com:8443/https-8443",
        ),
        **{
            f"/status-{code}": ({"statusCode": code}, code, f"{here}/status-{code}")
            for code in (303, 307, 308)
        },
    }
    for chunk in (list(cases)[:8], list(cases)[8:]):  # a route has at most 16 rules
        some = {path: cases[path] for path in chunk}
        place.apply(redirecting(some))
        redirects(place, some)
    moved = place.ask("/https/deep?q=1")
    assert moved.header("location") == "https://example.com/https/deep?q=1"
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)


def test_filters_of_a_backend_rewrite_and_redirect(place: Place):
    """HTTPRouteBackendURLRewrite, HTTPRouteBackendRequestRedirect."""
    full = {"type": "ReplaceFullPath", "replaceFullPath": "/full"}
    cut = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/cut"}
    steps = {
        "/rewrite-full": step("URLRewrite", path=full),
        "/rewrite-cut": step("URLRewrite", path=cut),
        "/redirect-full": step("RequestRedirect", path=full),
        "/redirect-cut": step("RequestRedirect", path=cut, statusCode=308),
    }
    rules = [rule(to("a", filters=[one]), matches=[prefix(path)]) for path, one in steps.items()]
    place.apply(route("route", *rules))
    place.expect("a", "/rewrite-full/x")
    assert place.ask("/rewrite-full/x").seen["target"] == "/full"
    place.expect("a", "/rewrite-cut/x")
    assert place.ask("/rewrite-cut/x").seen["target"] == "/cut/x"
    here = f"http://example.com:{place.port}"
    redirects(
        place,
        {
            "/redirect-full/x": ({}, 302, f"{here}/full"),
            "/redirect-cut/x": ({}, 308, f"{here}/cut/x"),
        },
    )
    eventually(lambda: place.at_parent("httproute", "route"), ACCEPTED)


# Mirrors.


def mirror_to(name: str, **share: object) -> dict:
    return step("RequestMirror", backendRef=to(name), **share)


def got(place: Place, name: str, path: str) -> int:
    """Return how many requests for a path a server got."""
    return len([one for one in place.servers[name].seen if one.target.startswith(path)])


@pytest.mark.parametrize("copies", [("b",), ("b", "c")])
def test_mirrors_get_a_copy_and_the_client_gets_the_first_answer(
    place: Place, copies: tuple[str, ...]
):
    """HTTPRouteRequestMirror, HTTPRouteRequestMultipleMirrors."""
    path = f"/{place.namespace}/mirror"
    mirrors = [mirror_to(name) for name in copies]
    straight = [on(f"/{name}", backend=name) for name in copies]
    edits = step("RequestHeaderModifier", **EDITS)
    place.apply(route("route", on(path, edits, *mirrors), *straight))
    place.expect("a", path)
    for name in copies:
        place.expect(name, f"/{name}")  # a server that isn't ready yet gets no copies
    once = f"{path}/once"
    answer = place.ask(once, method="POST", body=b'{"model":"m"}', headers=GIVEN)
    assert answer.by == "a"
    for name in copies:
        eventually(lambda name=name: got(place, name, once), 1)
        copy = next(one for one in place.servers[name].seen if one.target == once)
        assert (copy.method, copy.body) == ("POST", b'{"model":"m"}')
        assert copy.header("x-header-set") == EDITED["X-Header-Set"]
        assert copy.header("x-header-remove") is None


@pytest.mark.parametrize(
    ("fields", "share"),
    [
        ({"percent": 20}, 0.2),
        ({"fraction": {"numerator": 1, "denominator": 2}}, 0.5),
        ({"percent": 0}, 0.0),
    ],
)
def test_mirrors_get_their_share(place: Place, fields: dict, share: float):
    """HTTPRouteRequestPercentageMirror: 500 requests."""
    path, all_ = f"/{place.namespace}/share", f"/{place.namespace}/all"
    some, every = on(path, mirror_to("b", **fields)), on(all_, mirror_to("b"))
    place.apply(route("route", some, every, on("/b", backend="b")))
    for by, target in (("a", path), ("a", all_), ("b", "/b")):
        place.expect(by, target)
    counted, end = f"{path}/counted", f"{all_}/end"
    assert place.shares(500, counted) == {"a": 500}
    # Each worker has sent the copies of what it served before those of what it serves now.
    assert place.shares(IN_A_ROW, end) == {"a": IN_A_ROW}
    eventually(lambda: got(place, "b", end), IN_A_ROW)
    margin = 4.5 * math.sqrt(500 * share * (1 - share))
    eventually(lambda: abs(got(place, "b", counted) - 500 * share) <= margin, True)


# Timeouts.


@pytest.mark.parametrize("field", ["request", "backendRequest"])
def test_a_timeout_is_504_and_0s_is_none(place: Place, field: str):
    """HTTPRouteTimeoutRequest, HTTPRouteTimeoutBackendRequest."""
    place.apply(
        route(
            "route",
            on("/timeout", timeouts={field: "200ms"}),
            on("/none", timeouts={field: "0s"}),
        )
    )
    place.expect("a", "/timeout")
    place.expect("a", "/none")
    assert place.ask("/timeout?delay=1").status == 504
    assert place.ask("/none?delay=0.4").status == 200


# Retries.


def failing(path: str, fail: int, status: int | str, stall: float = 0) -> str:
    """Return the target of a request whose first `fail` tries fail."""
    return f"{path}?id=try-{next(IDS)}&fail={fail}&status={status}&stall={stall}"


CODES = [500, 502, 503, 504]


def test_answers_with_the_routes_codes_are_tried_again(place: Place):
    """HTTPRouteRetry."""
    place.apply(
        route(
            "route",
            on("/code-500-attempts-3", retry={"codes": [500], "attempts": 3}),
            on("/code-all-attempts-2", retry={"codes": CODES, "attempts": 2}),
        )
    )
    three, two = "/code-500-attempts-3", "/code-all-attempts-2"
    place.expect("a", three)
    place.expect("a", two)
    eventually(lambda: place.ask(failing(three, 2, 500)).status, 200)
    assert place.ask(failing(three, 4, 500)).status == 500
    assert place.ask(failing(three, 1, 503)).status == 503
    for code in CODES:
        eventually(lambda code=code: place.ask(failing(two, 1, code)).status, 200)
        assert place.ask(failing(two, 3, code)).status == code


def test_broken_connections_are_tried_again(place: Place):
    """HTTPRouteRetryConnectionError."""
    path = "/no-status-code-attempts-3"
    place.apply(route("route", on(path, retry={"attempts": 3})))
    place.expect("a", path)
    eventually(lambda: place.ask(failing(path, 2, "reset")).status, 200)
    assert place.ask(failing(path, 4, "reset")).status in (500, 503)


def test_timeouts_bound_the_tries(place: Place):
    """HTTPRouteRetryWithTimeouts."""
    one = {"timeouts": {"backendRequest": "200ms"}, "retry": {"attempts": 2}}
    all_ = {
        "timeouts": {"backendRequest": "200ms", "request": "400ms"},
        "retry": {"codes": [500], "attempts": 5},
    }
    place.apply(route("route", on("/one", **one), on("/all", **all_)))
    place.expect("a", "/one")
    place.expect("a", "/all")
    eventually(lambda: place.ask(failing("/one", 2, 500, stall=0.3)).status, 200)
    assert place.ask(failing("/one", 3, 500, stall=0.3)).status == 504
    eventually(lambda: place.ask(failing("/all", 1, 500)).status, 200)
    assert place.ask(failing("/all", 4, 500, stall=0.15)).status == 504


def test_filters_and_ports_of_a_second_listener_are_its_own(place: Place):
    """HTTPRouteRedirectPortAndScheme: the port of the listener that was asked is kept."""
    other = place.second_port
    place.apply(
        place.gateway("gw", listener(place.port), listener(other, "other")),
        redirecting({"/": ({"hostname": "example.org"}, 302, "")}),
    )
    for port in (place.port, other):
        redirects(place, {"/x": ({}, 302, f"http://example.org:{port}/x")}, port)
