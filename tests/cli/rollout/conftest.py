"""A real API without controllers: a rollout's status is what the test says."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from tidegate.api.meta import Key
from tidegate.api.rollout import InferenceRollout
from tidegate.cli import main
from tidegate.store.client import HttpStore
from tidegate.testing.api import ApiProcess
from tidegate.testing.rollouts import World

SPEC = {
    "stable": "llm",
    "canary": "llm-new",
    "steps": [{"setWeight": 10}, {"setWeight": 50}],
    "analysis": {"duration": "30s"},
    "bake": "60s",
    "drain": "60s",
}


class Desk:
    """The command line and what it works on."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def __call__(self, *arguments: str) -> Result:
        """Run `tidegate rollout ARGUMENTS`."""
        command = ["rollout", *arguments, "--kubeconfig", str(self.kubeconfig)]
        return CliRunner().invoke(main, command)

    def put(self, name: str, world: World) -> None:
        """Have a rollout whose controller has come as far as `world` says."""

        async def work(store: HttpStore) -> None:
            key = Key("default", name)
            fields = {"spec": world.spec}
            made = await store.apply(InferenceRollout, key, fields, manager="test", force=True)
            status = msgspec.json.decode(world.status)
            status["observedGeneration"] = made.metadata.generation
            await store.apply_status(InferenceRollout, key, status, manager="test")

        self.with_store(work)

    def get(self, name: str) -> InferenceRollout:
        """Return a rollout as it is now."""
        return self.with_store(lambda store: store.get(InferenceRollout, Key("default", name)))

    def with_store(self, work: Any) -> Any:
        """Return what `work` returns of a client of the store."""

        async def whole() -> Any:
            store = HttpStore.from_kubeconfig(self.kubeconfig)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(whole())


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    process = ApiProcess(tmp_path_factory.mktemp("api"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def desk(api: ApiProcess) -> Desk:
    return Desk(api.kubeconfig)


@pytest.fixture
def world() -> World:
    """A rollout that looks at its canary at 10 %."""
    world = World(dict(SPEC))
    world.look()
    return world
