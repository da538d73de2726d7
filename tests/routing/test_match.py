"""Matching: Gateway API's precedence, and the index against a plainly right search."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.routing.index import (
    Entry,
    PathTest,
    index_hosts,
    index_paths,
    index_port,
    index_routes,
)
from tidegate.routing.match import Request, listener_for, match, misdirected
from tidegate.routing.table import (
    HeaderTest,
    Hosts,
    Listener,
    Match,
    PathIndex,
    QueryTest,
    RoutingTable,
    Rule,
)

PORT = 8080
Routed = tuple[str, Entry]


def rule(name: str) -> Rule:
    return Rule("default/route", name, (), 0, b"")


def entry(name: str, path: str = "/", kind: str = "prefix", age: int = 0, **conditions) -> Entry:
    return Entry(rule(name), ("", "", age, 0), PathTest(kind, path), **conditions)


def table(*entries: Entry | Routed) -> RoutingTable:
    routed = [one if isinstance(one, tuple) else ("", one) for one in entries]
    return serve({"": index_routes(routed)})


def serve(listeners: dict[str, Hosts[PathIndex]]) -> RoutingTable:
    served = [
        Listener(PORT, "HTTP", host, (host,), routes=routes) for host, routes in listeners.items()
    ]
    return RoutingTable({PORT: index_port(served)})


def ask(routes: RoutingTable, path: str = "/", method: str = "GET", host: str = "a.test", **rest):
    found = match(routes, PORT, Request(host, method, path, **rest))
    return found.rule.name if found else None


PATHS = table(
    entry("root"),
    entry("exact", "/v1/models", "exact"),
    entry("v1", "/v1"),
    entry("chat", "/v1/chat/"),
    entry("pattern", "/v1/(embeddings|rerank)", "regex"),
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "root"),
        ("/v1", "v1"),
        ("/v1/", "v1"),
        ("/v1x", "root"),
        ("/v1/models", "exact"),
        ("/v1/models/", "v1"),
        ("/v1/chat", "chat"),
        ("/v1/chat/completions", "chat"),
        ("/v1/chatter", "v1"),
        ("/v1/rerank", "pattern"),
        ("/v1/rerank/", "v1"),
        ("/V1", "root"),
        ("//v1", "root"),
    ],
)
def test_exact_path_then_pattern_then_the_longest_prefix_by_segments(path, name):
    assert ask(PATHS, path) == name


def test_a_less_specific_path_serves_when_the_conditions_of_the_better_one_fail():
    routes = table(entry("root"), entry("posts", "/v1", method="POST"))
    assert ask(routes, "/v1/chat", "POST") == "posts"
    assert ask(routes, "/v1/chat", "GET") == "root"


def test_no_route_means_no_match():
    assert ask(table(entry("v1", "/v1")), "/v2") is None
    assert ask(RoutingTable()) is None
    assert ask(PATHS, "*", "OPTIONS") is None
    assert ask(table(entry("root")), "*", "OPTIONS") is None


def header(name: str, value: str) -> HeaderTest:
    return HeaderTest(name.encode(), value.encode())


def test_method_beats_headers_and_headers_beat_query_parameters():
    one, two = header("one", "1"), header("two", "2")
    query = QueryTest("q", "1")
    routes = table(
        entry("plain"),
        entry("query", query=(query,)),
        entry("header", headers=(one,)),
        entry("header and query", headers=(one,), query=(query,)),
        entry("two headers", headers=(one, two)),
        entry("method", method="POST"),
    )
    first, second = (b"one", b"1"), (b"two", b"2")
    assert ask(routes) == "plain"
    assert ask(routes, query="q=1") == "query"
    assert ask(routes, query="q=1", headers=[first]) == "header and query"
    assert ask(routes, headers=[first]) == "header"
    assert ask(routes, query="q=1", headers=[first, second]) == "two headers"
    assert ask(routes, "/", "POST", query="q=1", headers=[first, second]) == "method"


def test_of_equal_matches_the_oldest_route_wins_then_its_name_then_the_first_rule():
    ages = [
        ("2024-01-02", "a/a", 0, 0),
        ("2024-01-01", "b/b", 1, 0),
        ("2024-01-01", "b/b", 0, 1),
        ("2024-01-01", "b/a", 3, 0),
    ]
    entries = [Entry(rule(str(age)), age) for age in ages]
    while entries:
        oldest = min(entries, key=lambda one: one.age)
        assert ask(table(*entries)) == oldest.rule.name
        entries.remove(oldest)


def test_repeated_headers_are_joined_and_patterns_match_the_whole_value():
    routes = table(
        entry("list", headers=(header("accept", "a, b"),)),
        entry("pattern", headers=(HeaderTest(b"tenant", re.compile(rb"t[0-9]+")),)),
    )
    assert ask(routes, headers=[(b"accept", b"a"), (b"accept", b"b")]) == "list"
    assert ask(routes, headers=[(b"tenant", b"t12")]) == "pattern"
    assert ask(routes, headers=[(b"tenant", b"t12x")]) is None
    assert ask(routes) is None


def test_the_first_value_of_a_query_parameter_counts_percent_decoded():
    routes = table(
        entry("exact", query=(QueryTest("a b", "c/d"),)),
        entry("pattern", query=(QueryTest("n", re.compile("[0-9]+")),)),
    )
    assert ask(routes, query="a%20b=c%2Fd&a%20b=other") == "exact"
    assert ask(routes, query="a+b=other&a+b=c/d") is None
    assert ask(routes, query="n=12") == "pattern"
    assert ask(routes, query="n=12x") is None
    assert ask(routes, query="n=&n=1") is None


def test_the_model_header_is_the_bodys_model_and_never_the_clients_header():
    routes = table(entry("llama", headers=(header("x-gateway-model-name", "llama"),)))
    assert ask(routes, model="llama") == "llama"
    assert ask(routes, model="other", headers=[(b"x-gateway-model-name", b"llama")]) is None
    assert ask(routes, headers=[(b"x-gateway-model-name", b"llama")]) is None


def test_many_models_on_one_path_are_found_by_their_name():
    models = [
        entry(f"m{i}", headers=(header("x-gateway-model-name", f"m{i}"),)) for i in range(300)
    ]
    routes = table(*models, entry("other"))
    bucket = routes.ports[PORT].listeners.any.routes.any.prefixes[""]
    assert ask(routes, model="m217") == "m217"
    assert ask(routes, model="unknown") == "other"
    assert len(bucket.rest) == 1


def test_the_most_specific_hostname_of_routes_wins_and_the_others_help_out():
    routes = table(
        ("", entry("any")),
        ("*.com", entry("com")),
        ("*.example.com", entry("wild")),
        ("www.example.com", entry("exact", "/only")),
    )
    assert ask(routes, "/only", host="www.example.com") == "exact"
    assert ask(routes, "/else", host="www.example.com") == "wild"
    assert ask(routes, host="a.b.example.com") == "wild"
    assert ask(routes, host="example.com") == "com"
    assert ask(routes, host="com") == "any"
    assert ask(routes, host="") == "any"


def test_the_most_specific_listener_decides_alone():
    routes = serve(
        {
            "": index_routes([("", entry("any"))]),
            "*.example.com": index_routes([("", entry("wild", "/w"))]),
            "www.example.com": index_routes([]),
        }
    )
    assert ask(routes, host="else.test") == "any"
    assert ask(routes, "/w", host="a.example.com") == "wild"
    assert ask(routes, "/", host="a.example.com") is None
    assert ask(routes, "/w", host="www.example.com") is None


def test_a_tls_connection_carries_requests_of_its_own_listener_only():
    routes = serve({"a.test": index_routes([]), "*.b.test": index_routes([])})
    assert not misdirected(routes, PORT, "a.test", "a.test")
    assert not misdirected(routes, PORT, "x.b.test", "y.b.test")
    assert not misdirected(routes, PORT, None, "a.test")
    assert misdirected(routes, PORT, "a.test", "x.b.test")
    assert misdirected(routes, PORT, "a.test", "unknown")
    assert listener_for(routes, PORT, "unknown") is None


def test_a_port_with_one_catch_all_rule_answers_without_searching():
    plain = table(entry("root"))
    assert plain.ports[PORT].only is not None
    assert plain.ports[PORT].only.prefix == "/"
    assert table(entry("root"), entry("v1", "/v1")).ports[PORT].only is None
    assert table(entry("posts", method="POST")).ports[PORT].only is None
    assert table(("a.test", entry("host"))).ports[PORT].only is None


def steps(routes: RoutingTable, request: Request) -> int:
    """Return how many functions a match calls: its cost without the noise of a clock."""
    count = 0

    def count_calls(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_calls)
    try:
        found = match(routes, PORT, request)
    finally:
        sys.setprofile(None)
    assert found
    return count


def by_path(i: int) -> Routed:
    return ("", entry(f"p{i}", f"/team-{i}/v1"))


def by_host(i: int) -> Routed:
    return (f"h{i}.test", entry(f"h{i}"))


def by_model(i: int) -> Routed:
    return ("", entry(f"m{i}", headers=(header("x-gateway-model-name", f"m{i}"),)))


@pytest.mark.parametrize("kind", [by_path, by_host, by_model])
def test_a_thousand_routes_take_no_more_steps_than_ten(kind):
    few, many = (table(*(kind(i) for i in range(count))) for count in (10, 1000))

    def request() -> Request:
        return Request("h7.test", "POST", "/team-7/v1/chat/completions", model="m7")

    assert steps(many, request()) == steps(few, request())


# The plainly right search: every entry is tried, the best by Gateway API's list wins.

SEGMENTS = st.lists(st.sampled_from(["a", "b", "ab", ""]), max_size=3)
REQUEST_PATHS = SEGMENTS.map(lambda parts: "/" + "/".join(parts))
RULE_PATHS = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)
TESTS = st.one_of(
    st.builds(PathTest, st.just("exact"), RULE_PATHS),
    st.builds(PathTest, st.just("prefix"), RULE_PATHS),
    st.builds(PathTest, st.just("regex"), st.sampled_from(["/a.*", "/[ab]/b", "/.+b"])),
)
VALUES = st.sampled_from([b"1", b"2"])
NAMES = st.sampled_from([b"x", b"y", b"x-gateway-model-name"])
HEADER_TESTS = st.builds(
    HeaderTest, NAMES, VALUES | VALUES.map(lambda value: re.compile(value + b"?"))
)
HEADERS = st.lists(HEADER_TESTS, max_size=2, unique_by=lambda test: test.name).map(tuple)
QUERIES = st.lists(st.builds(QueryTest, st.just("q"), st.sampled_from("12")), max_size=1)
METHODS = st.sampled_from([None, None, "GET", "POST"])
ENTRIES = st.builds(
    Entry, path=TESTS, method=METHODS, headers=HEADERS, query=QUERIES.map(tuple), rule=st.none()
)
PATTERNS = st.sampled_from(["", "*.test", "*.b.test", "a.b.test", "a.test"])
ROUTED = st.lists(st.tuples(PATTERNS, ENTRIES), max_size=12).map(
    lambda pairs: [
        (host, replace(one, rule=rule(str(i)), age=("", "", i, 0)))
        for i, (host, one) in enumerate(pairs)
    ]
)
REQUESTS = st.builds(
    Request,
    host=st.sampled_from(["a.b.test", "c.b.test", "a.test", "test", ""]),
    method=st.sampled_from(["GET", "POST"]),
    path=REQUEST_PATHS,
    query=st.sampled_from(["", "q=1", "q=2", "q=2&q=1"]),
    headers=st.lists(st.tuples(st.sampled_from([b"x", b"y"]), VALUES), max_size=3),
    model=st.sampled_from([None, "1", "2"]),
)


def slow_match(routed: Sequence[Routed], request: Request) -> str | None:
    holding = [(host, one) for host, one in routed if slow_holds(host, one, request)]
    best = min(holding, key=lambda pair: slow_order(*pair), default=None)
    return best[1].rule.name if best else None


def slow_holds(host: str, one: Entry, request: Request) -> bool:
    headers = dict[bytes, bytes]()
    for name, value in request.headers:
        headers[name] = headers[name] + b", " + value if name in headers else value
    if request.model:
        headers[b"x-gateway-model-name"] = request.model.encode()
    first = request.query[2:3] if request.query else None
    return (
        (host in ("", request.host) or (host[:1] == "*" and request.host.endswith(host[1:])))
        and slow_path(one.path, request.path)
        and one.method in (None, request.method)
        and all(slow_value(test.value, headers.get(test.name)) for test in one.headers)
        and all(test.value == first for test in one.query)
    )


def slow_path(test: PathTest, path: str) -> bool:
    if test.kind == "exact":
        return path == test.value
    if test.kind == "regex":
        return re.fullmatch(test.value, path) is not None
    wanted = [part for part in test.value.split("/")[1:] if part]
    return path.split("/")[1:][: len(wanted)] == wanted


def slow_value(wanted: bytes | re.Pattern[bytes], value: bytes | None) -> bool:
    if value is None or isinstance(wanted, bytes):
        return value == wanted
    return wanted.fullmatch(value) is not None


def slow_order(host: str, one: Entry) -> tuple:
    kind = {"exact": 0, "regex": 1, "prefix": 2}[one.path.kind]
    length = 0 if kind == 0 else len(one.path.value)
    specific = (not host, host[:1] == "*", -len(host))
    counts = (-len(one.headers), -len(one.query))
    return (*specific, kind, -length, one.method is None, *counts, one.age)


@given(routed=ROUTED, request=REQUESTS)
def test_the_index_finds_what_a_search_through_everything_finds(routed, request):
    found = match(table(*routed), PORT, request)
    assert (found.rule.name if found else None) == slow_match(routed, request)


@given(paths=st.lists(RULE_PATHS, max_size=6), path=REQUEST_PATHS)
def test_a_match_says_the_prefix_that_it_matched(paths, path):
    index = index_paths(entry(one, one) for one in paths)
    listener = Listener(PORT, "HTTP", "", (), routes=index_hosts({"": index}))
    found = match(RoutingTable({PORT: index_port([listener])}), PORT, Request("", "GET", path))
    if found:
        assert isinstance(found, Match)
        assert slow_path(PathTest("prefix", found.prefix), path)
        assert found.prefix.rstrip("/") == found.rule.name.rstrip("/")
