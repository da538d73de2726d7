"""The open loop: what is due starts, whatever comes back."""

import asyncio
from random import Random

import msgspec
import pytest

from tidegate.load.arrivals import bounded, poisson
from tidegate.load.sessions import Session, Workload
from tidegate.testing.waiting import wait_for


def test_arrivals_have_their_rate_and_are_reproducible():
    def arrivals():
        return list(bounded(poisson(Random(7), 100), 20, None))

    assert arrivals() == arrivals()
    assert 1800 < len(arrivals()) < 2200
    assert arrivals() == sorted(arrivals())
    assert len(list(bounded(poisson(Random(7), 100), 20, 5))) == 5


async def test_requests_start_when_due_though_none_is_answered(server, break_it, loader_of, rng):
    break_it(hang=True)
    results = []
    loop = loader_of(f"http://{server.address}").loop(results, sessions=30, rng=rng)
    task = asyncio.ensure_future(loop.run())
    await wait_for(lambda: loop.in_flight == 30, what="all to be in flight")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.in_flight == 0
    await wait_for(lambda: not server._connections, what="the connections to close")


async def test_beyond_the_limit_requests_are_counted_and_not_sent(load, break_it):
    break_it(hang=True)
    results = await load(sessions=10, max_in_flight=4, timeout_s=0.5)
    assert sorted(one.error for one in results) == ["overload"] * 6 + ["timeout"] * 4


async def test_a_stopped_run_finishes_what_it_began(server, loader_of, rng):
    results = []
    loop = loader_of(f"http://{server.address}").loop(results, sessions=100_000, rng=rng)
    task = asyncio.ensure_future(loop.run())
    await wait_for(lambda: len(results) > 10, what="some results")
    loop.stop()
    await task
    assert len(results) == loop.started
    assert not any(one.failed for one in results)


async def test_turns_carry_the_conversation_and_the_name(server, load):
    bodies = []
    handle = server.app.handle

    def spy(request, reply):
        bodies.append(msgspec.json.decode(request.body))
        handle(request, reply)

    server.app.handle = spy
    await load(sessions=1, turns=3)
    assert [len(one["messages"]) for one in bodies] == [2, 4, 6]
    assert bodies[2]["messages"][:4] == bodies[1]["messages"]
    assert len(bodies[2]["messages"][2]["content"].split()) == 5
    assert {one["prompt_cache_key"] for one in bodies} == {"session-0-0"}


def test_sessions_share_the_system_prompt_and_nothing_else():
    workload = Workload(model="m", identity="user")
    one, other, again = (
        msgspec.json.decode(Session(workload, 3, number).ask()) for number in (0, 1, 0)
    )
    assert one == again
    assert one["messages"][0] == other["messages"][0]
    assert one["messages"][1] != other["messages"][1]
    assert (one["user"], other["user"]) == ("session-3-0", "session-3-1")
