"""`tidegate up` as a person runs it: a process, its output, its end."""

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from tidegate.api.scheme import by_model
from tidegate.api.tidegate import ModelServer
from tidegate.process.children import left_behind
from tidegate.process.rest import Rest
from tidegate.process.settings import DataDir, Settings
from tidegate.testing.waiting import wait_until

TIMEOUT_S = 30.0


class Up:
    """One `tidegate up` on a data directory, on free ports unless it resumes."""

    def __init__(self, root: Path) -> None:
        self.data = DataDir(root / "data")
        self._output = root / "output"
        self._errors = root / "errors"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, resume: bool = False, stdin: bytes = b"") -> "Up":
        """Start it; return once it says that it is ready."""
        self.launch(*arguments, resume=resume, stdin=stdin)
        wait_until(lambda: self.ready or self.ended, TIMEOUT_S, "tidegate up")
        if not self.ready:
            raise AssertionError(f"tidegate up ended with {self.wait()}:\n{self.errors}")
        return self

    def launch(self, *arguments: str, resume: bool = False, stdin: bytes = b"") -> None:
        """Start it, and don't wait."""
        ports = () if resume else ("--port", "0", "--api-port", "0", "--metrics-port", "0")
        command = [sys.executable, "-m", "tidegate", "up", "--workers", "1", *ports, *arguments]
        with self._output.open("wb") as out, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, "--data-dir", self.data.root],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        assert self._process.stdin is not None  # asked for above
        self._process.stdin.write(stdin)
        self._process.stdin.close()

    @property
    def ready(self) -> bool:
        """Whether it has said so."""
        return self.output.endswith("ready\n")

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process is None or self._process.poll() is not None

    @property
    def output(self) -> str:
        """What it wrote to stdout."""
        return self._output.read_text()

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        return self._errors.read_text()

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None  # a test asks for what runs
        return self._process.pid

    @property
    def settings(self) -> Settings:
        """What it was started with."""
        return self.data.read() or Settings()

    def children(self) -> dict[str, int]:
        """Return the pids of control and the workers, by name."""
        return {name: process.pid for name, process in left_behind(self.data).items()}

    def get(self, path: str, port: int = 0) -> tuple[int, bytes]:
        """Return status and body of a request to the gateway."""
        address = ("127.0.0.1", port or self.settings.port)
        with closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def model_servers(self) -> dict[str, Any]:
        """Return the ModelServers as the API has them, by name."""
        found = Rest(self.data.kubeconfig).all(by_model(ModelServer))
        return {item["metadata"]["name"]: item for item in found}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Return its exit code once it has ended."""
        assert self._process is not None  # a test asks for what runs
        return self._process.wait(TIMEOUT_S)

    def stop(self) -> int:
        """Stop it in order."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def clear(self) -> None:
        """End whatever is left, at once."""
        processes = [psutil.Process(pid) for pid in self._pids()]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        if self._process is not None:
            self._process.wait()

    def _pids(self) -> set[int]:
        pids = {*self.children().values(), *([] if self.ended else [self.pid])}
        for record in (self.data.run / "model-servers").glob("*.json"):
            if pid := json.loads(record.read_bytes()).get("pid"):
                pids.add(pid)
        return {pid for pid in pids if psutil.pid_exists(pid)}
