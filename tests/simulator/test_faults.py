"""Faults that are switched on while the server runs."""

import asyncio

import pytest

from tidegate.testing.http import connected, request_bytes
from tidegate.testing.waiting import wait_for


async def test_errors_come_at_their_rate_and_with_their_status(sim):
    await sim.faults(error_rate=0.5, status=503)
    statuses = [(await sim.chat()).status for _ in range(60)]
    assert set(statuses) == {200, 503}
    assert 15 <= statuses.count(503) <= 45


async def test_faults_are_set_field_by_field_and_healed_at_once(sim):
    await sim.faults(error_rate=1)
    await sim.faults(status=429)
    assert (await sim.ask("GET", "/admin/faults")).json()["error_rate"] == 1
    assert (await sim.chat()).status == 429
    await sim.ask("DELETE", "/admin/faults")
    assert (await sim.chat()).status == 200


@pytest.mark.parametrize("fields", [{"error_rate": 2}, {"status": 200}, {"no_such": 1}])
async def test_faults_that_cannot_be_are_refused(sim, fields):
    answer = await sim.ask("POST", "/admin/faults", fields)
    assert answer.status == 400
    assert "$" in answer.json()["error"]["message"] or "no_such" in str(answer.body)


@pytest.mark.parametrize("events", [1, 3])
async def test_a_stream_is_cut_after_its_events(sim, events):
    await sim.faults(reset_after_events=events)
    async with connected(sim.port) as (reader, writer):
        body = {"prompt": "x", "stream": True}
        writer.write(request_bytes("POST", "/v1/completions", body))
        for _ in range(events):
            await reader.readuntil(b"data: ")
        with pytest.raises(ConnectionResetError):
            await reader.readuntil(b"data: ")
        assert not sim.engine.running


async def test_a_reset_after_no_event_comes_before_the_first_byte(sim):
    await sim.faults(reset_after_events=0)
    with pytest.raises(ConnectionError):
        await sim.chat(stream=True)


async def test_a_hanging_server_takes_requests_and_says_nothing(sim):
    await sim.faults(hang=True)
    talk = asyncio.ensure_future(sim.chat())
    assert (await sim.ask("GET", "/health")).status == 200
    done, _ = await asyncio.wait({talk}, timeout=0.2)
    assert not done
    talk.cancel()


async def test_a_refusing_server_resets_everything_but_its_admin(sim):
    await sim.faults(refuse=True)
    with pytest.raises(ConnectionError):
        await sim.ask("GET", "/health")
    assert (await sim.ask("DELETE", "/admin/faults")).status == 200
    assert (await sim.ask("GET", "/health")).status == 200


async def test_an_unhealthy_server_still_serves(sim):
    await sim.faults(unhealthy=True)
    assert (await sim.ask("GET", "/health")).status == 503
    assert (await sim.chat()).status == 200


async def test_a_delayed_request_reaches_the_engine_later_or_never(sim):
    loop = asyncio.get_running_loop()
    await sim.faults(delay_s=0.2)
    started = loop.time()
    assert (await sim.chat()).status == 200
    assert loop.time() - started >= 0.2
    await sim.faults(delay_s=30)
    talk = asyncio.ensure_future(sim.chat())
    await wait_for(lambda: len(sim.server._connections) == 1, what="the request to arrive")
    talk.cancel()
    await wait_for(lambda: not sim.server._connections, what="the client to be gone")
    assert not sim.engine.running


async def test_slow_factors_slow_the_engine(slow):
    await slow.faults(ttft_factor=4, itl_factor=2)
    answer = asyncio.ensure_future(slow.chat(max_tokens=2))
    await wait_for(lambda: slow.engine.running, what="the request to run")
    sequence = slow.engine.running[0]
    await answer
    assert sequence.first_token_at - sequence.arrived_at >= 4 * 0.014
    assert sequence.last_token_at - sequence.first_token_at >= 2 * 0.014
