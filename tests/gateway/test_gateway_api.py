"""What Gateway API and its inference extension ask of a gateway, through real sockets.

Mirrors the conformance tests of both projects by behaviour: HTTPRouteWeight,
RequestHeaderModifierBackendWeights, Matching, RequestMirror, Timeouts, InvalidBackendRef…,
GatewayWeightedAcrossTwoInferencePools, HTTPRouteInvalidInferencePoolRef.
"""

import math
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from tidegate.testing.endpoints import ScriptedEndpoint, answer, says, scripted
from tidegate.testing.gateway import GatewayUnderTest, gateway, pool, route, to
from tidegate.testing.waiting import wait_for

NAMES = ("a", "b", "c")


@pytest.fixture
async def servers():
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(scripted(says(answer(body=name.encode()))))
            for name in NAMES
        }


@pytest.fixture
async def gw(servers: dict[str, ScriptedEndpoint]):
    async with gateway(*(pool(name, server.address) for name, server in servers.items())) as one:
        yield one


async def shares(gw: GatewayUnderTest, count: int = 500) -> Counter[str]:
    connection = await gw.connect()
    seen: Counter[str] = Counter()
    for number in range(count):
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Session-Id: %d\r\n\r\n" % number)
        got = await connection.answer()
        seen[got.body.decode() if got.status == 200 else str(got.status)] += 1
    return seen


def near(count: int, total: int, share: float, sigmas: float = 4.0) -> bool:
    return abs(count - share * total) <= sigmas * math.sqrt(total * share * (1 - share)) + 1e-9


async def test_weights_are_shares_of_their_sum_and_zero_gets_nothing(gw):
    await gw.apply(route({"backendRefs": [to("a", 70), to("b", 30), to("c", 0)]}))
    seen = await shares(gw)
    assert near(seen["a"], 500, 0.7)
    assert near(seen["b"], 500, 0.3)
    assert seen["c"] == 0


async def test_a_missing_weight_is_1(gw):
    await gw.apply(route({"backendRefs": [to("a"), to("b", 3)]}))
    assert near((await shares(gw))["a"], 500, 0.25)


async def test_weights_of_0_everywhere_are_500(gw):
    await gw.apply(route({"backendRefs": [to("a", 0), to("b", 0)]}))
    got = await gw.get()
    assert got.status == 500


async def test_requests_without_a_session_are_split_too(gw):
    await gw.apply(route({"backendRefs": [to("a", 50), to("b", 50)]}))
    seen = Counter([(await gw.get()).body for _ in range(200)])
    assert near(seen[b"a"], 200, 0.5)


async def test_an_unknown_pool_fails_its_own_share_only(gw):
    await gw.apply(route({"backendRefs": [to("a", 70), to("nowhere", 30)]}))
    seen = await shares(gw)
    assert near(seen["500"], 500, 0.3)
    assert near(seen["a"], 500, 0.7)


async def test_an_empty_pool_is_503_for_its_own_share_only(gw):
    await gw.apply(pool("empty"), route({"backendRefs": [to("a", 70), to("empty", 30)]}))
    seen = await shares(gw)
    assert near(seen["503"], 500, 0.3)
    assert near(seen["a"], 500, 0.7)


async def test_a_pool_of_servers_that_still_start_is_503(gw, servers):
    await gw.apply(pool("late", servers["a"].address, ready=False))
    await gw.apply(route({"backendRefs": [to("late")]}))
    got = await gw.get()
    assert (got.status, got.header("x-tidegate-reason")) == (503, "NoEndpoints")


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        (to("nowhere"), "BackendNotFound"),
        ({"kind": "Gadget", "group": "x.test", "name": "a"}, "InvalidKind"),
        (to("a", namespace="other"), "RefNotPermitted"),
    ],
)
async def test_a_route_with_only_invalid_backends_is_500_with_the_reason(gw, ref, reason):
    await gw.apply(route({"backendRefs": [ref]}))
    got = await gw.get()
    assert (got.status, got.header("x-tidegate-reason")) == (500, reason)


async def test_a_route_without_backends_is_500(gw):
    await gw.apply(route({"matches": [{"path": {"value": "/"}}]}))
    assert (await gw.get()).status == 500


