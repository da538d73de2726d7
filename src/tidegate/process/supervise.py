"""The supervisor: keeps control and the workers running, and ends them in the right order.

It holds nothing that matters. If it is killed, its children go on; the next one ends the old
control process at once (nothing is lost by that), starts its own children, and lets the old
workers finish their requests once the new ones serve.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from tidegate.api.errors import TidegateError, UnavailableError
from tidegate.controllers.loop import pause, put_away
from tidegate.controllers.processes import last_line
from tidegate.process.children import Child, Say, Tail
from tidegate.process.settings import DataDir, Settings

START_S: Final = 60.0
"""How long control and workers may take to become ready."""
FAILURES: Final = 3
"""A child that ends so often before it is ready won't become so."""
LOOK_S: Final = 0.05
MARGIN_S: Final = 5.0
"""What a worker has beyond its drain before it is killed."""
KILL_S: Final = 5.0
"""What control has to kill the model servers when it is hurried."""


class StartError(TidegateError):
    """Tidegate doesn't come up."""

    reason = "StartFailed"


class Supervisor:
    """The children of one `tidegate up`."""

    def __init__(self, data: DataDir, settings: Settings, orphans: Sequence[str], say: Say) -> None:
        """Make it; nothing runs yet.

        Args:
            data: The data directory.
            settings: What the children are started with.
            orphans: Names of workers that still run: the new ones get others.
            say: Shows a line of a process.

        """
        self._data = data
        self._settings = settings
        self._say = say
        self._tail = Tail(say)
        self._tasks: list[asyncio.Task[None]] = []
        self._control = Child("control", "tidegate.process.control", data, ())
        self._workers = [
            Child(name, "tidegate.process.worker", data, (name.removeprefix("worker-"),))
            for name in _free_names(settings.workers, orphans)
        ]
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._received)

    async def start_control(self, ready: Callable[[], bool]) -> None:
        """Start control; return once `ready()`. Raises StartError."""
        self._begin(self._control)
        await self._until(self._control, lambda: asyncio.to_thread(ready))

    async def start_workers(self) -> None:
        """Start the workers; return once all of them serve. Raises StartError."""
        for worker in self._workers:
            self._begin(worker)
        for worker in self._workers:
            await self._until(worker, partial(self._serves, worker.name))

    @property
    def stopping(self) -> bool:
        """Whether we were told to stop."""
        return self._stop.is_set()

    async def pause(self, seconds: float) -> None:
        """Wait, unless we are told to stop."""
        await pause(seconds, self._stop)

    async def told_to_stop(self) -> None:
        """Wait for SIGTERM, Ctrl-C, or the end of the terminal."""
        await self._stop.wait()

    async def close(self) -> None:
        """End the workers, which finish their requests, then control and the model servers."""
        if self._stop.is_set():
            self._say("up", "stopping: requests under way may finish (Ctrl-C again: at once)")
        self._stop.set()  # whatever signal comes now is the second
        await self._end(self._workers, self._settings.drain_s + MARGIN_S, hurry_s=0.0)
        # How long model servers may take is their business: control knows.
        await self._end([self._control], None, hurry_s=KILL_S)
        await put_away(*self._tasks)

    def _received(self) -> None:
        (self._hurry if self._stop.is_set() else self._stop).set()

    def _begin(self, child: Child) -> None:
        if not self._tasks:
            self._tasks.append(asyncio.create_task(self._tail.run()))
        self._tail.add(child.name, child.log)
        task = asyncio.create_task(child.keep(self._say), name=child.name)
        self._tasks.append(task)

    async def _until(self, child: Child, ready: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(START_S):
                while not await ready():
                    if child.failures >= FAILURES:
                        raise StartError(_reason(child, "doesn't start"))
                    if await pause(LOOK_S, self._stop):
                        raise StartError("stopped before it was ready")
        except TimeoutError:
            raise StartError(_reason(child, f"isn't ready after {START_S:g} s")) from None

    async def _serves(self, name: str) -> bool:
        socket = self._data.socket(name.removeprefix("worker-"))
        with suppress(OSError, UnavailableError):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"GET /readyz HTTP/1.0\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
        return False

    async def _end(
        self, children: Sequence[Child], limit_s: float | None, *, hurry_s: float
    ) -> None:
        """End children with one SIGTERM, or with a second one if we are hurried, or else.

        Args:
            children: Whom.
            limit_s: How long the first may take.
            hurry_s: How long the second may take.

        """
        ended = asyncio.gather(*(self._ended(child) for child in children))
        hurried = asyncio.ensure_future(self._hurry.wait())
        _send(children, signal.SIGTERM)
        await asyncio.wait((ended, hurried), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        if hurried.done() and not ended.done():
            _send(children, signal.SIGTERM)
            await asyncio.wait((ended,), timeout=hurry_s)
        _send(children, signal.SIGKILL)
        await ended
        await put_away(hurried)

    async def _ended(self, child: Child) -> None:
        await asyncio.gather(*(task for task in self._tasks if task.get_name() == child.name))


def _send(children: Sequence[Child], number: signal.Signals) -> None:
    for child in children:
        child.stop(number)


def _free_names(count: int, taken: Sequence[str]) -> list[str]:
    names = (f"worker-{number}" for number in range(count + len(taken)))
    return [name for name in names if name not in taken][:count]


def _reason(child: Child, what: str) -> str:
    line = last_line(child.log)
    return f"{child.name} {what}; {child.log} ends with: {line}" if line else f"{child.name} {what}"
