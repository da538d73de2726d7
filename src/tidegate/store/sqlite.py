"""The embedded store: the verbs of a Kubernetes API over one SQLite file.

Each write is worked out at once, one after the other, on the newest state (`writes`), put on
disk by the journal's thread, and acknowledged when it is there (`ledger`).

All methods are for one event loop. Objects that are handed out belong to the caller.
"""

import secrets
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from tidegate.api.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    FieldError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from tidegate.api.meta import Key, Resource
from tidegate.api.scheme import SCHEME, Kind, by_model
from tidegate.store import patches, writes
from tidegate.store.interface import Broken, Change
from tidegate.store.journal import Entry, EventType, Journal
from tidegate.store.ledger import Ledger, Object, decoded, key_of
from tidegate.store.typed import typed, typed_change, typed_or_none
from tidegate.store.writes import Outcome, Strict, Subresource, Write

R = TypeVar("R", bound=Resource)

HORIZON: Final = 10_000
"""Changes that a watch can go back."""

SERVER: Final = "tidegate"
"""The manager of what the store writes by itself."""

PatchType = Literal["merge", "json", "apply"]


@dataclass(frozen=True, slots=True)
class Written:
    """What a write made: the object as it is now."""

    object: Object
    created: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RawChange:
    """What happened to one object."""

    type: EventType
    object: Object
    version: str


_BY_RESOURCE: Final[Mapping[str, Kind]] = {kind.resource: kind for kind in SCHEME}
_NAMESPACES: Final = _BY_RESOURCE["namespaces"]


