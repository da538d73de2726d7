"""The poller against a simulated vLLM that works."""

import asyncio
from contextlib import suppress
from random import Random

from tidegate.picker.state import UNSEEN, fold
from tidegate.process.clock import now
from tidegate.scrape.poll import Poller
from tidegate.simulator.profiles import PROFILES
from tidegate.simulator.server import Server
from tidegate.simulator.settings import Settings
from tidegate.testing.http import exchange
from tidegate.testing.waiting import wait_for


async def test_state_follows_what_the_server_does():
    settings = Settings(models=("base",), adapters=("sql",), profile=PROFILES["demo"])
    async with Server(settings, now) as server:
        state = UNSEEN

        def heard(_, event):
            nonlocal state
            state = fold(state, event, asyncio.get_running_loop().time())

        poller = Poller(heard, rng=Random(1), interval_s=0.01)
        poller.set_endpoints({server.address: "vllm"})
        polling = asyncio.create_task(poller.run())
        await wait_for(lambda: [model.id for model in state.models] == ["base", "sql"])
        assert state.models[1].parent == "base"
        assert (state.load, state.sampled_at is not None) == (0, True)

        port = int(server.address.rpartition(":")[2])
        body = {"model": "sql", "prompt": "hello", "max_tokens": 40, "ignore_eos": True}
        asked = [
            asyncio.create_task(exchange(port, "POST", "/v1/completions", body, {}))
            for _ in range(3)
        ]
        await wait_for(lambda: state.load == 3 and state.kv_usage > 0)
        assert "sql" in state.adapters.running
        await asyncio.gather(*asked)
        await wait_for(lambda: state.load == 0)

        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling
