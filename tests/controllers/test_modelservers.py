import asyncio
import contextlib
import http.client
import os
import signal

import psutil
import pytest

from tidegate.api.errors import NotFoundError
from tidegate.api.meta import Key
from tidegate.api.tidegate import ModelServer, ModelServerStatus
from tidegate.testing.modelservers import World, living
from tidegate.testing.tiny_server import tiny
from tidegate.testing.waiting import wait_for

LLM = Key("default", "llm")


def fetch(address: str, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


async def ask(address: str, path: str) -> bytes:
    return await asyncio.to_thread(fetch, address, path)


def states(status: ModelServerStatus) -> list[str]:
    return [endpoint.state for endpoint in status.endpoints]


def pids(status: ModelServerStatus) -> list[int | None]:
    return [endpoint.pid for endpoint in status.endpoints]


async def test_a_command_runs_as_many_processes_as_replicas_and_they_become_ready(world: World):
    server = await world.apply(tiny(replicas=2, env=[{"name": "TINY", "value": "at {port}"}]))
    status = await world.ready(2)
    assert [endpoint.replica for endpoint in status.endpoints] == [0, 1]
    assert status.observed_generation == server.metadata.generation
    for endpoint in status.endpoints:
        port = endpoint.address.rpartition(":")[2]
        assert await ask(endpoint.address, "/env") == f"at {port}".encode()
    assert living(server.metadata.uid) == set(pids(status))


async def test_a_new_process_is_starting_before_it_is_ready(world: World):
    await world.apply(tiny())
    await world.ready(1)
    seen = [states(status) for status in world.history if status.endpoints]
    assert seen[0] == ["Starting"]
    assert seen[-1] == ["Ready"]


async def test_a_settled_status_is_not_written_again(world: World):
    await world.apply(tiny())
    await world.ready(1)
    written = (await world.engine.get(ModelServer, LLM)).metadata.resource_version
    for _ in range(3):
        world.controller.loop.add(LLM)
        await world.controller.reconcile(LLM)
    assert (await world.engine.get(ModelServer, LLM)).metadata.resource_version == written


async def test_replicas_are_added_and_the_last_ones_go_first(world: World):
    await world.apply(tiny(replicas=1))
    first = await world.ready(1)
    await world.apply(tiny(replicas=3))
    three = await world.ready(3)
    assert pids(three)[0] == pids(first)[0]
    await world.apply(tiny(replicas=1))
    assert pids(await world.ready(1)) == pids(first)
    await world.apply(tiny(replicas=0))
    assert (await world.ready(0)).conditions[0].message == "0 of 0 ready"


async def test_a_killed_process_is_started_again_and_counted(world: World):
    await world.apply(tiny())
    before = await world.ready(1)
    os.kill(pids(before)[0], signal.SIGKILL)
    told = await world.until("the kill", lambda s: "Unhealthy" in states(s))
    assert "SIGKILL" in told.endpoints[0].message
    assert told.conditions[0].status == "False"
    after = await world.ready(1)
    assert after.endpoints[0].restarts == 1
    assert pids(after) != pids(before)


async def test_a_crash_is_told_with_the_last_line_of_the_log_and_backs_off(world: World):
    await world.apply(tiny("crash"))
    status = await world.until("two crashes", lambda s: s.endpoints and s.endpoints[0].restarts > 0)
    messages = [s.endpoints[0].message for s in world.history if s.endpoints]
    crashed = [m for m in messages if "next start" in m]
    assert crashed[0] == (
        "exited with code 1; its log ends with: CUDA out of memory; next start in 0.5 s"
    )
    await world.until("longer pause", lambda s: "in 1 s" in s.endpoints[0].message)
    assert status.conditions[0].status == "False"


async def test_a_program_that_is_missing_is_told_in_plain_words(world: World):
    await world.apply(tiny() | {"command": ["no-such-program", "{port}"]})
    status = await world.until("the problem", lambda s: "Unhealthy" in states(s))
    assert "no such program on the PATH" in status.endpoints[0].message
    assert status.conditions[0].reason == "Unhealthy"


async def test_a_server_that_fails_its_health_checks_is_restarted(world: World):
    await world.apply(tiny())
    before = await world.ready(1)
    await ask(before.endpoints[0].address, "/be/unwell")
    status = await world.until("trouble", lambda s: "Unhealthy" in states(s))
    assert "failed 2 health checks in a row: /health answered 503" in status.endpoints[0].message
    assert pids(await world.ready(1)) != pids(before)


async def test_a_server_that_never_becomes_well_is_restarted(world: World):
    spec = tiny("unwell")
    spec["health"]["startupSeconds"] = 2.0  # a process may need one to listen
    await world.apply(spec)
    status = await world.until("trouble", lambda s: "Unhealthy" in states(s))
    assert "not ready after 2 s: /health answered 503" in status.endpoints[0].message


async def test_stopping_is_published_before_the_process_ends(world: World):
    await world.apply(tiny(replicas=2))
    before = await world.ready(2)
    await world.apply(tiny(replicas=1))
    await world.until("stopping", lambda s: states(s) == ["Ready", "Stopping"])
    assert psutil.pid_exists(pids(before)[1])
    await world.ready(1)
    assert not psutil.pid_exists(pids(before)[1])


async def test_a_stopping_server_may_finish_its_requests(world: World):
    await world.apply(tiny())
    address = (await world.ready(1)).endpoints[0].address
    await ask(address, "/be/busy")
    await world.apply(tiny(replicas=0))
    await world.until("stopping", lambda s: states(s) == ["Stopping"])
    for _ in range(10):  # it is asked all the time, and isn't ended
        assert b"running 1" in await ask(address, "/metrics")
    await ask(address, "/be/idle")
    await world.ready(0)


async def test_a_stopping_server_that_is_too_busy_to_say_so_may_finish_too(world: World):
    await world.apply(tiny())
    address = (await world.ready(1)).endpoints[0].address
    await ask(address, "/be/mute")
    await world.apply(tiny(replicas=0))
    await world.until("stopping", lambda s: states(s) == ["Stopping"])
    while int(await ask(address, "/asked")) < 3:
        pass
    await ask(address, "/be/heard")
    await world.ready(0)


async def test_a_server_that_ignores_sigterm_is_killed_after_its_grace_period(world: World):
    server = await world.apply(tiny("deaf", terminationGracePeriodSeconds=0.3))
    await world.ready(1)
    await world.apply(tiny("deaf", replicas=0, terminationGracePeriodSeconds=0.3))
    await world.ready(0)
    assert living(server.metadata.uid) == set()


async def test_a_new_command_is_rolled_out_one_replica_at_a_time(world: World):
    await world.apply(tiny(replicas=3))
    old = await world.ready(3)
    mark = len(world.history)
    await world.apply(tiny("anew", replicas=3))
    new = await world.until(
        "the new ones", lambda s: s.ready_replicas == 3 and not set(pids(s)) & set(pids(old))
    )
    assert len(set(pids(new))) == 3
    assert min(status.ready_replicas for status in world.history[mark:]) == 2
    assert new.endpoints[0].restarts == 0


async def test_a_broken_new_command_stops_the_roll_at_the_first_replica(world: World):
    await world.apply(tiny(replicas=2))
    await world.ready(2)
    await world.apply(tiny("crash", replicas=2))
    status = await world.until("the crash", lambda s: "Unhealthy" in states(s))
    assert sorted(states(status)) == ["Ready", "Unhealthy"]
    assert status.conditions[0].status == "False"
    await world.apply(tiny(replicas=2))
    await world.ready(2)


async def test_a_change_of_health_checks_restarts_nobody(world: World):
    await world.apply(tiny())
    before = await world.ready(1)
    changed = tiny()
    changed["health"]["periodSeconds"] = 0.2
    server = await world.apply(changed)
    status = await world.until(
        "the new spec", lambda s: s.observed_generation == server.metadata.generation
    )
    assert pids(status) == pids(before)


async def test_deletion_waits_for_the_processes(world: World):
    server = await world.apply(tiny(replicas=2))
    await world.ready(2)
    assert (
        "tidegate.dev/processes" in (await world.engine.get(ModelServer, LLM)).metadata.finalizers
    )
    await world.engine.delete(ModelServer, LLM)
    await world.until("stopping", lambda s: states(s) == ["Stopping", "Stopping"])
    assert len(living(server.metadata.uid)) == 2

    async def gone() -> bool:
        with contextlib.suppress(NotFoundError):
            await world.engine.get(ModelServer, LLM)
            return False
        return True

    await wait_for(gone)
    assert living(server.metadata.uid) == set()
    await world.apply(tiny())
    await world.ready(1)


async def test_addresses_are_watched(world: World):
    await world.apply(tiny())
    address = (await world.ready(1)).endpoints[0].address
    health = {"periodSeconds": 0.05, "failureThreshold": 2}
    await world.apply({"addresses": [address, "127.0.0.1:9"], "health": health}, "elsewhere")
    status = await world.until(
        "both states", lambda s: states(s) == ["Ready", "Unhealthy"], "elsewhere"
    )
    assert status.endpoints[1].message == "connection refused"
    assert status.conditions[0].message.startswith("1 of 2 ready; 127.0.0.1:9: ")
    await world.apply({"addresses": [address], "health": health}, "elsewhere")
    await world.ready(1, "elsewhere")
    assert "tidegate.dev/processes" not in (
        (await world.engine.get(ModelServer, Key("default", "elsewhere"))).metadata.finalizers
    )


async def test_after_a_crash_the_processes_are_taken_over(worlds, place):
    async with worlds().running() as world:
        await world.apply(tiny(replicas=2))
        before = await world.ready(2)
    async with worlds().running() as world:
        await wait_for(lambda: world.controller.fleets)
        await world.controller.reconcile(LLM)
        assert pids(await world.ready(2)) == pids(before)
        assert all(states(status) == ["Ready", "Ready"] for status in world.history)
        os.kill(pids(before)[0], signal.SIGKILL)  # and they are watched as before
        await world.until("a restart", lambda s: s.endpoints[0].restarts == 1)
        after = await world.ready(2)
        assert pids(after)[1] == pids(before)[1]
        assert after.endpoints[0].address == before.endpoints[0].address


async def test_a_process_that_was_started_but_not_written_down_is_found(worlds, place):
    async with worlds().running() as world:
        server = await world.apply(tiny())
        before = await world.ready(1)
    for record, _ in place.roster.survivors():
        place.roster.save(
            type(record)(uid=record.uid, replica=0, revision=record.revision, port=record.port)
        )
    async with worlds().running() as world:
        assert pids(await world.ready(1)) == pids(before)
        assert living(server.metadata.uid) == set(pids(before))


async def test_processes_that_are_not_wanted_any_more_are_ended_after_a_crash(worlds, place):
    async with worlds().running() as world:
        gone = await world.apply(tiny(), "gone")
        await world.ready(1, "gone")
        await world.apply(tiny(replicas=2))
        await world.ready(2)
    key = Key("default", "gone")
    await world.engine.apply(ModelServer, key, {}, manager="tidegate-modelservers")  # no finalizer
    await world.engine.delete(ModelServer, key)
    async with worlds().running() as world:
        await world.apply(tiny(replicas=1))
        await world.ready(1)
        await wait_for(lambda: not living(gone.metadata.uid))


async def test_closing_ends_all_processes_together_and_says_so(world: World):
    servers = [await world.apply(tiny(replicas=2), name) for name in ("a", "b")]
    for name in ("a", "b"):
        await world.ready(2, name)
    await world.controller.close()
    for server in servers:
        assert living(server.metadata.uid) == set()
        status = await world.status(server.metadata.name)
        assert (status.endpoints, status.ready_replicas) == ((), 0)
        assert status.conditions[0].reason == "Stopped"


async def test_killing_hurries_a_close_up(world: World):
    server = await world.apply(tiny("deaf"))
    await world.ready(1)
    closing = asyncio.create_task(world.controller.close())
    await world.until("stopping", lambda s: "Stopping" in states(s))
    world.controller.kill()
    await asyncio.wait_for(closing, 5)
    assert living(server.metadata.uid) == set()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
async def test_what_a_process_started_ends_with_it(world: World, signal_number):
    script = "sleep 1000 & exec " + " ".join(f'"{word}"' for word in tiny()["command"])
    server = await world.apply(tiny() | {"command": ["sh", "-c", script]})
    status = await world.ready(1)
    assert len(living(server.metadata.uid)) == 2
    before = living(server.metadata.uid)
    os.kill(pids(status)[0], signal_number)
    await world.until("a restart", lambda s: s.ready_replicas == 1 and pids(s) != pids(status))
    after = living(server.metadata.uid)
    assert len(after) == 2
    assert not after & before
