"""Requests wait, go on in turn and are refused, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import yaml

from tidegate.telemetry.metrics import Queue
from tidegate.testing.endpoints import ScriptedEndpoint, Seen, answer, scripted
from tidegate.testing.gateway import Answer, GatewayUnderTest, gateway, pool, route, to
from tidegate.testing.waiting import wait_for

ONE_AT_A_TIME = {"saturationDetector": {"maxConcurrency": 1}}


class Server:
    """Answers one request at a time, when it is told to."""

    def __init__(self, endpoint: ScriptedEndpoint) -> None:
        self.endpoint = endpoint
        self.held: list[tuple[Seen, asyncio.Event]] = []
        endpoint.script = self.script

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        event = asyncio.Event()
        self.held.append((seen, event))
        await event.wait()
        writer.write(answer(body=seen.body))

    def said(self) -> list[str]:
        """Return who has come so far, by the header `who`."""
        return [seen.header("who") or "" for seen, _ in self.held]

    def answer(self, number: int) -> None:
        self.held[number][1].set()


def objective(name: str, priority: int) -> dict[str, Any]:
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": name},
        "spec": {"priority": priority, "poolRef": {"name": "llm"}},
    }


OBJECTIVES = [objective("high", 10), objective("normal", 0), objective("low", -1)]


def configured(flow: dict[str, Any]) -> dict[str, Any]:
    config = {"plugins": [{"type": "least-load-scorer"}], "flowControl": flow}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "picking"},
        "data": {"config.yaml": yaml.safe_dump(config)},
    }


@asynccontextmanager
async def busy(
    flow: dict[str, Any] = ONE_AT_A_TIME, **rule: Any
) -> AsyncIterator[tuple[GatewayUnderTest, Server]]:
    """Run a gateway before one server that takes one request at a time, and has one."""
    async with scripted(None) as endpoint:  # type: ignore[arg-type]  # Server sets it
        server = Server(endpoint)
        servers, llm = yaml.safe_load_all(pool("llm", endpoint.address))
        llm["metadata"]["annotations"] = {"tidegate.dev/picker-config": "picking"}
        rules = route({"backendRefs": [to("llm")], **rule})
        async with gateway(configured(flow), servers, llm, *OBJECTIVES, rules) as running:
            first = asyncio.create_task(post(running, "first", "normal"))
            await wait_for(lambda: server.said() == ["first"])
            yield running, server
            for _, event in server.held:
                event.set()
            await first


async def post(
    running: GatewayUnderTest, who: str, objective: str, *headers: str, body: bytes = b"{}"
) -> Answer:
    named = (f"who: {who}", f"x-llm-d-inference-objective: {objective}", *headers)
    return await running.post(body, "/v1/chat/completions", *named)


def waiting(running: GatewayUnderTest) -> int:
    live = running.plane.live
    assert live is not None
    return sum(gate.flow.size for gate in live.gates.values())


def queues(running: GatewayUnderTest) -> list[Queue]:
    live = running.plane.live
    assert live is not None
    return [queue for gate in live.gates.values() for queue in gate.queues()]


async def queued(running: GatewayUnderTest, *asked: tuple[str, ...]) -> list[asyncio.Task[Answer]]:
    """Send requests of (who, objective, headers) that wait, in this order."""
    tasks = []
    for count, (who, name, *headers) in enumerate(asked, 1 + waiting(running)):
        tasks.append(asyncio.create_task(post(running, who, name, *headers)))
        await wait_for(lambda count=count: waiting(running) == count)
    return tasks


async def in_turn(server: Server, *expected: str) -> None:
    """Answer what is held, one after the other, and see who comes then."""
    for who in expected:
        server.answer(len(server.held) - 1)
        await wait_for(lambda who=who: server.said()[-1] == who)


async def test_the_more_important_go_first_and_all_are_answered():
    async with busy() as (running, server):
        tasks = await queued(running, ("l", "low"), ("n", "normal"), ("h", "high"))
        await in_turn(server, "h", "n", "l")
        server.answer(3)
        assert {(await task).status for task in tasks} == {200}
        assert waiting(running) == 0
        assert running.plane.body_bytes == 0
        assert {q.priority: (q.waiting, sum(q.waits)) for q in queues(running)} == {
            -1: (0, 1),
            0: (0, 1),
            10: (0, 1),
        }


async def test_a_request_without_an_objective_has_its_models():
    async with busy() as (running, server):
        noted = objective("high", 10)
        noted["metadata"]["annotations"] = {"tidegate.dev/models": "vip"}
        await running.apply(noted)
        (low,) = await queued(running, ("n", "normal"))
        vip = asyncio.create_task(running.post(b'{"model": "vip"}', "/v1/chat/completions"))
        await wait_for(lambda: waiting(running) == 2)
        server.answer(0)
        await wait_for(lambda: len(server.held) == 2)
        assert server.held[1][0].body == b'{"model": "vip"}'
        await in_turn(server, "n")
        server.answer(2)
        assert {(await vip).status, (await low).status} == {200}


async def test_a_route_decides_which_objective_its_requests_may_name():
    taken = {"remove": ["x-llm-d-inference-objective"]}
    given = {"set": [{"name": "x-llm-d-inference-objective", "value": "low"}]}
    for edits, order in ((taken, ("n", "h")), (given, ("n", "h")), ({}, ("h", "n"))):
        filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": edits}]
        async with busy(filters=filters if edits else []) as (running, server):
            tasks = await queued(running, ("n", "normal"), ("h", "high"))
            await in_turn(server, *order)
            server.answer(2)
            await asyncio.gather(*tasks)


async def test_tenants_of_one_priority_take_turns():
    a, b = "x-llm-d-inference-fairness-id: a", "authorization: Bearer b"
    async with busy() as (running, server):
        tasks = await queued(
            running, *((f"a{n}", "normal", a) for n in range(3)), ("b0", "normal", b)
        )
        for number in range(5):
            await wait_for(lambda number=number: len(server.held) > number)
            server.answer(number)
        await asyncio.gather(*tasks)
        assert server.said().index("b0") <= 2


async def test_a_full_queue_refuses_with_the_reason_and_when_to_come_again():
    flow = {**ONE_AT_A_TIME, "defaultPriorityBand": {"maxRequests": 1}}
    async with busy(flow) as (running, server):
        (task,) = await queued(running, ("waits", "normal"))
        refused = await post(running, "late", "normal")
        assert (refused.status, refused.header("x-tidegate-reason")) == (429, "QueueFull")
        assert int(refused.header("retry-after") or 0) >= 1
        assert b'"code":"QueueFull"' in refused.body
        assert [q.refused for q in queues(running)] == [1]
        await in_turn(server, "waits")
        server.answer(1)
        assert (await task).status == 200
        assert "late" not in server.said()


async def test_one_that_waited_too_long_is_told_so():
    async with busy({**ONE_AT_A_TIME, "defaultRequestTTL": "100ms"}) as (running, server):
        refused = await post(running, "late", "normal")
        assert (refused.status, refused.header("x-tidegate-reason")) == (429, "QueueTimeout")
        assert refused.header("retry-after") is not None
        assert running.records[-1].reason == "QueueTimeout"
        assert server.said() == ["first"]


async def test_a_higher_priority_takes_the_place_of_a_lower_one():
    async with busy({**ONE_AT_A_TIME, "maxRequests": 1}) as (running, server):
        (low,) = await queued(running, ("low", "low"))
        high = asyncio.create_task(post(running, "high", "high"))
        evicted = await low
        assert (evicted.status, evicted.header("x-tidegate-reason")) == (429, "Evicted")
        await in_turn(server, "high")
        server.answer(1)
        assert (await high).status == 200


async def test_a_client_that_leaves_gives_its_place_up():
    async with busy() as (running, server):
        connection = await running.connect()
        connection.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                                b"content-length: 2\r\n\r\n{}")  # fmt: skip
        await wait_for(lambda: waiting(running) == 1)
        connection.writer.close()
        await wait_for(lambda: waiting(running) == 0)
        server.answer(0)
        assert (await post_and_answer(running, server)).status == 200
        assert server.said() == ["first", "next"]


async def post_and_answer(running: GatewayUnderTest, server: Server) -> Answer:
    task = asyncio.create_task(post(running, "next", "normal"))
    await wait_for(lambda: server.said()[-1] == "next")
    server.answer(len(server.held) - 1)
    return await task


async def test_the_routes_timeout_counts_while_waiting():
    async with busy(timeouts={"request": "200ms"}) as (running, _):
        late = await post(running, "late", "high")
        assert (late.status, late.header("x-tidegate-reason")) == (504, "RequestDeadline")
        assert waiting(running) == 0


async def test_running_sheddable_work_is_cut_where_the_config_says_so():
    flow = {
        "saturationDetector": {"maxConcurrency": 2},
        "enableEviction": True,
        "evictionPatience": "50ms",
    }
    async with busy(flow) as (running, server):
        low = asyncio.create_task(post(running, "low", "low"))
        await wait_for(lambda: server.said() == ["first", "low"])
        high = asyncio.create_task(post(running, "high", "high"))
        cut = await low
        assert (cut.status, cut.header("x-tidegate-reason")) == (429, "Evicted")
        await wait_for(lambda: server.said()[-1] == "high")
        server.answer(2)
        assert (await high).status == 200


async def test_a_mirror_is_left_out_while_the_pool_is_busy():
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": to("llm")}}
    async with scripted(None) as other:  # type: ignore[arg-type]
        aside = Server(other)
        async with busy() as (running, server):
            rule = {"backendRefs": [to("aside")], "filters": [mirror]}
            await running.apply(pool("aside", other.address), route(rule))
            task = asyncio.create_task(post(running, "main", "normal"))
            await wait_for(lambda: aside.said() == ["main"])
            aside.answer(0)
            assert (await task).status == 200
            assert server.said() == ["first"]
            assert "MirrorDropped" in running.rejected


async def test_another_config_lets_those_go_on_that_wait():
    async with busy() as (running, server):
        (task,) = await queued(running, ("waits", "normal"))
        await running.apply(configured({"saturationDetector": {"maxConcurrency": 100}}))
        await wait_for(lambda: server.said() == ["first", "waits"])
        server.answer(1)
        assert (await task).status == 200


async def test_a_pool_that_goes_away_sends_those_away_that_wait():
    async with busy() as (running, _):
        (task,) = await queued(running, ("waits", "normal"))
        await running.remove("InferencePool", "llm")
        assert (await task).status in (200, 503)
        assert waiting(running) == 0
