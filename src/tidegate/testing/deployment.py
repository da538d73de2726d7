"""A whole gateway for end-to-end tests: `tidegate up` with its children, to be used and killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from tidegate.testing.kubectl import Kubectl
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_until

START_S = 60.0
STOP_S = 30.0
ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"


@dataclass(slots=True)
class Deployment:
    """A running gateway."""

    folder: Path
    port: int
    api_port: int
    metrics_port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """How its API is reached."""
        return self.folder / "data" / "kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        """The project's kubectl, pointed at its API."""
        return Kubectl(Path(sys.executable).parent / "kubectl", self.folder, self.kubeconfig)

    def log(self) -> str:
        """Return all that it and its children said."""
        return (self.folder / "log").read_text(errors="replace")

    def children(self, name: str) -> list[psutil.Process]:
        """Return the living processes of one kind: "control", "worker" or "model-server"."""
        if name == "model-server":
            return self._model_servers()
        data = str(self.folder / "data")
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if (line := " ".join(process.info["cmdline"] or ()))
            and f"tidegate.process.{name}" in line
            and data in line
        ]

    def kill(self, name: str) -> psutil.Process:
        """End one process of a kind with SIGKILL; return it, dead."""
        victim = self.children(name)[0]
        victim.kill()
        psutil.wait_procs([victim], timeout=STOP_S)
        return victim

    def stop(self) -> int:
        """End it as Ctrl-C does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def _model_servers(self) -> list[psutil.Process]:
        found = []
        for record in (self.folder / "data" / "run" / "model-servers").glob("*.json"):
            known = msgspec.json.decode(record.read_bytes())
            with contextlib.suppress(psutil.NoSuchProcess, TypeError):
                process = psutil.Process(known["pid"])
                # A number may have been given to another process since.
                if abs(process.create_time() - known["created"]) < 1:
                    found.append(process)
        return found


@contextmanager
def deployed(
    folder: Path,
    manifests: Sequence[Path] = (),
    *options: str,
    like: Deployment | None = None,
) -> Iterator[Deployment]:
    """Start `tidegate up` and wait until it is ready; end it and all its processes after.

    Args:
        folder: Gets the data directory and the log.
        manifests: What `-f` names.
        options: More of the command line.
        like: Start again on the same ports.

    """
    if like is not None:
        ports = like.port, like.api_port, like.metrics_port
    else:
        ports = free_port(), free_port(), free_port()
    with (folder / "log").open("ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            [*_command(folder, ports, manifests), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )
    running = Deployment(folder, ports[0], ports[1], ports[2], process)
    try:
        wait_until(
            lambda: "\nready" in running.log()[start:] or process.poll() is not None,
            START_S,
            "tidegate up to be ready",
        )
        if process.poll() is not None:
            raise AssertionError(running.log())
        yield running
    finally:
        _end(running)


def _command(folder: Path, ports: tuple[int, int, int], manifests: Sequence[Path]) -> list[str]:
    command = [sys.executable, "-m", "tidegate", "up", "--data-dir", str(folder / "data")]
    for name, port in zip(("--port", "--api-port", "--metrics-port"), ports, strict=True):
        command += [name, str(port)]
    for manifest in manifests:
        command += ["-f", str(manifest)]
    return command


def _end(running: Deployment) -> None:
    names = ("control", "worker", "model-server")
    family = {each for name in names for each in running.children(name)}
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        try:
            running.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
    family |= {each for name in names for each in running.children(name)}
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=STOP_S)
