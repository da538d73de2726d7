import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tidegate.controllers.replica import Place
from tidegate.controllers.roster import Roster
from tidegate.store.sqlite import Engine
from tidegate.testing.modelservers import World


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine.open(":memory:", now=lambda: 1_700_000_000.0)
    yield engine
    engine.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place("127.0.0.1", tmp_path / "logs", Roster(tmp_path / "run"))
    yield place
    for _, process in place.roster.survivors():
        psutil.Process(process.pid).kill()


@pytest.fixture
def worlds(engine: Engine, place: Place) -> Iterator[Callable[[], World]]:
    """Make controllers over the same store and machine, one after the other."""
    made: list[World] = []

    def make() -> World:
        made.append(World(engine, place))
        return made[-1]

    yield make
    for world in made:
        reap(world)


@pytest.fixture
async def world(worlds: Callable[[], World]) -> AsyncIterator[World]:
    async with worlds().running() as world:
        yield world


def reap(world: World) -> None:
    """Kill what a controller started; it isn't there any more to do it."""
    for fleet in world.controller.fleets.values():
        for replica in fleet._replicas.values():
            process = replica._process
            if process and process._child:
                process.send(signal.SIGKILL)
                process._child.wait()
