"""Webhooks at gates, notices, adapters: bounded, tried again, never in the way."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tidegate.controllers.calls import Calls
from tidegate.controllers.jobs import JobError
from tidegate.testing.endpoints import ScriptedEndpoint, Seen, answer, says, scripted
from tidegate.testing.steered import steered

SPEC = {
    "steps": [{"setWeight": 20}],
    "analysis": {"duration": "3s", "minRequests": 5, "advanceWhen": "NotWorse"},
    "bake": "2s",
    "drain": "2s",
}
SAID = (("content-type", "application/json"), ("connection", "close"))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedEndpoint]:
    async with scripted(says(answer(200, headers=SAID))) as made:
        yield made


def hooks(server: ScriptedEndpoint, *gates: str, **fields: object) -> list[dict[str, object]]:
    url = f"http://{server.address}/hook"
    return [{"gate": gate, "url": url, **fields} for gate in gates]


def bodies(server: ScriptedEndpoint) -> list[dict[str, object]]:
    return [msgspec.json.decode(seen.body) for seen in server.seen]


async def test_every_gate_is_asked_once_before_its_step(server: ScriptedEndpoint, tmp_path: Path):
    gates = ("BeforeStart", "BeforeIncrease", "BeforePromotion", "After")
    async with steered(tmp_path, **SPEC, hooks=hooks(server, *gates)) as world:
        await world.until("Completed")
        await world.look()
        asked = [(body["gate"], body["weights"]["effective"]) for body in bodies(server)]
        assert asked == [
            ("BeforeStart", 0),
            ("BeforeIncrease", 0),
            ("BeforeIncrease", 20),
            ("BeforePromotion", 20),
            ("After", 100),
        ]
        assert {body["rollout"] for body in bodies(server)} == {"move"}


async def test_a_gate_that_is_closed_holds_and_an_abort_passes(
    server: ScriptedEndpoint, tmp_path: Path
):
    server.script = says(answer(403, b"not on a Friday", headers=SAID))
    async with steered(tmp_path, **SPEC, hooks=hooks(server, "BeforeStart")) as world:
        rollout = await world.until("Paused")
        assert "the gate BeforeStart/0 is closed" in rollout.status.message
        assert "answered 403 not on a Friday" in rollout.status.message
        assert await world.weights() == (100, 0)
        await world.intend(abort=True)
        await world.look()
        assert (await world.rollout()).status.phase == "Aborted"


async def test_a_hook_that_hangs_does_not_keep_an_abort_waiting(
    server: ScriptedEndpoint, tmp_path: Path
):
    async def hang(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server.script = hang
    async with steered(tmp_path, **SPEC, hooks=hooks(server, "BeforePromotion")) as world:
        await world.until("Progressing")
        world.patient = False
        for _ in range(8):
            await world.second()
        assert await world.weights() == (80, 20)
        await world.intend(abort=True)
        await world.look()
        assert await world.weights() == (100, 0)


async def test_notices_are_what_slack_takes_and_only_of_the_phases_asked(
    server: ScriptedEndpoint, tmp_path: Path
):
    notify = [{"url": f"http://{server.address}/notice", "phases": ["Completed"]}]
    async with steered(tmp_path, **SPEC, notify=notify) as world:
        await world.until("Completed")
        await world.look()
        (told,) = bodies(server)
        assert told["text"] == (
            "default/move Completed: llm-new has taken over all requests from llm"
        )


async def test_a_hook_is_tried_again_when_it_fails(server: ScriptedEndpoint, tmp_path: Path):
    async def first_busy(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(503 if len(server.seen) < 3 else 200, headers=SAID))
        writer.close()

    server.script = first_busy
    async with steered(tmp_path, **SPEC, hooks=hooks(server, "BeforeStart", retries=3)) as world:
        await world.until("Progressing")
        assert len(server.seen) == 3


async def test_an_adapter_that_cannot_be_loaded_is_told_in_the_servers_words(
    server: ScriptedEndpoint,
):
    calls = Calls()
    try:
        await calls.load(server.address, "v2", "/files/v2")
        assert bodies(server) == [{"lora_name": "v2", "lora_path": "/files/v2"}]
        server.script = says(
            answer(400, b'{"message": "v2 has already been loaded"}', headers=SAID)
        )
        await calls.load(server.address, "v2", "/files/v2")
        server.script = says(answer(404, b'{"message": "No adapter found for v2"}', headers=SAID))
        with pytest.raises(JobError, match="No adapter found for v2"):
            await calls.load(server.address, "v2", "/files/v2")
    finally:
        await calls.close()
