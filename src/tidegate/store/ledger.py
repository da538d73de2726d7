"""The memory of the embedded store: two copies of the objects, and the log of changes.

Writes are staged on the *head*, which runs ahead of the disk; reads and watches see only what
is *kept*, which is on disk. A commit returns when what it staged is kept. Watchers are cursors
on the log, so a slow one costs nothing and a late one is told to list again.

Everything here is for one event loop. Objects lie here as JSON, so that nobody can change
them by changing what was handed out.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any, Final

import msgspec

from tidegate.api.errors import BadRequestError, GoneError, UnavailableError
from tidegate.api.meta import Key
from tidegate.store.journal import Commit, Contents, Entry, EventType, Journal

Object = dict[str, Any]
Bodies = dict[str, dict[Key, bytes]]
"""JSON by resource (`plural.group`) and key."""

SLACK: Final = 8
"""The log is cut once it is longer than its horizon by this part: each cut moves it whole."""


class Ledger:
    """What is stored, what is about to be, and what happened."""

    def __init__(self, journal: Journal, contents: Contents, *, horizon: int) -> None:
        self._journal = journal
        self._horizon = horizon
        self._kept: Bodies = {}
        for resource, key, body in contents.objects:
            self._kept.setdefault(resource, {})[key] = body
        self._log = list(contents.log)
        self._version = self._log[-1].version if self._log else 0
        self._head = _copy(self._kept)
        self._head_version = self._version
        self._epoch = 0
        self._news = asyncio.Event()
        self._closed = False

    def start(self, first: Sequence[Entry]) -> None:
        """Write what was staged so far, then let the journal's thread write.

        Raises:
            UnavailableError: It can't be written.

        """
        if error := self._journal.write(first):
            self._journal.close()
            raise error
        self._publish(first)
        self._journal.start()

    def close(self) -> None:
        """Finish what is being written, end all watches, and close the file."""
        if not self._closed:
            self._closed = True
            self._journal.close()
            self._wake()

    @property
    def version(self) -> int:
        """The version of the newest change that is kept."""
        return self._version

    # What readers see

    def kept(self, resource: str, key: Key) -> Object | None:
        """Return an object as it is on disk."""
        return _decoded(self._kept.get(resource, {}).get(key))

    def all_kept(self, resource: str, namespace: str | None) -> Iterable[bytes]:
        """Return the objects of a kind as JSON, by namespace and name."""
        objects = self._kept.get(resource, {})
        keys = sorted(key for key in objects if namespace is None or key.namespace == namespace)
        return (objects[key] for key in keys)

    async def entries(self, resource: str, version: str) -> AsyncGenerator[Entry, None]:
        """Yield the changes of a kind after `version`, in order, each once, for ever.

        Raises:
            GoneError: `version` is older than the log, or newer than all that happened.
            UnavailableError: The store was closed.

        """
        at = _number(version)
        while not self._closed:
            news = self._news
            for entry in self._after(at):
                at = entry.version
                if entry.kind == resource:
                    yield entry
            # It is set already if something came while the caller was busy with what it got.
            await news.wait()
        raise UnavailableError("the store was closed")

    def _after(self, version: int) -> Sequence[Entry]:
        """Return the log after `version`. Each version has one entry, so it is a slice."""
        behind = self._version - version
        if behind < 0 or behind > len(self._log):
            raise GoneError(f"too old resource version: {version} ({self._version}): list again")
        return self._log[len(self._log) - behind :]

    # What writers see

    def head(self, resource: str, key: Key) -> Object | None:
        """Return an object as it will be once all that is staged is kept."""
        return _decoded(self._head.get(resource, {}).get(key))

    def has(self, resource: str, key: Key) -> bool:
        """Whether there will be such an object once all that is staged is kept."""
        return key in self._head.get(resource, {})

    def inside(self, namespace: str) -> list[tuple[str, Key]]:
        """Return the resource and key of what will be in a namespace."""
        return [
            (resource, key)
            for resource, objects in self._head.items()
            for key in sorted(objects)
            if key.namespace == namespace
        ]

    def stage(self, resource: str, type_: EventType, obj: Object) -> Entry:
        """Give `obj` the next version and put it into the head (or, DELETED, out of it)."""
        self._head_version += 1
        metadata = {**obj["metadata"], "resourceVersion": str(self._head_version)}
        body = msgspec.json.encode({**obj, "metadata": metadata})
        entry = Entry(self._head_version, resource, key_of(obj), type_, body)
        _play(self._head, entry)
        return entry

    async def commit(self, entries: Sequence[Entry]) -> None:
        """Return once `entries`, and all that was staged before, are kept.

        Raises:
            UnavailableError: They could not be stored; nothing of them will be seen.

        """
        if not entries and self._head_version == self._version:
            return
        if self._closed:
            raise UnavailableError("the store was closed")
        loop = asyncio.get_running_loop()
        kept = loop.create_future()

        def done(commit: Commit, error: UnavailableError | None) -> None:
            # A loop that was closed has nobody left who waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, commit, error, kept)

        self._journal.submit(Commit(self._epoch, entries, done))
        await kept

    def _finish(
        self, commit: Commit, error: UnavailableError | None, kept: "asyncio.Future[None]"
    ) -> None:
        if error is None:
            self._publish(commit.entries)
        elif commit.epoch == self._epoch:
            # What later writes were built on never came to be: start again from the disk.
            self._epoch += 1
            self._head = _copy(self._kept)
            self._head_version = self._version
        if kept.done():
            return
        if error is None:
            kept.set_result(None)
        else:
            kept.set_exception(error)

    def _publish(self, entries: Sequence[Entry]) -> None:
        """Let readers and watchers see `entries`."""
        if not entries:
            return
        for entry in entries:
            _play(self._kept, entry)
        self._log.extend(entries)
        self._version = entries[-1].version
        if len(self._log) > self._horizon + self._horizon // SLACK:
            del self._log[: len(self._log) - self._horizon]
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def key_of(obj: Object) -> Key:
    """Return the key of an object."""
    metadata = obj["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])


def decoded(body: bytes) -> Object:
    """Return an object of its reader's own."""
    obj: Object = msgspec.json.decode(body)
    return obj


def _decoded(body: bytes | None) -> Object | None:
    return None if body is None else decoded(body)


def _copy(objects: Bodies) -> Bodies:
    return {resource: dict(bodies) for resource, bodies in objects.items()}


def _play(objects: Bodies, entry: Entry) -> None:
    bodies = objects.setdefault(entry.kind, {})
    if entry.type == "DELETED":
        bodies.pop(entry.key, None)
    else:
        bodies[entry.key] = entry.body


def _number(version: str) -> int:
    if not version.isdecimal():
        raise BadRequestError(f"resourceVersion {version!r} is not one that this server gave")
    return int(version)
