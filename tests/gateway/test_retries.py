"""Retries: to another endpoint, only before the client got anything, and within a budget."""

import asyncio

import pytest

from tidegate.gateway.retry import RetryBudget
from tidegate.gateway.settings import Limits
from tidegate.testing.endpoints import Seen, answer, says, scripted
from tidegate.testing.gateway import gateway, pool, route, serving, to
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_for


async def reset(_seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def test_a_dead_endpoint_costs_no_request():
    async with scripted(says(answer())) as server:
        dead = f"127.0.0.1:{free_port()}"
        rule = {"backendRefs": [to("llm")]}
        async with gateway(pool("llm", dead, server.address), route(rule)) as gw:
            for _ in range(20):
                got = await gw.post()
                assert (got.status, got.header("x-tidegate-endpoint")) == (200, server.address)
            assert any(record.retries for record in gw.records)


@pytest.mark.parametrize("script", [reset, says(answer(503)), says(b"garbage\r\n\r\n")])
async def test_a_failing_endpoint_is_passed_over(script):
    async with scripted(script) as bad, scripted(says(answer())) as good:
        rule = {"backendRefs": [to("llm")]}
        async with gateway(pool("llm", bad.address, good.address), route(rule)) as gw:
            assert {(await gw.post()).status for _ in range(10)} == {200}
            assert bad.seen, "the bad endpoint was never tried: the test shows nothing"


async def test_without_another_endpoint_the_cause_is_told():
    async with serving(reset) as (gw, server):
        got = await gw.post()
        assert (got.status, got.header("x-tidegate-reason")) == (503, "UpstreamReset")
        assert len(server.seen) == 3


async def test_a_refused_connection_is_503():
    dead = f"127.0.0.1:{free_port()}"
    async with gateway(pool("llm", dead), route({"backendRefs": [to("llm")]})) as gw:
        got = await gw.post()
        assert (got.status, got.header("x-tidegate-reason")) == (503, "ConnectFailed")


async def test_garbage_is_502():
    async with serving(says(b"garbage\r\n\r\n")) as (gw, _server):
        got = await gw.post()
        assert (got.status, got.header("x-tidegate-reason")) == (502, "UpstreamProtocolError")


async def test_a_status_that_is_not_retryable_is_passed_on():
    async with serving(says(answer(500, b"oops"))) as (gw, server):
        got = await gw.post()
        assert (got.status, got.body) == (500, b"oops")
        assert len(server.seen) == 1


async def test_the_last_retryable_answer_reaches_the_client():
    async with serving(says(answer(503, b"busy"))) as (gw, server):
        got = await gw.post()
        assert (got.status, got.body) == (503, b"busy")
        assert len(server.seen) == 3


async def test_a_stale_connection_is_replaced_without_a_retry():
    async def once(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 2:
            # Closed just as the next request arrives, as a server's keep-alive timer does.
            writer.transport.abort()
        else:
            writer.write(answer())

    async with serving(once) as (gw, server):
        assert [(await gw.post()).status for _ in range(2)] == [200, 200]
        assert [record.retries for record in gw.records] == [0, 0]


async def test_the_try_on_a_stale_connection_counts():
    async def once(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 1:
            writer.write(answer())
        else:
            writer.transport.abort()

    rule = {"backendRefs": [to("llm")], "retry": {"attempts": 3}}
    async with serving(once, rule=rule) as (gw, server):
        assert (await gw.post()).status == 200
        got = await gw.post()
        assert (got.status, got.header("x-tidegate-reason")) == (503, "UpstreamReset")
        assert len(server.seen) == 1 + 4


async def test_retries_end_when_the_budget_is_spent():
    async with serving(says(answer(503))) as (gw, server):
        gw.plane.budget = RetryBudget(per_request=0.0, per_second=0.0, cap=4)
        for _ in range(10):
            await gw.post()
        assert len(server.seen) == 14


async def test_a_route_sets_codes_attempts_and_backoff():
    rule = {
        "backendRefs": [to("llm")],
        "retry": {"codes": [500], "attempts": 4, "backoff": "20ms"},
    }
    async with serving(says(answer(500)), rule=rule) as (gw, server):
        assert (await gw.post()).status == 500
        assert len(server.seen) == 5
        assert gw.records[0].duration_s >= 0.08


async def test_the_request_timeout_bounds_all_tries():
    async def slow(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    rule = {
        "backendRefs": [to("llm")],
        "timeouts": {"request": "300ms", "backendRequest": "100ms"},
        "retry": {"codes": [504], "attempts": 10},
    }
    async with serving(slow, rule=rule) as (gw, server):
        got = await gw.post()
        assert (got.status, got.header("x-tidegate-reason")) == (504, "RequestDeadline")
        assert 2 <= len(server.seen) <= 4


async def test_a_timeout_of_0s_is_none():
    async def late(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, writer.write, answer())

    rule = {"backendRefs": [to("llm")], "timeouts": {"request": "0s"}}
    async with serving(late, rule=rule) as (gw, _server):
        assert (await gw.post()).status == 200


async def test_a_silent_endpoint_is_given_up():
    async def silent(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    limits = Limits(answer_timeout_s=0.1)
    rule = {"backendRefs": [to("llm")], "retry": {"codes": [502]}}
    async with serving(silent, rule=rule, limits=limits) as (gw, _server):
        got = await gw.post()
        assert (got.status, got.header("x-tidegate-reason")) == (504, "UpstreamTimeout")


def test_a_budget_earns_by_requests_and_by_time():
    budget = RetryBudget(per_request=0.5, per_second=1.0, cap=1.0)
    assert budget.spend(0.0)
    assert not budget.spend(0.0)
    budget.earn()
    assert not budget.spend(0.0)
    budget.earn()
    assert budget.spend(0.0)
    assert not budget.spend(0.5)
    assert budget.spend(1.5)


async def test_the_whole_body_is_sent_again():
    body = bytes(range(256)) * 4000
    async with scripted(reset) as bad, scripted(says(answer())) as good:
        rule = {"backendRefs": [to("llm")]}
        async with gateway(pool("llm", bad.address, good.address), route(rule)) as gw:
            while not bad.seen:
                assert (await gw.post(body)).status == 200
            assert {seen.body for seen in (*bad.seen, *good.seen)} == {body}
            assert gw.plane.body_bytes == 0


async def test_a_client_that_left_is_not_served_again():
    rule = {"backendRefs": [to("llm")], "retry": {"codes": [503], "backoff": "100ms"}}
    async with serving(says(answer(503)), rule=rule) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_for(lambda: server.seen)
        connection.writer.transport.abort()
        await wait_for(lambda: gw.records)
        await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=0.2)
        assert len(server.seen) == 1
        assert (gw.records[0].status, gw.records[0].client_gone) == (499, True)


async def test_a_copy_is_never_sent_twice():
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": to("copy")}}
    rule = {"filters": [mirror], "backendRefs": [to("llm")]}
    async with scripted(says(answer())) as server, scripted(reset) as copy:
        pools = pool("llm", server.address), pool("copy", copy.address)
        async with gateway(*pools, route(rule)) as gw:
            for _ in range(5):
                assert (await gw.post()).status == 200
            await wait_for(lambda: gw.plane.mirrors == 0)
            assert (len(server.seen), len(copy.seen)) == (5, 5)
            assert gw.registry.all()[copy.address].state.failures == 0


async def test_nothing_is_tried_again_once_the_client_has_a_byte():
    async def half(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()

    async with serving(half) as (gw, server):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await gw.get()
        assert len(server.seen) == 1
        (record,) = gw.records
        assert (record.status, record.broken, record.reason) == (200, True, "UpstreamReset")


async def test_an_answer_too_long_for_its_route_is_not_its_endpoints_fault():
    async def endless(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    rule = {"backendRefs": [to("llm")], "timeouts": {"request": "100ms"}}
    async with serving(endless, rule=rule) as (gw, server):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await gw.get()
        assert (gw.records[0].broken, gw.records[0].reason) == (True, "RequestDeadline")
        assert gw.registry.all()[server.address].state.failures == 0


async def test_an_error_does_not_tell_an_address_that_is_not_to_be_shown():
    async with serving(says(b"garbage\r\n\r\n"), answer_headers=False) as (gw, server):
        got = await gw.get()
        assert got.status == 502
        assert b"malformed" in got.body
        assert server.address.encode() not in got.raw_head + got.body
