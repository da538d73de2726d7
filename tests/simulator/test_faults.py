"""Faults that are switched on while the server runs."""

import asyncio

import pytest

from tidegate.process.clock import now
from tidegate.simulator.errors import SettingsError
from tidegate.simulator.server import Server
from tidegate.simulator.settings import Settings, parse_faults
from tidegate.testing.http import connected, exchange, request_bytes
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


async def test_a_server_can_be_bad_from_the_start():
    settings = Settings(faults=parse_faults('{"error_rate": 1, "status": 503}'))
    async with Server(settings, now) as server:
        port = int(server.address.rpartition(":")[2])
        body = {"messages": [{"role": "user", "content": "hello"}]}
        assert (await exchange(port, "POST", "/v1/chat/completions", body, {})).status == 503


def test_faults_that_cannot_be_are_refused_at_the_start():
    with pytest.raises(SettingsError, match=r"faults: .*error_rate"):
        parse_faults('{"error_rate": 2}')


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


async def test_refusals_come_by_kind_as_vllm_words_them(sim):
    await sim.faults(errors={"rate_limit": 0.5, "invalid_api_key": 0.5})
    answers = [await sim.chat() for _ in range(30)]
    assert {one.status for one in answers} == {429, 401}
    unauthorized = next(one for one in answers if one.status == 401)
    assert unauthorized.json() == {"error": "Unauthorized"}
    limited = next(one for one in answers if one.status == 429)
    assert limited.json()["error"]["code"] == 429


async def test_wrong_answers_look_right(sim):
    right = (await sim.chat()).json()
    await sim.faults(wrong_rate=1)
    wrong = (await sim.chat()).json()
    assert wrong["choices"][0]["message"]["content"] != right["choices"][0]["message"]["content"]
    assert wrong["usage"]["completion_tokens"] == right["usage"]["completion_tokens"]
    assert wrong["choices"][0]["finish_reason"] == right["choices"][0]["finish_reason"]


async def test_a_stalled_stream_stays_open_and_silent(sim):
    await sim.faults(stall_after_events=2)
    async with connected(sim.port) as (reader, writer):
        writer.write(request_bytes("POST", "/v1/completions", {"prompt": "x", "stream": True}))
        for _ in range(2):
            await reader.readuntil(b"data: ")
        await reader.readuntil(b"\n\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readuntil(b"data: "), 0.2)
        assert not reader.at_eof()
        writer.close()


async def test_factors_can_grow_over_time(sim):
    await sim.faults(itl_factor=11, ramp_s=30)
    assert sim.engine.pace.itl == pytest.approx(1, abs=0.5)
    await wait_for(lambda: 1 < sim.engine.pace.itl < 11, what="the pace to have changed")
    await sim.ask("DELETE", "/admin/faults")
    assert sim.engine.pace.itl == 1


async def page(sim) -> bytes:
    return (await sim.ask("GET", "/metrics")).body


async def test_frozen_metrics_stay_what_they_were(sim):
    await sim.faults(metrics="frozen")
    before = await page(sim)
    await sim.chat()
    await sim.faults(delay_s=0)  # another fault doesn't thaw them
    assert await page(sim) == before
    await sim.ask("DELETE", "/admin/faults")
    assert await page(sim) != before


async def test_metrics_can_be_broken_and_slow(sim):
    await sim.faults(metrics="broken")
    assert (await sim.ask("GET", "/metrics")).status == 500
    await sim.faults(metrics="live", metrics_delay_s=0.2)
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert b"vllm:num_requests_running" in await page(sim)
    assert loop.time() - started >= 0.2


async def test_an_adapter_that_is_missing_is_vllms_404(sim):
    await sim.faults(missing_adapters=["new"])
    body = {"lora_name": "new", "lora_path": "/nowhere"}
    answer = await sim.ask("POST", "/v1/load_lora_adapter", body)
    assert answer.status == 404
    error = answer.json()["error"]
    assert error["message"] == "Loading lora new failed: No adapter found for /nowhere"
    assert error["type"] == "NotFoundError"


async def test_out_of_memory_ends_running_requests_with_vllms_error(slow):
    long = {"max_tokens": 5000, "ignore_eos": True}
    whole = asyncio.ensure_future(slow.chat(**long))
    stream = asyncio.ensure_future(slow.chat(stream=True, **long))
    await wait_for(lambda: len(slow.engine.running) == 2, what="both to run")
    await slow.faults(crash="oom")
    answer = await whole
    assert answer.status == 500
    assert answer.json()["error"]["message"].startswith("EngineCore encountered an issue.")
    assert "EngineCore encountered an issue." in (await stream).events()[-2]
    assert await asyncio.wait_for(slow.server.crashed, 5) == "oom"
    with pytest.raises(ConnectionError):
        await slow.chat()


async def test_out_of_memory_can_depend_on_the_cache(slow):
    await slow.faults(oom_at_usage=0.02)
    assert (await slow.chat()).status == 200
    crowd = [
        asyncio.ensure_future(slow.chat(max_tokens=900, ignore_eos=True, n=4)) for _ in range(4)
    ]
    statuses = {answer.status for answer in await asyncio.gather(*crowd)}
    assert statuses == {500}
    assert await asyncio.wait_for(slow.server.crashed, 5) == "oom"


async def test_a_crash_resets_what_runs(slow):
    talk = asyncio.ensure_future(slow.chat(max_tokens=5000, ignore_eos=True))
    await wait_for(lambda: slow.engine.running, what="the request to run")
    await slow.faults(crash="exit")
    with pytest.raises(ConnectionError):
        await talk
    assert slow.server.crashed.result() == "exit"
