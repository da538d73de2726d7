"""Requests on disk, a line each, for `tidegate judge replay`. Off unless asked for.

Lines are written some hundreds at once: a worker that is killed loses what it hadn't written.
Files are bounded: a full one is put aside once, and the one put aside before it goes. A disk that
is full ends the recording, never the requests.
"""

from pathlib import Path
from typing import Final

import structlog

from tidegate.judge.record import Record
from tidegate.judge.recorded import write

MOST_BYTES: Final = 512 * 1024 * 1024
"""Of one file: some two million requests."""
BATCH: Final = 256
"""Lines that are written at once."""
PERIOD_S: Final = 1.0
"""Or all that there are, once so much time has passed between two requests' ends."""

log = structlog.get_logger()


class Recording:
    """One worker's file."""

    def __init__(self, folder: Path, name: str) -> None:
        """Record to `FOLDER/NAME.jsonl`; the folder is made with the first line."""
        self._path = folder / f"{name}.jsonl"
        self._lines: list[bytes] = []
        self._written_at = 0.0
        self._size = 0
        self._broken = False

    def note(self, record: Record) -> None:
        """Keep a request that ended."""
        if self._broken:
            return
        self._lines.append(write(record))
        ended_at = record.started_at + record.duration_s
        if len(self._lines) >= BATCH or ended_at - self._written_at >= PERIOD_S:
            self._written_at = ended_at
            self.flush()

    def flush(self) -> None:
        """Write what is there."""
        lines, self._lines = self._lines, []
        if not lines or self._broken:
            return
        try:
            self._append(b"".join(lines))
        except OSError as error:
            self._broken = True
            log.error("requests are recorded no more", path=str(self._path), error=str(error))

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > MOST_BYTES:
            self._path.replace(self._path.with_suffix(".older.jsonl"))
            self._size = 0
        if not self._size:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(data)
        self._size += len(data)
