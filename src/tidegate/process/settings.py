"""Where things lie in the data directory, and what the processes are told.

tidegate.db  kubeconfig  pki/     the API's (a second start goes on with them)
settings.json                     what the present run was started with
lock                              held while `tidegate up` runs; names its pid
logs/                             one per process
run/                              workers' sockets; which model servers run
records/                          what rollouts were judged by, one file each
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from tidegate.api.errors import TidegateError

DEFAULT_PORT: Final = 8080
DEFAULT_API_PORT: Final = 7443
DEFAULT_METRICS_PORT: Final = 9090
API_HOST: Final = "127.0.0.1"
"""The API is for this machine's user alone."""
LONGEST_SOCKET: Final = 100
"""Bytes of a Unix socket's path; systems allow 104 or 108."""
LOG_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of a log; beyond, it is put aside once and begun anew."""


class SettingsError(TidegateError):
    """The options don't work here."""

    reason = "BadSettings"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is started with; the supervisor writes it, its children read it."""

    host: str = "127.0.0.1"
    """The address that listeners and metrics bind."""
    port: int = DEFAULT_PORT
    """Of the default listener."""
    api_port: int = DEFAULT_API_PORT
    metrics_port: int = DEFAULT_METRICS_PORT
    workers: int = 1
    log_format: Literal["json", "console"] = "console"
    access_log: bool = False
    record: str = ""
    """The folder that requests are recorded to; '' records none."""
    answer_headers: bool = True
    trust_headers: bool = False
    """Whether clients' x-gateway-* and x-tidegate-* headers are believed."""
    drain_s: float = 30.0
    """How long requests may go on once a worker is stopped."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """The paths of one data directory."""

    root: Path

    @classmethod
    def open(cls, path: Path) -> "DataDir":
        """Make the directory where it is missing, for its owner alone.

        Raises:
            SettingsError: It can't be made, or its name is too long.

        """
        made = cls(path.expanduser().absolute())
        if len(os.fsencode(made.socket("00"))) > LONGEST_SOCKET:
            raise SettingsError(f"--data-dir: {made.root} is too long a path for Unix sockets")
        try:
            made.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (made.logs, made.run):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"--data-dir: {error.filename}: {error.strerror}") from error
        return made

    @property
    def database(self) -> Path:
        """The resources."""
        return self.root / "tidegate.db"

    @property
    def kubeconfig(self) -> Path:
        """How the API is reached."""
        return self.root / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What belongs to running processes."""
        return self.root / "run"

    @property
    def records(self) -> Path:
        """Blocks of rollouts, by their uid."""
        return self.root / "records"

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.root / "lock"

    def log(self, process: str) -> Path:
        """Return where a process of ours writes its log."""
        return self.logs / f"{process}.log"

    def socket(self, worker: str) -> Path:
        """Return the admin socket of a worker."""
        return self.run / f"worker-{worker}.sock"

    def read(self) -> Settings | None:
        """Return what the last run was started with; None where that can't be read."""
        try:
            return msgspec.json.decode(self._settings.read_bytes(), type=Settings)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, settings: Settings) -> None:
        """Keep what this run is started with."""
        draft = self._settings.with_suffix(".new")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(settings)) + b"\n")
        draft.replace(self._settings)

    @property
    def _settings(self) -> Path:
        return self.root / "settings.json"