class Engine:
    """A store in this process; implements `Store` and, below it, the API server's verbs."""

    def __init__(self, ledger: Ledger, *, now: Callable[[], float]) -> None:
        self._ledger = ledger
        self._now = now

    @classmethod
    def open(
        cls,
        path: Path | Literal[":memory:"],
        *,
        now: Callable[[], float],
        horizon: int = HORIZON,
    ) -> "Engine":
        """Open or create the store in the file `path`, or one that ends with the process.

        Args:
            path: A file that no other process has open.
            now: The time, in seconds since the epoch.
            horizon: How many changes a watch can go back.

        Raises:
            UnavailableError: The file is damaged, in use, or not ours; the text says which.

        """
        journal, contents = Journal.open(path, horizon=horizon)
        engine = cls(Ledger(journal, contents, horizon=horizon), now=now)
        engine._start()
        return engine

    def _start(self) -> None:
        """Let writes begin, in a new store with that of the namespace that always exists."""
        first: list[Entry] = []
        if not self._ledger.has(_NAMESPACES.resource, Key("", "default")):
            namespace: Object = {"metadata": {"name": "default"}}
            outcome = writes.create(namespace, self._write(_NAMESPACES, SERVER), _uid())
            first = [self._stage(_NAMESPACES, "ADDED", outcome.object)]
        self._ledger.start(first)

    def close(self) -> None:
        """Finish what is being written, end all watches, and close the file."""
        self._ledger.close()

    @property
    def version(self) -> str:
        """The version of the newest change that can be read."""
        return str(self._ledger.version)

    # Raw reads

    async def read(self, kind: Kind, key: Key) -> Object:
        """Return one object. Raises NotFoundError."""
        return _found(kind, key, self._ledger.kept(kind.resource, key))

    async def read_all(self, kind: Kind, namespace: str | None = None) -> tuple[list[Object], str]:
        """Return the objects of a kind, by namespace and name, and the version to follow from."""
        bodies = self._ledger.all_kept(kind.resource, namespace)
        return [decoded(body) for body in bodies], self.version

    async def follow(self, kind: Kind, version: str) -> AsyncGenerator[RawChange, None]:
        """Yield the changes of a kind after `version`, in order, each once, for ever.

        Raises:
            GoneError: `version` is older than the log, or not of this store.
            UnavailableError: The store was closed.

        """
        async with aclosing(self._ledger.entries(kind.resource, version)) as entries:
            async for entry in entries:
                yield RawChange(entry.type, decoded(entry.body), str(entry.version))

    # Raw writes

    async def create(
        self,
        kind: Kind,
        obj: Object,
        *,
        manager: str,
        dry_run: bool = False,
        strict: Strict = "Strict",
    ) -> Written:
        """Create an object.

        Raises:
            AlreadyExistsError: The name is taken.
            NotFoundError: Its namespace doesn't exist.
            InvalidError: It isn't valid.

        """
        with _not_too_deep():
            obj = writes.named(_placed(kind, obj), lambda: secrets.token_hex(3)[:5])
            outcome = writes.create(obj, self._write(kind, manager, strict=strict), _uid())
        key = key_of(outcome.object)
        self._admit_namespace(kind, key)
        if self._ledger.has(kind.resource, key):
            raise AlreadyExistsError(f'{kind.resource} "{key.name}" already exists')
        return await self._store(kind, None, outcome, dry_run=dry_run)

    def _admit_namespace(self, kind: Kind, key: Key) -> None:
        """Refuse a new object in a namespace that is missing or going away."""
        if not kind.namespaced:
            return
        namespace = self._newest(_NAMESPACES, Key("", key.namespace))
        if namespace["metadata"].get("deletionTimestamp"):
            raise ForbiddenError(
                f'{kind.resource} "{key.name}" is forbidden: unable to create new content in'
                f" namespace {key.namespace} because it is being terminated"
            )

    async def replace(
        self,
        kind: Kind,
        key: Key,
        obj: Object,
        *,
        manager: str,
        subresource: Subresource = "",
        dry_run: bool = False,
        strict: Strict = "Strict",
    ) -> Written:
        """Put `obj` in the place of an object.

        Raises:
            NotFoundError: There is none.
            ConflictError: `obj` was made from an older version.
            InvalidError: It isn't valid.

        """
        old = self._newest(kind, key)
        write = self._write(kind, manager, subresource, strict)
        _require_version(kind, obj)
        with _not_too_deep():
            outcome = writes.replace(old, obj, write)
        return await self._store(kind, old, outcome, dry_run=dry_run)

    async def patch(
        self,
        kind: Kind,
        key: Key,
        body: Any,
        *,
        patch_type: PatchType,
        manager: str,
        force: bool = False,
        subresource: Subresource = "",
        dry_run: bool = False,
        strict: Strict = "Strict",
    ) -> Written:
        """Change an object; an apply creates it where it is missing.

        Args:
            kind: Of the object.
            key: Of the object.
            body: A merge patch, the operations of a JSON patch, or the applied configuration.
            patch_type: Which of these `body` is.
            manager: Who owns what is changed.
            force: Let an apply take over what others own.
            subresource: `status` to change the status and nothing else.
            dry_run: Work out the result and store nothing.
            strict: What to do about fields that the kind doesn't have.

        Raises:
            NotFoundError: There is no such object, or no such namespace.
            ConflictError: `body` names an older version, or others own what it applies.
            InvalidError: The result isn't valid.
            BadRequestError: `body` isn't a patch.

        """
        write = self._write(kind, manager, subresource, strict)
        if patch_type == "apply":
            return await self._apply(kind, key, body, write, force=force, dry_run=dry_run)
        old = self._newest(kind, key)
        change = patches.merge if patch_type == "merge" else patches.apply_json
        with _not_too_deep():
            new = change(old, body)
            if not isinstance(new, dict):
                raise BadRequestError("the patch does not leave an object")
            outcome = writes.replace(old, new, write)
        return await self._store(kind, old, outcome, dry_run=dry_run)

    async def _apply(
        self, kind: Kind, key: Key, config: Any, write: Write, *, force: bool, dry_run: bool
    ) -> Written:
        if not isinstance(config, dict):
            raise BadRequestError("an applied configuration is an object")
        old = self._ledger.head(kind.resource, key)
        if old is None:
            if write.subresource:
                raise _not_found(kind, key)
            self._admit_namespace(kind, key)
        with _not_too_deep():
            outcome = writes.apply(old, config, write, key=key, uid=_uid(), force=force)
        return await self._store(kind, old, outcome, dry_run=dry_run)

    async def remove(
        self,
        kind: Kind,
        key: Key,
        *,
        precondition_uid: str | None = None,
        precondition_version: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Delete an object, and with a namespace all that is in it; return it as it last was.

        An object with finalizers is only marked; it goes once they are gone.

        Raises:
            NotFoundError: There is none.
            ConflictError: It isn't the one of the preconditions.
            ForbiddenError: It is the namespace `default`.

        """
        old = self._newest(kind, key)
        _check_preconditions(kind, old, precondition_uid, precondition_version)
        if kind is _NAMESPACES and key.name == "default":
            raise ForbiddenError('namespaces "default" is forbidden: it may not be deleted')
        if dry_run:
            return old
        entries = self._removal(kind, key, old)
        await self._ledger.commit(entries)
        return decoded(entries[-1].body) if entries else old

    def _removal(self, kind: Kind, key: Key, old: Object) -> list[Entry]:
        """Stage the deletion of an object; with a namespace, of its contents before it."""
        entries: list[Entry] = []
        if kind is _NAMESPACES:
            for resource, inside in self._ledger.inside(key.name):
                inner = _BY_RESOURCE[resource]
                entries += self._removal(inner, inside, self._newest(inner, inside))
        marked = writes.mark_deleted(old, self._time())
        if writes.is_released(marked) and not self._holds(kind, key):
            entries.append(self._stage(kind, "DELETED", old))
        elif marked is not old:
            entries.append(self._stage(kind, "MODIFIED", marked))
        return entries

    def _holds(self, kind: Kind, key: Key) -> bool:
        """Whether it is a namespace that isn't empty."""
        return kind is _NAMESPACES and bool(self._ledger.inside(key.name))

    # How a write is stored

    def _write(
        self, kind: Kind, manager: str, subresource: Subresource = "", strict: Strict = "Strict"
    ) -> Write:
        return Write(kind, manager, self._time(), subresource, strict)

    def _time(self) -> str:
        return datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _newest(self, kind: Kind, key: Key) -> Object:
        return _found(kind, key, self._ledger.head(kind.resource, key))

    def _stage(self, kind: Kind, type_: EventType, obj: Object) -> Entry:
        return self._ledger.stage(kind.resource, type_, obj)

    async def _store(
        self, kind: Kind, old: Object | None, outcome: Outcome, *, dry_run: bool
    ) -> Written:
        """Make `outcome` so, unless it is what there is already."""
        new = outcome.object
        if dry_run:
            return Written(new, old is None, outcome.warnings)
        if new is old:
            # It says that this is stored, so it must be.
            await self._ledger.commit([])
            return Written(new, created=False, warnings=outcome.warnings)
        entries = self._entries(kind, old, new)
        await self._ledger.commit(entries)
        return Written(decoded(entries[0].body), old is None, outcome.warnings)

    def _entries(self, kind: Kind, old: Object | None, new: Object) -> list[Entry]:
        if old is None:
            return [self._stage(kind, "ADDED", new)]
        key = key_of(new)
        if not writes.is_released(new) or self._holds(kind, key):
            return [self._stage(kind, "MODIFIED", new)]
        return [self._stage(kind, "DELETED", new), *self._emptied(key.namespace)]

    def _emptied(self, namespace: str) -> list[Entry]:
        """Stage the end of a namespace that only waited for its contents to go."""
        obj = self._ledger.head(_NAMESPACES.resource, Key("", namespace))
        if obj is None or not writes.is_released(obj) or self._ledger.inside(namespace):
            return []
        return [self._stage(_NAMESPACES, "DELETED", obj)]

    # The typed store

    async def get(self, kind: type[R], key: Key) -> R:
        """Return one object. Raises NotFoundError."""
        return typed(kind, await self.read(by_model(kind), key))

    async def list(self, kind: type[R], *, broken: Broken | None = None) -> tuple[Sequence[R], str]:
        """Return all objects of a kind; see `Store.list`."""
        objects, version = await self.read_all(by_model(kind))
        resources = (typed_or_none(kind, obj, broken) for obj in objects)
        return [resource for resource in resources if resource is not None], version

    async def watch(
        self, kind: type[R], version: str, *, broken: Broken | None = None
    ) -> AsyncGenerator[Change[R], None]:
        """Yield what happens after `version`; see `Store.watch`."""
        async with aclosing(self.follow(by_model(kind), version)) as changes:
            async for change in changes:
                yield typed_change(kind, change.type, change.object, broken)

    async def apply(
        self,
        kind: type[R],
        key: Key,
        fields: Mapping[str, Any],
        *,
        manager: str,
        force: bool = False,
    ) -> R:
        """Server-side apply; see `Store.apply`."""
        return await self._typed_apply(kind, key, fields, manager, "", force=force)

    async def apply_status(
        self, kind: type[R], key: Key, status: Mapping[str, Any], *, manager: str
    ) -> R:
        """Server-side apply of the status; see `Store.apply_status`."""
        fields = {"status": status}
        return await self._typed_apply(kind, key, fields, manager, "status", force=True)

    async def _typed_apply(
        self,
        kind: type[R],
        key: Key,
        fields: Mapping[str, Any],
        manager: str,
        subresource: Subresource,
        *,
        force: bool,
    ) -> R:
        written = await self.patch(
            by_model(kind),
            key,
            {name: msgspec.to_builtins(value) for name, value in fields.items()},
            patch_type="apply",
            manager=manager,
            force=force,
            subresource=subresource,
        )
        return typed(kind, written.object)

    async def edit(
        self, kind: type[R], key: Key, operations: Sequence[Mapping[str, Any]], *, manager: str
    ) -> R:
        """Change an object by a JSON patch; see `Store.edit`."""
        body = [dict(each) for each in operations]
        written = await self.patch(by_model(kind), key, body, patch_type="json", manager=manager)
        return typed(kind, written.object)

    async def delete(self, kind: type[R], key: Key) -> None:
        """Delete one object; see `Store.delete`."""
        await self.remove(by_model(kind), key)


@contextmanager
def _not_too_deep() -> Iterator[None]:
    """Refuse what is nested deeper than can be walked."""
    try:
        yield
    except RecursionError as error:
        raise InvalidError([FieldError("", "deeper nesting", "a flatter object")]) from error


def _uid() -> str:
    return str(uuid.uuid4())


def _placed(kind: Kind, obj: Object) -> Object:
    """Return `obj` in a namespace: `default` where it names none."""
    metadata = obj.get("metadata")
    if not kind.namespaced or not isinstance(metadata, dict) or metadata.get("namespace"):
        return obj
    return {**obj, "metadata": {**metadata, "namespace": "default"}}


def _require_version(kind: Kind, obj: Object) -> None:
    """Refuse to put over a custom resource blindly (`AllowUnconditionalUpdate`)."""
    metadata = obj.get("metadata") or {}
    if kind.group and isinstance(metadata, dict) and not metadata.get("resourceVersion"):
        what = "the version that this one replaces"
        cause: Literal["FieldValueRequired"] = "FieldValueRequired"
        raise InvalidError([FieldError("metadata.resourceVersion", None, what, cause)])


def _found(kind: Kind, key: Key, obj: Object | None) -> Object:
    if obj is None:
        raise _not_found(kind, key)
    return obj


def _not_found(kind: Kind, key: Key) -> NotFoundError:
    return NotFoundError(f'{kind.resource} "{key.name}" not found')


def _check_preconditions(kind: Kind, old: Object, uid: str | None, version: str | None) -> None:
    metadata = old["metadata"]
    for what, wanted, found in (
        ("UID", uid, metadata["uid"]),
        ("ResourceVersion", version, metadata["resourceVersion"]),
    ):
        if wanted and wanted != found:
            raise ConflictError(
                f'Operation cannot be fulfilled on {kind.resource} "{metadata["name"]}":'
                f" Precondition failed: {what} in precondition: {wanted},"
                f" {what} in object meta: {found}"
            )
