"""A simulated server in this process, on a real socket."""

from collections.abc import AsyncIterator

import openai
import pytest

from tidegate.process.clock import now
from tidegate.simulator.profiles import PROFILES
from tidegate.simulator.server import Server
from tidegate.simulator.settings import Settings
from tidegate.testing.http import Answer, exchange


class Simulated:
    """A server with ways to ask it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.engine = server.app.engine
        self.port = int(server.address.rpartition(":")[2])
        self.url = f"http://{server.address}"

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        return await exchange(self.port, method, path, body, headers)

    async def chat(self, **fields: object) -> Answer:
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, **fields}
        return await self.ask("POST", "/v1/chat/completions", body)

    async def faults(self, **fields: object) -> None:
        assert (await self.ask("POST", "/admin/faults", fields)).status == 200


async def started(profile: str, **fields: object) -> AsyncIterator[Simulated]:
    settings = Settings(profile=PROFILES[profile], **fields)
    async with Server(settings, now) as server:
        yield Simulated(server)


@pytest.fixture
async def sim() -> AsyncIterator[Simulated]:
    async for one in started("instant", models=("base", "alias"), adapters=("sql",)):
        yield one


@pytest.fixture
async def slow() -> AsyncIterator[Simulated]:
    async for one in started("demo"):
        yield one


@pytest.fixture
async def client(sim: Simulated) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0) as one:
        yield one