async def test_no_match_is_404(gw):
    await gw.apply(route({"matches": [{"path": {"value": "/v1"}}], "backendRefs": [to("a")]}))
    got = await gw.get("/v2")
    assert (got.status, got.header("x-tidegate-reason")) == (404, "RouteNotFound")


async def test_a_deleted_route_stops_at_once(gw):
    await gw.apply(route({"backendRefs": [to("a")]}))
    assert (await gw.get()).status == 200
    await gw.remove("HTTPRoute", "route")
    assert (await gw.get()).status == 404


async def test_precedence_exact_then_longest_prefix_then_method_then_headers(gw):
    def rule(name, **match):
        return {"matches": [match], "backendRefs": [to(name)]}

    await gw.apply(
        route(
            rule("a", path={"type": "PathPrefix", "value": "/v1"}),
            rule("b", path={"type": "PathPrefix", "value": "/v1/chat"}),
            rule("c", path={"type": "Exact", "value": "/v1/chat"}),
            rule("b", path={"type": "PathPrefix", "value": "/v1"}, method="PUT"),
            rule(
                "c",
                path={"type": "PathPrefix", "value": "/v1"},
                headers=[{"name": "Tier", "value": "gold"}],
            ),
        )
    )
    assert (await gw.get("/v1/x")).body == b"a"
    assert (await gw.get("/v1/chat")).body == b"c"
    assert (await gw.get("/v1/chat/x")).body == b"b"
    assert (await gw.get("/v1chat")).status == 404
    assert (await gw.get("/v1/x", "x", "TIER: gold")).body == b"c"
    put = await gw.ask(b"PUT /v1/x HTTP/1.1\r\nHost: x\r\nTier: gold\r\nContent-Length: 0\r\n\r\n")
    assert put.body == b"b"


async def test_the_bodys_model_can_be_matched(gw):
    def rule(name, model):
        header = {"name": "X-Gateway-Model-Name", "value": model}
        return {"matches": [{"headers": [header]}], "backendRefs": [to(name)]}

    await gw.apply(route(rule("a", "llama"), rule("b", "qwen"), {"backendRefs": [to("c")]}))
    assert (await gw.post(b'{"model":"llama"}')).body == b"a"
    assert (await gw.post(b'{"messages":[],"model":"qwen"}')).body == b"b"
    assert (await gw.post(b'{"model":"other"}')).body == b"c"
    spoofed = await gw.post(b'{"model":"other"}', "/", "X-Gateway-Model-Name: llama")
    assert spoofed.body == b"c"


async def test_hostnames_choose_the_route(gw):
    await gw.apply(
        route({"backendRefs": [to("a")]}, name="exact", hostnames=["api.example.com"]),
        route({"backendRefs": [to("b")]}, name="wild", hostnames=["*.example.com"]),
        route({"backendRefs": [to("c")]}, name="any"),
    )
    assert (await gw.get("/", "api.example.com")).body == b"a"
    assert (await gw.get("/", "API.example.com:8080")).body == b"a"
    assert (await gw.get("/", "x.y.example.com")).body == b"b"
    assert (await gw.get("/", "example.com")).body == b"c"


async def test_header_filters_of_rule_and_backend(gw, servers):
    def modifier(kind="RequestHeaderModifier", **edits):
        field = kind[0].lower() + kind[1:]
        return {"type": kind, field: edits}

    await gw.apply(
        route(
            {
                "filters": [
                    modifier(
                        set=[{"name": "X-Rule", "value": "r"}],
                        add=[{"name": "X-More", "value": "2"}],
                        remove=["X-Away"],
                    ),
                    modifier("ResponseHeaderModifier", set=[{"name": "X-Answer", "value": "1"}]),
                ],
                "backendRefs": [
                    to("a", 50, filters=[modifier(set=[{"name": "X-Arm", "value": "a"}])]),
                    to("b", 50, filters=[modifier(set=[{"name": "X-Arm", "value": "b"}])]),
                ],
            }
        )
    )
    for _ in range(40):
        got = await gw.get("/", "x", "X-Away: 1", "X-More: 1", "X-Rule: mine")
        assert got.header("x-answer") == "1"
        seen = servers[got.body.decode()].seen[-1]
        assert seen.header("x-arm") == got.body.decode()
        assert seen.header("x-rule") == "r"
        assert seen.header("x-away") is None
        assert [value for name, value in seen.headers if name == "x-more"] in (["1", "2"], ["1,2"])
    assert servers["a"].seen
    assert servers["b"].seen


