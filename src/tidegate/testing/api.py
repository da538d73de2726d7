"""The embedded API for tests: in this process, or as a process of its own that can be killed.

python -m tidegate.testing.api DATA_DIR PORT
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from tidegate.process.clock import now
from tidegate.store.credentials import Credentials, ensure_credentials
from tidegate.store.server import BOOKMARK_S, serve
from tidegate.store.sqlite import HORIZON, Engine
from tidegate.testing.ports import free_port

HOST: Final = "127.0.0.1"


@asynccontextmanager
async def serving(
    data_dir: Path, *, horizon: int = HORIZON, bookmark_s: float = BOOKMARK_S
) -> AsyncIterator[tuple[Engine, Credentials]]:
    """Serve a data directory within this event loop for as long as the context lasts."""
    port = free_port()
    credentials = ensure_credentials(data_dir, host=HOST, port=port, now=now())
    engine = Engine.open(data_dir / "tidegate.db", now=now, horizon=horizon)
    started = asyncio.Event()
    server = asyncio.create_task(
        serve(
            engine,
            credentials,
            host=HOST,
            port=port,
            now=now,
            started=started.set,
            bookmark_s=bookmark_s,
        )
    )
    ready = asyncio.create_task(started.wait())
    await asyncio.wait([server, ready], return_when=asyncio.FIRST_COMPLETED)
    if server.done():
        ready.cancel()
        server.result()
    try:
        yield engine, credentials
    finally:
        server.cancel()
        await asyncio.wait([server])
        engine.close()


class ApiProcess:
    """The API in a process of its own; `start` again after `kill`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def kubeconfig(self) -> Path:
        """Where the kubeconfig is."""
        return self.data_dir / "kubeconfig"

    def start(self) -> None:
        """Start it; returns once it takes requests."""
        command = [sys.executable, "-m", "tidegate.testing.api", str(self.data_dir), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None  # asked for above
        if self._process.stdout.readline() != b"ready\n":
            code = self._process.wait()
            self._forget()
            raise AssertionError(f"the API ended with {code} before it was ready")

    def kill(self) -> None:
        """End it without a warning."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it well."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


async def _run(data_dir: Path, port: int) -> None:
    credentials = ensure_credentials(data_dir, host=HOST, port=port, now=now())
    engine = Engine.open(data_dir / "tidegate.db", now=now)
    loop = asyncio.get_running_loop()
    server = asyncio.create_task(
        serve(engine, credentials, host=HOST, port=port, now=now, started=_say_ready)
    )
    loop.add_signal_handler(signal.SIGTERM, server.cancel)
    await asyncio.wait([server])
    engine.close()
    if not server.cancelled():
        server.result()


def _say_ready() -> None:
    print("ready", flush=True)  # noqa: T201 - whom `start` waits for


if __name__ == "__main__":
    uvloop.run(_run(Path(sys.argv[1]), int(sys.argv[2])))
