"""The file under the embedded store: objects and a log of changes, in SQLite.

One thread owns the connection. It takes everything that waits, writes it in one transaction
and only then says so: what was acknowledged is on disk (WAL, `synchronous=FULL`), and many
writers share one fsync. Nobody else may open the file meanwhile, as the engine above keeps
a copy of its contents in memory.
"""

import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tidegate.api.errors import UnavailableError
from tidegate.api.meta import Key

MEMORY: Final = ":memory:"

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x54494445
"""`TIDE`: tells our files from other SQLite files."""

_SCHEMA: Final = """
CREATE TABLE objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    version INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE log (
    version INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL,
    name TEXT NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL
);
"""

BUSY_S: Final = 2.0
"""How long to wait for a process that is just letting go of the file."""

MOST_AT_ONCE: Final = 256
"""Commits that share one transaction."""

EventType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of one object; each version has exactly one."""

    version: int
    kind: str
    key: Key
    type: EventType
    body: bytes
    """The object as JSON; for DELETED as it last was, with the version of the deletion."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Entries that are written together or not at all."""

    epoch: int
    """Commits of one epoch build on each other: when one fails, so do the later ones."""
    entries: Sequence[Entry]
    done: Callable[["Commit", UnavailableError | None], None]
    """Called in the journal's thread, in the order of the commits."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds: (kind, key, body) of every object, and the log, oldest first."""

    objects: Sequence[tuple[str, Key, bytes]]
    log: Sequence[Entry]


class Journal:
    """An open file and the thread that writes it."""

    def __init__(self, connection: sqlite3.Connection, path: str, horizon: int) -> None:
        self._connection = connection
        self._path = path
        self._horizon = horizon
        self._queue: queue.SimpleQueue[Commit | None] = queue.SimpleQueue()
        self._failed_epoch = -1
        self._thread = threading.Thread(target=self._run, name="tidegate-journal", daemon=True)

    @classmethod
    def open(cls, path: Path | Literal[":memory:"], *, horizon: int) -> tuple["Journal", Contents]:
        """Open or create the file and read it; `start` lets the thread write.

        Args:
            path: The file, readable by its owner only; or `:memory:`.
            horizon: How many changes the log keeps.

        Raises:
            UnavailableError: The file is damaged, in use, of a newer version, or not ours.

        """
        try:
            connection = _connect(path)
        except (sqlite3.Error, OSError) as error:
            raise _explained(path, error) from error
        try:
            _prepare(connection)
            contents = _load(connection)
        except sqlite3.Error as error:
            connection.close()
            raise _explained(path, error) from error
        except UnavailableError as error:
            connection.close()
            raise UnavailableError(f"{path}: {error}") from error
        return cls(connection, str(path), horizon), contents

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, commit: Commit) -> None:
        """Queue `commit`; its `done` is called once it is on disk, or has failed."""
        self._queue.put(commit)

    def close(self) -> None:
        """Write what is queued and close the file."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = self._next()
            open_ = batch[-1] is not None
            commits = [commit for commit in batch if commit is not None]
            self._finish(commits)

    def _next(self) -> list[Commit | None]:
        batch = [self._queue.get()]
        with contextlib.suppress(queue.Empty):
            while batch[-1] is not None and len(batch) < MOST_AT_ONCE:
                batch.append(self._queue.get_nowait())
        return batch

    def _finish(self, commits: Sequence[Commit]) -> None:
        sound = [commit for commit in commits if commit.epoch > self._failed_epoch]
        error = self.write([entry for commit in sound for entry in commit.entries])
        if error:
            self._failed_epoch = max(commit.epoch for commit in sound)
        for commit in commits:
            outdated = commit.epoch <= self._failed_epoch
            commit.done(commit, error or _built_on_failure() if outdated else None)

    def write(self, entries: Sequence[Entry]) -> UnavailableError | None:
        """Write `entries` in one transaction; return why not where it failed.

        Only for the journal's thread, or before `start`.
        """
        if not entries:
            return None
        try:
            self._write(entries)
        except Exception as error:  # noqa: BLE001  # whoever waits must hear of it
            if self._is_written(entries[-1].version):
                return None
            return UnavailableError(
                f"can't write {self._path}: {error}; check the space and rights of its file system"
            )
        return None

    def _is_written(self, version: int) -> bool:
        """Roll back, and return whether the commit had gone through all the same."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            newest = self._connection.execute("SELECT max(version) FROM log").fetchone()[0]
            return bool(newest == version)
        return False

    def _write(self, entries: Sequence[Entry]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for entry in entries:
            at = (entry.kind, *entry.key)
            if entry.type == "DELETED":
                execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", at)
            else:
                row = (*at, entry.version, entry.body)
                execute("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)", row)
            event = (entry.version, *at, entry.type, entry.body)
            execute("INSERT INTO log VALUES (?,?,?,?,?,?)", event)
        execute("DELETE FROM log WHERE version <= ?", (entries[-1].version - self._horizon,))
        execute("COMMIT")


def _built_on_failure() -> UnavailableError:
    return UnavailableError("the write before this one could not be stored: try again")


def _connect(path: Path | str) -> sqlite3.Connection:
    if path != MEMORY:
        # Secrets are in it; SQLite gives its other files the same rights.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection) -> None:
    """Lock the file for us, check it, and give an empty one its tables."""
    execute = connection.execute
    execute("PRAGMA locking_mode = EXCLUSIVE")
    execute("PRAGMA journal_mode = WAL")
    execute("PRAGMA synchronous = FULL")
    # Takes the lock, so that two processes never both believe in their memory.
    execute("BEGIN IMMEDIATE")
    if execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        for statement in _SCHEMA.split(";"):
            execute(statement)
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
        execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    execute("COMMIT")
    _check(connection)


def _check(connection: sqlite3.Connection) -> None:
    def pragma(name: str) -> int | str:
        value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    if pragma("application_id") != APPLICATION_ID:
        raise UnavailableError("is the database of another program: choose another data directory")
    version = pragma("user_version")
    if version != SCHEMA_VERSION:
        raise UnavailableError(
            f"has format {version}, this program reads {SCHEMA_VERSION}: use the program that"
            " wrote it, or start with an empty data directory"
        )
    damage = pragma("quick_check(1)")
    if damage != "ok":
        raise sqlite3.DatabaseError(damage)


def _load(connection: sqlite3.Connection) -> Contents:
    rows = connection.execute("SELECT kind, namespace, name, body FROM objects")
    objects = [(kind, Key(namespace, name), bytes(body)) for kind, namespace, name, body in rows]
    rows = connection.execute(
        "SELECT version, kind, namespace, name, type, body FROM log ORDER BY version"
    )
    log = [
        Entry(version, kind, Key(namespace, name), type_, bytes(body))
        for version, kind, namespace, name, type_, body in rows
    ]
    return Contents(objects, log)


def _explained(path: Path | str, error: sqlite3.Error | OSError) -> UnavailableError:
    """Return `error` with what it means for `path` and how to mend it."""
    if "locked" in str(error):
        return UnavailableError(
            f"{path} is in use by another process: stop that one, or choose another data directory"
        )
    if isinstance(error, (sqlite3.OperationalError, OSError)):
        return UnavailableError(f"can't open {path}: {error}; check that it can be written")
    return UnavailableError(
        f"{path} is damaged ({error}): restore a copy, or move it away to start empty"
    )
