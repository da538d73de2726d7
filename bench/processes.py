"""Processes that a run starts, pinned, measured with their children, and always stopped."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).parents[1]
START_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 10.0
_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Cpus:
    """Which CPUs the gateway under test and everything else run on."""

    gateway: frozenset[int]
    rest: frozenset[int]

    @staticmethod
    def divide() -> "Cpus":
        """Give the gateway one CPU of its own where there are two; None where pinning isn't."""
        if not hasattr(os, "sched_getaffinity"):
            return Cpus(frozenset(), frozenset())
        first, *others = sorted(os.sched_getaffinity(0))
        return Cpus(frozenset({first}), frozenset(others or [first]))


@contextlib.contextmanager
def pinned(cpus: frozenset[int]):  # noqa: ANN201  # a context manager
    """Let processes that are started meanwhile run on `cpus` only."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Started:
    """A process and all that it starts, in a session of their own."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cpus: frozenset[int],
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._name = Path(command[0]).name
        with pinned(cpus), log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                start_new_session=True,
            )

    def line(self) -> str:
        """Return the next line that the process says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        if not line:
            raise RuntimeError(f"{self._name} ended early:\n{self._tail()}")
        return line

    def wait_ready(self, port: int, path: str, *, body: bytes | None = None) -> None:
        """Return once `path` is answered with 200 on `port`."""
        until = time.perf_counter() + START_TIMEOUT_S
        while not answers(port, path, body):
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._name} ended early:\n{self._tail()}")
            if time.perf_counter() > until:
                raise RuntimeError(f"{self._name} did not become ready:\n{self._tail()}")
            time.sleep(_PAUSE_S)

    def cpu_s(self) -> float:
        """Return user and system time of the process and its children, in seconds."""
        return sum(_cpu_s(process) for process in self._tree())

    def rss(self) -> int:
        """Return the resident memory of all, in bytes."""
        return sum(process.memory_info().rss for process in self._tree())

    def stop(self) -> None:
        """End all of it, by force where it must be."""
        tree = self._tree()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def answers(port: int, path: str, body: bytes | None = None) -> bool:
    """Return whether a request gets a 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request(
            "GET" if body is None else "POST",
            path,
            body,
            {"content-type": "application/json"} if body else {},
        )
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def python(*arguments: str | Path) -> list[str | Path]:
    """Return a command of this interpreter."""
    return [sys.executable, *arguments]
