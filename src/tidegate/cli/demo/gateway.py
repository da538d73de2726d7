"""A `tidegate up` for as long as a demo lasts, in a directory of its own.

Whatever happens to the demo, its processes are ended and the directory is gone: the gateway is
asked first, and what is left of the processes that it started is killed.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import psutil

import tidegate
from tidegate.api.errors import TidegateError

UP: Final = (sys.executable, "-m", "tidegate", "up")
STOP_S: Final = 15.0
LOG_LINES: Final = 30
LOWEST_PORT: Final = 24_000
HIGHEST_PORT: Final = 32_000
"""Below what systems give to outgoing connections (Linux: from 32768 on)."""
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends the demo in good order."""


class StartError(TidegateError):
    """The gateway can't be started here."""

    reason = "StartFailed"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running one."""

    port: int
    directory: Path
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """How its API is reached."""
        return self.directory / "data" / "kubeconfig"

    @property
    def records(self) -> Path:
        """Where its rollouts' counts are kept."""
        return self.directory / "data" / "records"

    @property
    def ready(self) -> bool:
        """Whether it has said that it serves."""
        return "\nready" in f"\n{(self.directory / 'log').read_text(errors='replace')}"

    def check(self) -> None:
        """Raise StartError with the end of its log if it has ended."""
        if self.process.poll() is not None:
            raise StartError(f"tidegate up ended with {self.process.returncode}:\n{self.log()}")

    def log(self) -> str:
        """Return the last lines that it wrote."""
        lines = (self.directory / "log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])


@contextmanager
def running(manifests: Path) -> Iterator[Gateway]:
    """Start a gateway with `manifests` applied; end it, its processes and its files after."""
    with (
        tempfile.TemporaryDirectory(prefix="tidegate-demo-", ignore_cleanup_errors=True) as name,
        (Path(name) / "log").open("wb") as log,
    ):
        gateway = _start(Path(name), manifests, log.fileno())
        try:
            yield gateway
        finally:
            _stop(gateway.process)


def example(name: str) -> Path:
    """Return the folder of an example: from the package, or from the source tree."""
    package = Path(tidegate.__file__).parent
    for parent in (package, package.parents[1]):
        folder = parent / "examples" / name
        if folder.is_dir():
            return folder
    where = "beside the package or its source"
    raise StartError(f"examples/{name}: found nothing, expected it {where}")


def _start(directory: Path, manifests: Path, log: int) -> Gateway:
    port, api_port, metrics_port = _free_ports(3)
    options = {
        "--data-dir": directory / "data",
        "--port": port,
        "--api-port": api_port,
        "--metrics-port": metrics_port,
        "-f": manifests,
    }
    command = [*UP, *(str(word) for option in options.items() for word in option)]
    # A session of its own: Ctrl-C is for the demo, which then stops it in good order.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    return Gateway(port, directory, process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # A second Ctrl-C must not leave half of it.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    try:
        family = _descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        # A killed control process may have been replaced meanwhile: look again.
        family |= _descendants(process.pid)
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.kill()
        process.wait()
        psutil.wait_procs(family, timeout=STOP_S)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _descendants(pid: int) -> set[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return set(psutil.Process(pid).children(recursive=True))
    return set()


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody has, and that the system gives to no outgoing connection."""
    first = LOWEST_PORT + os.getpid() * count % (HIGHEST_PORT - LOWEST_PORT)
    around = [*range(first, HIGHEST_PORT), *range(LOWEST_PORT, first)]
    free = list(islice(filter(_can_bind, around), count))
    if len(free) < count:
        raise StartError(f"found no {count} free ports from {LOWEST_PORT} to {HIGHEST_PORT}")
    return free


def _can_bind(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
