"""Child processes of `tidegate up`: kept alive, their logs shown, found again by the next one.

A child writes its log to a file, not into a pipe: a supervisor that is killed must not take
its children along. What they write is shown on the console by reading the file.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tidegate.controllers.loop import back_off, pause
from tidegate.controllers.processes import Command, Process, marked
from tidegate.process.settings import LOG_LIMIT, DataDir

MARK: Final = "TIDEGATE_PROCESS"
"""The environment variable by which the next supervisor finds our children."""
BACK_OFF_S: Final = 0.1
BACK_OFF_LIMIT_S: Final = 5.0
STEADY_S: Final = 10.0
"""A child that ran for so long has forgotten its failures."""
LOOK_S: Final = 0.1
"""How often the logs are looked at."""

Say = Callable[[str, str], None]
"""Shows one line of a process: its name and the text."""


class Child:
    """A process that is started again whenever it ends, until it is stopped."""

    def __init__(self, name: str, module: str, data: DataDir, arguments: tuple[str, ...]) -> None:
        """Make a child that doesn't run yet.

        Args:
            name: What its log is called, and what people see.
            module: What it runs, `python -m`.
            data: Its data directory, which is its first argument.
            arguments: The others.

        """
        self.name = name
        self.log = data.log(name)
        self.failures = 0
        """Ends in a row that nobody asked for."""
        self._command = Command(
            argv=(sys.executable, "-m", module, str(data.root), *arguments),
            env={**os.environ, MARK: f"{data.root}|{name}", "PYTHONUNBUFFERED": "1"},
            cwd=None,
            log=self.log,
        )
        self._process: Process | None = None
        self._stopping = asyncio.Event()

    async def keep(self, say: Say) -> None:
        """Run it until `stop`."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            born = loop.time()
            self._process = Process.spawn(self._command)
            code = await self._process.exited()
            if self._stopping.is_set():
                return
            self.failures = 1 if loop.time() - born > STEADY_S else self.failures + 1
            wait_s = back_off(self.failures, BACK_OFF_S, BACK_OFF_LIMIT_S)
            say(self.name, f"ended with code {code}; started again in {wait_s:g} s")
            await pause(wait_s, self._stopping)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal; it isn't started again."""
        self._stopping.set()
        if self._process:
            self._process.send(number)


class Tail:
    """Shows what is added to some logs, and keeps them from growing without end."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._seen: dict[tuple[str, Path], int] = {}

    def add(self, name: str, log: Path) -> None:
        """Show what is added from now on."""
        self._seen[name, log] = log.stat().st_size if log.exists() else 0

    async def run(self) -> None:
        """Look again and again, until cancelled; then once more."""
        never = asyncio.Event()
        try:
            while True:
                self.look()
                await pause(LOOK_S, never)
        finally:
            self.look()

    def look(self) -> None:
        """Show the whole lines that are new."""
        for (name, log), seen in self._seen.items():
            self._seen[name, log] = self._show(name, log, seen)

    def _show(self, name: str, log: Path, seen: int) -> int:
        try:
            with log.open("rb") as file:
                file.seek(seen)
                new = file.read()
        except OSError:
            return seen
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.decode("utf-8", "replace").splitlines():
            self._say(name, line)
        seen += len(whole)
        if seen > LOG_LIMIT:
            # Its writers append, so they go on at the new end.
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
            return 0
        return seen


def left_behind(data: DataDir) -> dict[str, Process]:
    """Return the children that an earlier supervisor of this directory left, by name."""
    prefix = f"{data.root}|"
    return {
        value.removeprefix(prefix): process
        for value, process in marked(MARK).items()
        if value.startswith(prefix)
    }
