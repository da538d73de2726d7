"""Blocks in from workers: nothing twice, nothing lost that was kept, fair counts of sessions."""

from pathlib import Path
from random import Random
from typing import Self

import pytest

from tidegate.controllers.records import Records
from tidegate.controllers.trail import Trail
from tidegate.gateway.admin import Admin
from tidegate.gateway.recorder import Recorder
from tidegate.judge.block import SKETCH, Block, Folder, Place
from tidegate.judge.record import Record
from tidegate.telemetry.shelf import Frame, Shelf

SCOPE = "default/route/chat"
UID = "uid-1"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def record(arm: str, *, session: int = 0, status: int = 200, at: float = 1000.0) -> Record:
    return Record(
        started_at=at,
        route="default/route",
        rule="chat",
        arm=arm,
        pool=f"default/{arm}",
        model="m",
        status=status,
        session=session,
        duration_s=0.1,
    )


class Worker:
    """One run of a worker: a recorder behind a socket."""

    def __init__(self, folder: Path, clock: Clock, boot: str) -> None:
        self.running: dict[int, Record] = {}
        self.recorder = Recorder(self.running, clock, boot=boot)
        self.admin = Admin(
            folder / "worker-0.sock",
            snapshot=lambda: b"",
            records=self.recorder.answer,
            heard=lambda: b"",
            render=lambda _: b"",
            ready=lambda: True,
        )

    def serve(self, arm: str, count: int, **fields: int) -> None:
        for _ in range(count):
            self.recorder.fold(record(arm, **fields))

    async def __aenter__(self) -> Self:
        await self.admin.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.admin.close()


def following(folder: Path, clock: Clock) -> tuple[Records, Trail]:
    records = Records(folder, Shelf(folder / "records"), clock, lambda _uid: None)
    return records, records.follow(UID, Trail(SCOPE, "llm", "llm-new"))


def requests(trail: Trail) -> tuple[int, int]:
    tally = trail.tally(0.0)
    return tally.stable.requests, tally.canary.requests


async def test_blocks_are_counted_once_however_often_they_are_asked_for(tmp_path, clock):
    records, trail = following(tmp_path, clock)
    async with Worker(tmp_path, clock, "one") as worker:
        worker.serve("llm", 5)
        worker.serve("llm-new", 2)
        await records.look()
        await records.look()
        assert requests(trail) == (5, 2)
        worker.serve("llm-new", 3)
        await records.look()
        assert requests(trail) == (5, 5)


async def test_what_is_under_way_is_told_by_workers_that_were_asked_since(tmp_path, clock):
    records, _ = following(tmp_path, clock)
    async with Worker(tmp_path, clock, "one") as worker:
        worker.running[1] = record("llm")
        await records.look()
        assert records.running("default/llm") == 1
        assert records.running("default/llm", since=clock.now + 0.1) is None
        clock.now += 0.2
        worker.running.clear()
        await records.look()
        assert records.running("default/llm", since=clock.now - 0.1) == 0


async def test_a_controller_that_starts_again_has_what_was_counted(tmp_path, clock):
    records, _ = following(tmp_path, clock)
    async with Worker(tmp_path, clock, "one") as worker:
        worker.serve("llm", 5)
        await records.look()
        worker.serve("llm", 1)
        await records.look()
        worker.serve("llm", 4)
        again, trail = following(tmp_path, clock)
        assert requests(trail) == (6, 0)
        # The worker sends its last parcel once more: it doesn't know that it came.
        await again.look()
        await again.look()
        assert requests(trail) == (10, 0)


async def test_a_worker_that_starts_again_counts_from_the_beginning(tmp_path, clock):
    records, trail = following(tmp_path, clock)
    for boot in ("one", "two"):
        async with Worker(tmp_path, clock, boot) as worker:
            worker.serve("llm", 5)
            await records.look()
    assert requests(trail) == (10, 0)


async def test_other_rules_and_arms_are_left_out(tmp_path, clock):
    records, trail = following(tmp_path, clock)
    async with Worker(tmp_path, clock, "one") as worker:
        worker.serve("other", 5)
        other = record("llm")
        other.rule = "0"
        worker.recorder.fold(other)
        await records.look()
    assert requests(trail) == (0, 0)


async def test_requests_under_way_are_known_while_the_worker_answers(tmp_path, clock):
    records, _ = following(tmp_path, clock)
    async with Worker(tmp_path, clock, "one") as worker:
        worker.running[1] = record("llm", status=0)
        await records.look()
        assert records.running("default/llm") == 1
        assert records.running("default/llm", frozenset({"m"})) == 1
        assert records.running("default/llm", frozenset({"x"})) == 0
        clock.now += 10
        assert records.running("default/llm") is None
    await records.look()
    assert records.running("default/llm") is None


async def test_what_requests_ask_for_is_remembered(tmp_path, clock):
    records, _ = following(tmp_path, clock)
    async with Worker(tmp_path, clock, "one") as worker:
        asked = record("llm")
        asked.features, asked.max_tokens, asked.prompt_tokens = 1 | 16, 100, 900
        worker.recorder.fold(asked)
        await records.look()
        traffic = records.traffic(SCOPE)
        assert traffic.models == {"m"}
        assert traffic.features == {"tools", "seed"}
        assert traffic.longest == 1000
        assert records.traffic("default/other/0").models is None


def test_a_file_that_ends_in_the_middle_is_read_to_there(tmp_path: Path):
    shelf = Shelf(tmp_path)
    block = Block(Place(1.0, SCOPE, "llm", 0), 1.0, requests=3)
    for number in (1, 2):
        shelf.append(UID, Frame("one", number, [block]))
    path = tmp_path / f"{UID}.blocks"
    path.write_bytes(path.read_bytes()[:-3])
    assert [frame.number for frame in shelf.read(UID)] == [1]


@pytest.mark.parametrize("sessions", [20, 3000])
def test_the_share_counts_sessions_once_and_fairly(sessions: int):
    rng = Random(sessions)
    names = {rng.getrandbits(64): rng.random() < 0.3 for _ in range(sessions)}
    trail = Trail(SCOPE, "llm", "llm-new")
    folder = Folder(span_s=1.0)
    for number in range(4):
        for name, moved in names.items():
            for _ in range(2 if moved else 1):  # the canary's sessions ask more often
                arm = "llm-new" if moved else "llm"
                folder.fold(record(arm, session=name, at=1000.0 + number))
        trail.add("one", number, folder.take())
    canary, total = trail.share(1000.0)
    if sessions < SKETCH:
        assert (canary, total) == (sum(names.values()), sessions)
    else:
        assert total >= SKETCH
        assert abs(canary / total - 0.3) < 4 * (0.21 / total) ** 0.5