async def test_rewrites_change_host_and_path(gw, servers):
    await gw.apply(
        route(
            {
                "matches": [{"path": {"value": "/llm"}}],
                "filters": [
                    {
                        "type": "URLRewrite",
                        "urlRewrite": {
                            "hostname": "inner.test",
                            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v1"},
                        },
                    }
                ],
                "backendRefs": [to("a")],
            }
        )
    )
    await gw.get("/llm/models?x=1")
    seen = servers["a"].seen[0]
    assert (seen.target, seen.header("host")) == ("/v1/models?x=1", "inner.test")


async def test_redirects_say_where(gw):
    await gw.apply(
        route(
            {
                "filters": [
                    {
                        "type": "RequestRedirect",
                        "requestRedirect": {
                            "scheme": "https",
                            "hostname": "new.test",
                            "statusCode": 301,
                        },
                    }
                ]
            }
        )
    )
    got = await gw.get("/a?b=c")
    assert (got.status, got.header("location")) == (301, "https://new.test/a?b=c")


async def test_mirrors_get_their_share_and_never_disturb(gw, servers):
    mirror = {
        "type": "RequestMirror",
        "requestMirror": {
            "backendRef": {"group": to("b")["group"], "kind": "InferencePool", "name": "b"},
            "percent": 50,
        },
    }
    await gw.apply(route({"filters": [mirror], "backendRefs": [to("a")]}))
    for _ in range(300):
        assert (await gw.post(b'{"model":"m"}')).body == b"a"
    await wait_for(lambda: not gw.plane.mirrors)
    assert len(servers["a"].seen) == 300
    assert near(len(servers["b"].seen), 300, 0.5)
    assert servers["b"].seen[0].body == b'{"model":"m"}'


async def test_a_dead_mirror_is_not_noticed(gw):
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": to("empty")}}
    await gw.apply(pool("empty"), route({"filters": [mirror], "backendRefs": [to("a")]}))
    assert (await gw.get()).body == b"a"


async def test_raising_a_weight_moves_sessions_one_way_only(gw):
    async def sides():
        connection = await gw.connect()
        found = {}
        for number in range(300):
            connection.writer.write(
                b"GET / HTTP/1.1\r\nHost: x\r\nX-Session-Id: %d\r\n\r\n" % number
            )
            found[number] = (await connection.answer()).body
        return found

    before = None
    for canary in (0, 10, 25, 50, 100):
        await gw.apply(route({"backendRefs": [to("a", 100 - canary), to("b", canary)]}))
        after = await sides()
        if before is not None:
            assert all(after[each] == b"b" for each, side in before.items() if side == b"b")
        before = after
    await gw.apply(route({"backendRefs": [to("a", 100), to("b", 0)]}))
    assert set((await sides()).values()) == {b"a"}


async def test_a_conversation_stays_on_its_pool(gw):
    await gw.apply(route({"backendRefs": [to("a", 50), to("b", 50)]}))
    for number in range(20):
        turns = [f'{{"role":"user","content":"question {number}"}}']
        sides = set()
        for turn in range(4):
            body = f'{{"model":"m","messages":[{",".join(turns)}]}}'.encode()
            sides.add((await gw.post(body)).body)
            turns += [f'{{"role":"assistant","content":"{turn}"}}', '{"role":"user","content":"x"}']
        assert len(sides) == 1


async def test_v1_models_lists_all_pools_behind_the_route(gw, servers):
    from tidegate.picker.state import Listed, Model

    await gw.apply(route({"backendRefs": [to("a", 100), to("b", 0)]}))
    gw.registry.note(servers["a"].address, Listed((Model(id="base"), Model(id="old"))))
    adapter = Model(id="org/adapter", parent="base")
    gw.registry.note(servers["b"].address, Listed((Model(id="base"), adapter)))
    got = await gw.get("/v1/models")
    assert got.status == 200
    assert got.body.count(b'"id"') == 3
    assert (await gw.get("/v1/models/org/adapter")).status == 200
    missing = await gw.get("/v1/models/nothing")
    assert (missing.status, b"ModelNotFound" in missing.body) == (404, True)
    assert servers["a"].seen == []
