"""Which processes run for which replica: written down, so that a restart finds them.

A record is written before its process is started and completed after. A crash in between
leaves a record without a pid; the process, if there is one, carries our mark.
"""

import contextlib
from pathlib import Path

import msgspec

from tidegate.controllers.processes import Process, marked


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One replica's process."""

    uid: str
    """The ModelServer's."""
    replica: int
    revision: str
    """Of the template that it was started from."""
    port: int
    pid: int | None = None
    created: float | None = None
    """When the process was made, in seconds since the epoch."""

    @property
    def mark(self) -> str:
        """The value of the process's mark."""
        return f"{self.uid}/{self.replica}"


class Roster:
    """The records of one data directory: a small file for each replica."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, record: Record) -> None:
        """Write a record; readers see the old one or the new."""
        draft = self._path(record.uid, record.replica).with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(record))
        draft.replace(draft.with_suffix(".json"))

    def forget(self, uid: str, replica: int) -> None:
        """Drop a record: its process is gone."""
        self._path(uid, replica).unlink(missing_ok=True)

    def survivors(self) -> list[tuple[Record, Process]]:
        """Return the processes that still run; forget the records of those that don't."""
        found, lost = [], []
        for record in self._records():
            process = record.pid and Process.adopt(record.pid, record.created or 0.0)
            if process:
                found.append((record, process))
            else:
                lost.append(record)
        return found + self._by_mark(lost)

    def _by_mark(self, records: list[Record]) -> list[tuple[Record, Process]]:
        found = []
        marks = marked() if records else {}
        for record in records:
            if process := marks.get(record.mark):
                found.append((record, process))
            else:
                self.forget(record.uid, record.replica)
        return found

    def _records(self) -> list[Record]:
        records = []
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(msgspec.DecodeError, OSError):
                records.append(msgspec.json.decode(path.read_bytes(), type=Record))
        return records

    def _path(self, uid: str, replica: int) -> Path:
        return self._folder / f"{uid}.{replica}.json"
