"""A simulated server to load, and an ill-mannered one."""

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random

import pytest

from tidegate.load.arrivals import bounded, poisson
from tidegate.load.client import Client, parse_target
from tidegate.load.loop import OpenLoop
from tidegate.load.result import Result
from tidegate.load.sessions import Workload
from tidegate.process.clock import now
from tidegate.simulator.faults import Faults
from tidegate.simulator.profiles import PROFILES
from tidegate.simulator.server import Server
from tidegate.simulator.settings import Settings

MODEL = "base"


class Loader:
    """Loads one URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def loop(self, results: list[Result], sessions: int = 20, **fields) -> OpenLoop:
        options = {name: fields.pop(name) for name in ("max_in_flight",) if name in fields}
        timeout = fields.pop("timeout_s", 5.0)
        client = Client(parse_target(self.url), time.perf_counter, timeout)
        arrivals = bounded(poisson(fields.pop("rng"), 500), 60, sessions)
        workload = Workload(**{"model": MODEL, "max_tokens": 5, **fields})
        return OpenLoop(
            client, workload, arrivals, results.append, clock=time.perf_counter, **options
        )

    async def run(self, **fields) -> list[Result]:
        results: list[Result] = []
        await self.loop(results, **fields).run()
        return results


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    settings = Settings(models=(MODEL,), profile=PROFILES["instant"])
    async with Server(settings, now) as one:
        yield one


@pytest.fixture
def break_it(server):
    def set_faults(**fields) -> None:
        server.app.faults = Faults(**fields)

    return set_faults


@pytest.fixture
def load(server, rng):
    async def run(**fields) -> list[Result]:
        return await Loader(f"http://{server.address}").run(rng=rng, **fields)

    return run


@pytest.fixture
async def answering() -> AsyncIterator:
    """Serve fixed bytes to whatever comes, then close."""
    servers = []

    async def start(data: bytes) -> Loader:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
            writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return Loader(f"http://127.0.0.1:{servers[-1].sockets[0].getsockname()[1]}")

    yield start
    for one in servers:
        one.close()
        await one.wait_closed()


@pytest.fixture
def loader_of():
    return Loader


@pytest.fixture
def rng() -> Random:
    return Random(1)
