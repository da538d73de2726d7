import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from tidegate.api.errors import ConflictError, UnavailableError
from tidegate.controllers.loop import Loop, Retry, back_off

pytestmark = pytest.mark.looptime  # virtual time: waiting takes none


class Recorder:
    """A reconciler that notes when which key ran, and does what `answer` says."""

    def __init__(self, answer: Callable[[str], Awaitable[Retry | None]] | None = None) -> None:
        self.runs: list[tuple[float, str]] = []
        self.at_once: dict[str, int] = {}
        self.most_at_once = 0
        self.answer = answer

    async def __call__(self, key: str) -> Retry | None:
        self.runs.append((round(asyncio.get_running_loop().time(), 3), key))
        self.at_once[key] = self.at_once.get(key, 0) + 1
        self.most_at_once = max(self.most_at_once, self.at_once[key])
        try:
            return await self.answer(key) if self.answer else None
        finally:
            self.at_once[key] -= 1

    def keys(self) -> list[str]:
        return [key for _, key in self.runs]


@asynccontextmanager
async def running(loop: Loop[str]) -> AsyncIterator[None]:
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def passed(seconds: float) -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, done.set)
    await done.wait()


async def takes_a_second(_: str) -> None:
    await passed(1)


async def test_many_adds_are_one_run():
    seen = Recorder()
    loop = Loop("test", seen)
    async with running(loop):
        for _ in range(10):
            loop.add("a")
        await passed(1)
    assert seen.keys() == ["a"]


async def test_a_burst_settles_before_it_runs():
    seen = Recorder()
    loop = Loop("test", seen, settle_s=0.5)
    async with running(loop):
        for _ in range(4):
            loop.add("a")
            await passed(0.1)
        await passed(1)
    assert seen.runs == [(0.5, "a")]


async def test_an_add_while_running_runs_once_more_and_never_at_the_same_time():
    seen = Recorder(takes_a_second)
    loop = Loop("test", seen)
    async with running(loop):
        loop.add("a")
        await passed(0.5)
        loop.add("a")
        loop.add("a")
        await passed(3)
    assert seen.runs == [(0.0, "a"), (1.0, "a")]
    assert seen.most_at_once == 1


async def test_keys_run_beside_each_other():
    seen = Recorder(takes_a_second)
    loop = Loop("test", seen)
    async with running(loop):
        loop.add("a")
        loop.add("b")
        await passed(0.5)
        assert seen.keys() == ["a", "b"]


async def test_failures_are_tried_again_later_and_later_and_success_forgets_them():
    failures = iter([True, True, True, False, True, False])

    async def answer(_: str) -> None:
        if next(failures):
            raise UnavailableError("no")

    seen = Recorder(answer)
    loop = Loop("test", seen)
    async with running(loop):
        loop.add("a")
        await passed(10)
        loop.add("a")
        await passed(10)
    assert [at for at, _ in seen.runs] == [0.0, 0.1, 0.3, 0.7, 10.0, 10.1]


async def test_what_changed_meanwhile_is_an_error_only_if_it_goes_on():
    failures = iter(
        [ConflictError("another"), UnavailableError("no"), None] + 3 * [ConflictError("x")]
    )

    async def answer(_: str) -> None:
        if (error := next(failures, None)) is not None:
            raise error

    loop = Loop("test", Recorder(answer))
    with capture_logs() as logs:
        async with running(loop):
            loop.add("a")
            await passed(10)
            loop.add("a")
            await passed(10)
    assert [each["log_level"] for each in logs] == ["info", "error", "info", "info", "error"]


async def test_one_failing_key_stops_no_other():
    async def answer(key: str) -> None:
        if key == "bad":
            raise UnavailableError(key)

    seen = Recorder(answer)
    loop = Loop("test", seen, parallel=1)
    async with running(loop):
        loop.add("bad")
        loop.add("good")
        await passed(0.05)
    assert seen.keys() == ["bad", "good"]


async def test_a_retry_comes_when_due_and_an_add_overtakes_it():
    async def answer(_: str) -> Retry | None:
        return Retry(10) if len(seen.runs) < 3 else None

    seen = Recorder(answer)
    loop = Loop("test", seen)
    async with running(loop):
        loop.add("a")
        await passed(15)
        loop.add("a")
        await passed(100)
    assert [at for at, _ in seen.runs] == [0.0, 10.0, 15.0]


def test_back_off_doubles_up_to_its_limit():
    assert [back_off(n, 0.5, 30.0) for n in (1, 2, 3, 7, 1000)] == [0.5, 1.0, 2.0, 30.0, 30.0]
