"""The poller against real sockets: good servers, bad ones, and ones that come and go."""

import asyncio
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from tidegate.picker.state import Adapters, Listed, Model, Sample, ScrapeFailed
from tidegate.scrape.pace import NO_METRICS_S, Pace
from tidegate.scrape.poll import Poller
from tidegate.scrape.watch import BLIND
from tidegate.testing.ports import free_port
from tidegate.testing.raw_server import RawServer, Reply, ok, status
from tidegate.testing.waiting import wait_for

BUSY = b"vllm:num_requests_waiting 2\nvllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.5\n"
SEEN = Sample(waiting=2, running=3, kv_usage=0.5)
MODELS = ok(b'{"object":"list","data":[{"id":"m"}]}', "application/json")


class Heard:
    """What a poller said, by endpoint."""

    def __init__(self):
        self.events = []

    def __call__(self, address, event):
        self.events.append((address, event))

    def of(self, server, *kinds):
        address = server if isinstance(server, str) else server.address
        return [e for a, e in self.events if a == address and isinstance(e, kinds)]


@asynccontextmanager
async def polling(*servers, interval_s=0.01, timeout_s=1.0, engine="vllm"):
    heard = Heard()
    poller = Poller(heard, rng=Random(1), interval_s=interval_s, timeout_s=timeout_s)
    poller.set_endpoints(
        {server if isinstance(server, str) else server.address: engine for server in servers}
    )
    task = asyncio.create_task(poller.run())
    try:
        yield poller, heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def vllm(path):
    return MODELS if path == "/v1/models" else ok(BUSY)


async def test_samples_and_models_come_in_over_one_connection():
    async with RawServer(vllm) as server, polling(server) as (_, heard):
        await wait_for(lambda: len(heard.of(server, Sample)) > 5)
        assert set(heard.of(server, Sample)) == {SEEN}
        assert heard.of(server, Listed) == [Listed((Model(id="m"),))]
        assert server.connections == 1


async def test_each_engine_is_asked_where_its_metrics_are():
    def respond(path):
        return ok(b"trtllm_num_requests_running 4\n" if path == "/prometheus/metrics" else b"[]")

    async with RawServer(respond) as server, polling(server, engine="trtllm") as (_, heard):
        await wait_for(lambda: Sample(running=4) in heard.of(server, Sample))


@pytest.mark.parametrize(
    "bad",
    [
        status(500),
        status(503),
        Reply(b"garbage\r\n\r\n"),
        Reply(b"", "reset"),
        Reply(b"", "close"),
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n" + b"x" * 5_000_000),
        Reply(b"", "hang"),
        Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "hang"),
    ],
    ids=lambda reply: f"{reply.then}-{len(reply.data)}",
)
async def test_a_bad_server_fails_and_recovers(bad):
    async with RawServer(lambda _: bad) as server, polling(server, timeout_s=0.1) as (_, heard):
        await wait_for(lambda: len(heard.of(server, ScrapeFailed)) >= 3)
        assert heard.of(server, Sample) == []
        server.respond = vllm
        await wait_for(lambda: SEEN in heard.of(server, Sample))


async def test_a_bad_server_does_not_disturb_the_others():
    async with (
        RawServer(lambda _: Reply(b"", "hang")) as slow,
        RawServer(lambda _: Reply(b"\x00" * 100)) as broken,
        RawServer(vllm) as good,
        polling(slow, broken, good, timeout_s=0.2) as (_, heard),
    ):
        await wait_for(lambda: len(heard.of(slow, ScrapeFailed)) >= 3)
        assert len(heard.of(good, Sample)) > 10
        assert heard.of(good, ScrapeFailed) == []


async def test_a_server_that_vanishes_fails_until_it_is_back():
    async with RawServer(vllm) as server, polling(server) as (_, heard):
        await wait_for(lambda: heard.of(server, Sample))
        await server.__aexit__(None, None, None)
        await wait_for(lambda: len(heard.of(server, ScrapeFailed)) >= 3)
        seen = len(heard.of(server, Sample))
        async with RawServer(vllm, port=int(server.address.split(":")[1])):
            await wait_for(lambda: len(heard.of(server, Sample)) > seen)


async def test_nobody_there_fails():
    address = f"127.0.0.1:{free_port()}"
    async with polling(address) as (_, heard):
        await wait_for(lambda: len(heard.of(address, ScrapeFailed)) >= 3)
        assert "can't connect" in heard.of(address, ScrapeFailed)[0].reason


@pytest.mark.parametrize("code", [301, 401, 404, 405, 429])
async def test_a_server_without_metrics_lives(code):
    async with RawServer(lambda _: status(code)) as server, polling(server) as (_, heard):
        await wait_for(lambda: heard.of(server, Sample))
        assert heard.of(server, Sample) == [BLIND]
        assert heard.of(server, ScrapeFailed) == []
        assert heard.of(server, Listed) == []


async def test_a_server_that_says_hello_to_everything_lives():
    async with RawServer(lambda _: ok(b"hello")) as server, polling(server) as (_, heard):
        await wait_for(lambda: heard.of(server, Sample))
        assert heard.of(server, Sample) == [BLIND]


