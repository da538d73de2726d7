"""What gateways are started with, and what is known of them once they run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Cpus, Started
from tidegate.testing.ports import free_port


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for files and logs, and the backend's ports; the last is the small pool's."""

    folder: Path
    backends: tuple[int, ...]

    def log(self, name: str) -> Path:
        """Return where `name` writes its log."""
        return self.folder / f"{name}.log"

    def free_port(self) -> int:
        """Return a port that nobody has."""
        return free_port()


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that serves on `port`."""

    process: Started
    port: int


@dataclass(frozen=True, slots=True)
class Variant:
    """One line of the table."""

    name: str
    title: str
    start: Callable[[Place, int, Cpus], Running]
    does: str = ""
    """What a request gets beside being relayed."""
    package: str = ""
    """The distribution whose version is told."""
    peer: bool = True
    extra: bool = False
    """Shown, and not counted among the peers to beat: it does another job."""
