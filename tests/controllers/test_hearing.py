"""What several workers say of a pool's metrics, and what becomes of it in the pool's status."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tidegate.api.meta import Key
from tidegate.api.versions import decode
from tidegate.controllers.hearing import SILENT_S, Hearing
from tidegate.gateway.admin import Admin
from tidegate.routing.snapshot import Snapshot
from tidegate.telemetry.heard import Heard, PoolHeard, Report, encode

KEY = Key("default", "llm")
NOTHING = Snapshot.of([])


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """What one worker says."""

    def __init__(self) -> None:
        self.report = Report()

    def hears(self, *heard: Heard) -> None:
        self.report = Report([PoolHeard(str(KEY), list(heard))])

    def answer(self) -> bytes:
        return encode(self.report)


@asynccontextmanager
async def serving(folder: Path, name: str) -> AsyncIterator[Worker]:
    worker = Worker()
    admin = Admin(
        folder / f"{name}.sock",
        snapshot=lambda: b"",
        records=lambda _: b"",
        heard=worker.answer,
        render=lambda _: b"",
        ready=lambda: True,
    )
    await admin.start("127.0.0.1", 0)
    yield worker
    admin.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def workers(tmp_path) -> AsyncIterator[tuple[Worker, Worker]]:
    async with serving(tmp_path, "worker-0") as one, serving(tmp_path, "worker-1") as other:
        yield one, other


SPECS = {
    "inference.networking.k8s.io/v1": {
        "selector": {"matchLabels": {"app": "llm"}},
        "targetPorts": [{"number": 8000}],
    },
    "inference.networking.x-k8s.io/v1alpha2": {
        "selector": {"app": "llm"},
        "targetPortNumber": 8000,
        "extensionRef": {"name": "x"},
    },
}


def told(version: str, name: str) -> Snapshot:
    """Return a cache with a pool whose status says something, in the field `name`."""
    condition = {"type": "MetricsFresh", "status": "False", "reason": "MetricsStale"}
    parent = {
        "parentRef": {"name": "gw"},
        "controllerName": "tidegate.dev/gateway",
        "conditions": [condition | {"message": "as before"}],
    }
    pool = {
        "apiVersion": version,
        "kind": "InferencePool",
        "metadata": {"name": "llm", "namespace": "default"},
        "spec": SPECS[version],
        "status": {name: [parent]},
    }
    return Snapshot.of([decode(pool)])


async def looks(hearing: Hearing, clock: Clock, seconds: int) -> list[str]:
    """Look each second; return the reasons that were told as news."""
    news = []
    for _ in range(seconds):
        if await hearing.look():
            verdict = hearing.verdict(KEY)
            news.append(verdict.reason if verdict else "")
        clock.now += 1
    return news


async def test_one_worker_that_hears_an_endpoint_is_enough(tmp_path, clock, workers):
    hearing = Hearing(NOTHING, tmp_path, clock)
    workers[0].hears(Heard("a:1", None))
    workers[1].hears(Heard("a:1", 0.2))
    assert await looks(hearing, clock, 30) == ["MetricsFresh"]


async def test_an_endpoint_that_no_worker_hears_is_news_once(tmp_path, clock, workers):
    hearing = Hearing(NOTHING, tmp_path, clock)
    for worker in workers:
        worker.hears(Heard("a:1", 0.2))
    await looks(hearing, clock, 2)
    for worker in workers:
        worker.hears(Heard("a:1", 9.0))
    assert await looks(hearing, clock, 30) == ["MetricsStale"]


async def test_a_worker_that_has_no_table_yet_says_nothing(tmp_path, clock, workers):
    hearing = Hearing(NOTHING, tmp_path, clock)
    workers[0].hears(Heard("a:1", 0.2))
    assert await looks(hearing, clock, 30) == ["MetricsFresh"]


async def test_without_a_worker_nothing_is_known_after_a_while(tmp_path, clock):
    hearing = Hearing(NOTHING, tmp_path, clock)
    async with serving(tmp_path, "worker-0") as worker:
        worker.hears(Heard("a:1", 0.2))
        await looks(hearing, clock, 1)
    assert await looks(hearing, clock, int(SILENT_S) - 1) == []
    assert await looks(hearing, clock, 30) == ["NoWorkers"]
    async with serving(tmp_path, "worker-0") as worker:
        worker.hears(Heard("a:1", 0.2))
        assert await looks(hearing, clock, 1) == ["MetricsFresh"]


@pytest.mark.parametrize(("version", "name"), [*zip(SPECS, ("parents", "parent"), strict=True)])
async def test_a_controller_that_starts_leaves_what_the_status_says(
    tmp_path, clock, workers, version, name
):
    hearing = Hearing(told(version, name), tmp_path, clock)
    assert hearing.verdict(KEY).message == "as before"
    workers[0].hears(Heard("a:1", 60.0))
    await looks(hearing, clock, 3)
    assert hearing.verdict(KEY).message == "as before"
    assert await looks(hearing, clock, 1) == ["MetricsStale"]
    assert "a:1" in hearing.verdict(KEY).message


async def test_a_pool_that_no_worker_has_is_not_spoken_of(tmp_path, clock, workers):
    hearing = Hearing(NOTHING, tmp_path, clock)
    workers[0].hears(Heard("a:1", 0.2))
    await looks(hearing, clock, 1)
    assert hearing.verdict(Key("default", "other")) is None