async def test_a_removed_endpoint_is_not_heard_of_again():
    async with RawServer(vllm) as one, RawServer(vllm) as other, polling(one, other) as (p, heard):
        await wait_for(lambda: heard.of(one, Sample) and heard.of(other, Sample))
        p.set_endpoints({other.address: "vllm"})
        before, others = len(heard.of(one, object)), len(heard.of(other, Sample))
        await wait_for(lambda: one.open == 0 and len(heard.of(other, Sample)) > others + 3)
        assert len(heard.of(one, object)) == before
        assert other.connections == 1


async def test_an_added_endpoint_is_heard_of():
    async with RawServer(vllm) as one, RawServer(vllm) as other, polling(one) as (poller, heard):
        await wait_for(lambda: heard.of(one, Sample))
        poller.set_endpoints({one.address: "vllm", other.address: "vllm"})
        await wait_for(lambda: heard.of(other, Sample))
        assert one.connections == 1


async def test_a_changed_engine_is_read_anew():
    async with RawServer(vllm) as server, polling(server, engine="sglang") as (poller, heard):
        await wait_for(lambda: heard.of(server, Sample))
        assert set(heard.of(server, Sample)) == {BLIND}
        poller.set_endpoints({server.address: "vllm"})
        await wait_for(lambda: SEEN in heard.of(server, Sample))


async def test_endpoints_may_change_from_within_an_event():
    async with RawServer(vllm) as server:
        seen = []

        def once(address, event):
            seen.append(event)
            poller.set_endpoints({})

        poller = Poller(once, rng=Random(1), interval_s=0.01)
        poller.set_endpoints({server.address: "vllm"})
        task = asyncio.create_task(poller.run())
        await wait_for(lambda: seen and server.open == 0)
        assert seen == [SEEN]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_endpoints_may_change_while_it_stops():
    loop, heard = asyncio.get_running_loop(), Heard()
    async with RawServer(vllm) as server:
        poller = Poller(heard, rng=Random(1), interval_s=0.01)
        poller.set_endpoints({server.address: "vllm"})
        task = asyncio.create_task(poller.run())
        await wait_for(lambda: heard.of(server, Sample))
        task.cancel()
        while not task.done():
            poller.set_endpoints({server.address: "sglang"})
            poller.set_endpoints({server.address: "vllm"})
            turn = loop.create_future()
            loop.call_soon(turn.set_result, None)
            await turn


async def test_stopping_closes_every_connection():
    async with RawServer(vllm) as server:
        async with polling(server) as (_, heard):
            await wait_for(lambda: heard.of(server, Sample))
        await wait_for(lambda: server.open == 0)


async def test_models_are_listed_again_when_asked():
    async with RawServer(lambda _: status(404)) as server, polling(server) as (poller, heard):
        await wait_for(lambda: "/v1/models" in server.paths)
        server.respond = vllm
        poller.refresh_models(server.address)
        await wait_for(lambda: heard.of(server, Listed))
        poller.refresh_models("10.255.255.1:80")  # of an endpoint that is gone: nothing happens


async def test_models_are_listed_again_when_a_new_adapter_shows():
    loaded = ["m"]

    def respond(path):
        if path == "/v1/models":
            return ok(b'{"data":[' + b",".join(b'{"id":"%s"}' % m.encode() for m in loaded) + b"]}")
        info = 'vllm:lora_requests_info{{running_lora_adapters="{}"}} 1\n'.format(
            ",".join(loaded[1:])
        )
        return ok(BUSY + info.encode())

    async with RawServer(respond) as server, polling(server) as (_, heard):
        await wait_for(lambda: heard.of(server, Listed))
        loaded.append("tuned")
        await wait_for(lambda: len(heard.of(server, Listed)) == 2)
        assert [m.id for m in heard.of(server, Listed)[1].models] == ["m", "tuned"]
        assert heard.of(server, Sample)[-1].adapters == Adapters(0, frozenset({"tuned"}))
        listings = server.paths.count("/v1/models")
        seen = len(heard.of(server, Sample))
        await wait_for(lambda: len(heard.of(server, Sample)) > seen + 5)
        assert server.paths.count("/v1/models") == listings


async def test_an_error_of_the_listener_is_not_swallowed():
    def broken(address, event):
        raise LookupError("a bug")

    async with RawServer(vllm) as server:
        poller = Poller(broken, rng=Random(1), interval_s=0.01)
        poller.set_endpoints({server.address: "vllm"})
        with pytest.raises(ExceptionGroup) as caught:
            await poller.run()
        assert caught.group_contains(LookupError)


def test_a_small_set_is_scraped_at_the_interval_and_a_large_one_within_the_rates():
    pace = Pace(Random(1), 0.2, 1.0, endpoints=3)
    assert (pace.busy(), pace.idle()) == (0.2, 0.2)
    pace.endpoints = 100
    assert (pace.busy(), pace.idle()) == (0.2, 1.0)
    pace.endpoints = 1000
    assert (pace.busy(), pace.idle()) == (2.0, 2.0)


def test_failures_slow_the_pace_down_to_a_second():
    pace = Pace(Random(1), 0.2, 1.0, endpoints=3)
    assert [pace.failing(n) for n in (1, 2, 3, 4, 1000)] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_pauses_are_spread_but_not_much():
    pace = Pace(Random(1), 0.2, 1.0, endpoints=3)
    pauses = [pace.spread(NO_METRICS_S) for _ in range(100)]
    assert len(set(pauses)) > 90
    assert all(4.5 <= pause <= 5.5 for pause in pauses)
    assert all(0 <= pace.start() <= 0.2 for _ in range(100))
