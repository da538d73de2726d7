"""Processes that outlive us: started, found again, watched, ended.

Each process leads a session of its own, so that a Ctrl-C in our terminal doesn't reach it
and its whole group can be ended together. It is known by its pid and the time when it was
made, because pids are used again.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from tidegate.api.errors import TidegateError

MARK: Final = "TIDEGATE_MODEL_SERVER"
"""The environment variable by which a process can be found that nobody wrote down."""
POLL_S: Final = 0.2
"""Where the system has no pidfd: how often we look whether a process lives."""
LOG_END: Final = 64 * 1024
"""Bytes of a log that are looked at for its last words."""
POINTER: Final = "See root cause above"
"""vLLM's last words when its engine doesn't start: the reason stands before them."""
_ERROR: Final = re.compile(r"\b\w+(?:Error|Exception): .*")
CLOCK_STEP_S: Final = 2.0
"""A process's time of birth is told by the wall clock, which may have been set meanwhile."""


class SpawnError(TidegateError):
    """A program can't be started."""

    reason = "CannotStart"


@dataclass(frozen=True, slots=True)
class Command:
    """What is run, and where its output goes."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment."""
    cwd: str | None
    log: Path


class Process:
    """A process that leads its own session: our child, or one that an earlier run left."""

    def __init__(self, pid: int, created: float, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.created = created
        """Seconds since the epoch."""
        self._child = child
        self._over = False

    @classmethod
    def spawn(cls, command: Command) -> "Process":
        """Start a process; its output is appended to the log.

        Raises:
            SpawnError: The program is missing, or may not be run.

        """
        try:
            child = _popen(command)
        except OSError as error:
            raise SpawnError(_why(command, error)) from error
        with contextlib.suppress(psutil.Error):
            return cls(child.pid, psutil.Process(child.pid).create_time(), child)
        return cls(child.pid, 0.0, child)

    @classmethod
    def adopt(cls, pid: int, created: float) -> "Process | None":
        """Return the process that was made at `created` with this pid, if it still lives."""
        try:
            found = psutil.Process(pid)
            alive = found.status() != psutil.STATUS_ZOMBIE
            same = abs(found.create_time() - created) <= CLOCK_STEP_S
        except psutil.Error:
            return None
        return cls(pid, found.create_time(), None) if alive and same else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and to what it started; nothing once it has ended."""
        if self._over:
            return
        # As systemd does: a shell script in between would not pass the signal on.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def exited(self) -> int | None:
        """Wait for the end; return the exit code (negative: a signal), None where unknown.

        Only a parent learns its child's exit code: those of adopted processes are unknown.
        """
        if not self._over:
            await _end_of(self)
        # What it started goes too: it would hold the port, and the GPU's memory. The group
        # can't be somebody else's, since the dead process is not reaped yet.
        self.send(signal.SIGKILL)
        self._over = True
        return self._child.wait() if self._child else None

    def alive(self) -> bool:
        """Return whether it has not ended yet. Leaves a dead child unreaped."""
        return Process.adopt(self.pid, self.created) is not None


def marked(name: str = MARK) -> dict[str, Process]:
    """Return the processes whose environment has a variable `name`, by its value.

    Only leaders of sessions: what they started inherited the mark.
    """
    return {value: Process(pid, created, None) for value, pid, created in _marked(name)}


def last_line(log: Path, limit: int = 300) -> str:
    """Return the last line of a log that isn't empty, cut to `limit` characters.

    A line that only points upwards gives way to the last error before it.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_END))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    ends = [line.strip() for line in lines if line.strip()]
    text = ends.pop() if ends else ""
    if POINTER in text:
        errors = (_ERROR.search(line) for line in reversed(ends) if POINTER not in line)
        text = next((found[0] for found in errors if found), text)
    return "".join(c for c in text if c.isprintable())[:limit]


def _popen(command: Command) -> subprocess.Popen[bytes]:
    command.log.parent.mkdir(parents=True, exist_ok=True)
    with command.log.open("ab") as log:
        return subprocess.Popen(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _why(command: Command, error: OSError) -> str:
    program, text = command.argv[0], error.strerror or str(error)
    if command.cwd and not Path(command.cwd).is_dir():
        return f"can't start {program!r}: spec.workingDir {command.cwd!r} is not a folder"
    if isinstance(error, FileNotFoundError):
        return f"can't start {program!r}: no such program on the PATH of `tidegate up`"
    return f"can't start {program!r}: {text}"


def _marked(name: str) -> Iterator[tuple[str, int, float]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) != process.pid:
                continue
            value = process.environ().get(name)
            if value and process.status() != psutil.STATUS_ZOMBIE:
                yield value, process.pid, process.create_time()


async def _end_of(process: Process) -> None:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # another system, or an old kernel
        await _poll(process)
        return
    try:
        if process.alive():  # the pid may have been somebody else's by the time we opened it
            await _readable(descriptor)
    finally:
        os.close(descriptor)


async def _readable(descriptor: int) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(descriptor)


async def _poll(process: Process) -> None:
    loop = asyncio.get_running_loop()
    while process.alive():
        tick = asyncio.Event()
        loop.call_later(POLL_S, tick.set)
        await tick.wait()
