"""A `tidegate up` for as long as a demo lasts, in a directory of its own.

Whatever happens to the demo, its processes are ended and the directory is gone: the gateway is
asked first, and what is left of the processes that it started is killed.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

import tidegate
from tidegate.api.errors import TidegateError
from tidegate.controllers.ports import choose_port

UP: Final = (sys.executable, "-m", "tidegate", "up")
STOP_S: Final = 15.0
LOG_LINES: Final = 30
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
    ports: list[int] = []
    for number in range(count):
        # By the process, so that two demos at a time seldom want the same ones.
        ports.append(choose_port("127.0.0.1", f"demo {os.getpid()} {number}", ports))
    return ports
