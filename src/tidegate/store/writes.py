"""What a write makes of an object: the API server's rules for metadata, as pure functions.

Each function takes the object as it is (or none) and what the client sent, and returns the
object as it will be, admitted, with its owners and generation; nothing is stored here, and
no `resourceVersion` is set. An object that comes back equal to the old one was a no-op.

The rules follow `apiserver/pkg/registry/rest` (`create.go`, `update.go`, `delete.go`) and
the strategies of custom resources.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from tidegate.api.crds import schema
from tidegate.api.errors import (
    BadRequestError,
    ConflictError,
    FieldError,
    InvalidError,
    UnsupportedError,
)
from tidegate.api.leniency import normalise
from tidegate.api.meta import Key
from tidegate.api.scheme import Kind
from tidegate.api.validate import admit
from tidegate.api.versions import without_nulls
from tidegate.store import ownership
from tidegate.store.fieldset import Schema
from tidegate.store.ledger import Object
from tidegate.store.ownership import Operation, Owner, Owners, Writer

Strict = Literal["Strict", "Warn", "Ignore"]
Subresource = Literal["", "status"]

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
"""Every Namespace carries its name as this label, so that selectors can name it."""

_IMMUTABLE: Final = (
    "name",
    "namespace",
    "generateName",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
)


@dataclass(frozen=True, slots=True)
class Write:
    """One write: to what, by whom, when and how strictly."""

    kind: Kind
    manager: str
    time: str
    """RFC 3339, seconds."""
    subresource: Subresource = ""
    strict: Strict = "Strict"

    def by(self, operation: Operation) -> Writer:
        """Return the writer that managedFields will name."""
        owner = Owner(self.manager, operation, self.subresource)
        return Writer(owner, self.time, self.kind.api_version())


@dataclass(frozen=True, slots=True)
class Outcome:
    """The object as it will be, and what to tell the client."""

    object: Object
    warnings: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def schema_of(kind: Kind) -> Schema:
    """Return the schema by which a kind's fields are owned."""
    return ownership.object_schema(schema(kind, kind.storage))


def create(obj: Object, write: Write, uid: str) -> Outcome:
    """Return `obj` as a new object.

    Raises:
        BadRequestError: It has a resourceVersion, which new objects can't have.
        InvalidError: It isn't valid.

    """
    metadata = _metadata(obj)
    if metadata.get("resourceVersion"):
        raise BadRequestError("resourceVersion should not be set on objects to be created")
    born = _born(obj, metadata, write, uid)
    admitted = admit(write.kind, write.kind.storage, born, old=None, strict=write.strict)
    given = _given_owners(metadata, {})
    nothing: Object = {"metadata": {}}
    owners = ownership.update(
        nothing, admitted.obj, given, write.by("Update"), schema_of(write.kind)
    )
    return Outcome(_finished(None, admitted.obj, owners, write), admitted.warnings)


def _born(obj: Object, metadata: Object, write: Write, uid: str) -> Object:
    """Return `obj` with the identity that the server gives."""
    mine = {name: value for name, value in metadata.items() if name not in _IMMUTABLE[3:]}
    mine = {
        **{name: value for name, value in mine.items() if name != "managedFields"},
        "uid": uid,
        "creationTimestamp": write.time,
    }
    born = {**_without_status(obj, write.kind), "metadata": mine}
    return _headed(_as_namespace(born, write.kind), write.kind)


def _headed(obj: Object, kind: Kind) -> Object:
    """Return `obj` in the storage version; a kind's versions differ in their name only."""
    return {**obj, "apiVersion": kind.api_version(), "kind": kind.kind}


def _without_status(obj: Object, kind: Kind) -> Object:
    if not kind.has_status:
        return obj
    return {name: value for name, value in obj.items() if name != "status"}


def _as_namespace(obj: Object, kind: Kind) -> Object:
    """Return a Namespace with the label that names it; other kinds as they are."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    if str(kind) != "Namespace" or not isinstance(labels, dict) or "name" not in metadata:
        return obj  # what is wrong here is for admission to say
    named = {**labels, NAMESPACE_LABEL: metadata["name"]}
    return {**obj, "metadata": {**metadata, "labels": named}}


def replace(old: Object, obj: Object, write: Write) -> Outcome:
    """Return `old` after a PUT of `obj`, or after a patch that made `obj` of it.

    A write to the object keeps its status, a write to the status keeps all else.

    Raises:
        ConflictError: `obj` has another resourceVersion or uid than `old`.
        BadRequestError: It has another name.
        InvalidError: It isn't valid.

    """
    metadata = _metadata(obj)
    _check_identity(old, metadata, write.kind)
    if write.subresource == "status":
        _require_status(write.kind)
        wanted = _with_status(old, obj.get("status"))
        owners = _owners(old)
    else:
        wanted = _body(old, obj, metadata, write.kind)
        owners = _given_owners(metadata, _owners(old))
    admitted = admit(write.kind, write.kind.storage, wanted, old=old, strict=write.strict)
    owners = ownership.update(old, admitted.obj, owners, write.by("Update"), schema_of(write.kind))
    return Outcome(_finished(old, admitted.obj, owners, write), admitted.warnings)


def _body(old: Object, obj: Object, metadata: Object, kind: Kind) -> Object:
    """Return `obj` with the identity of `old`, and its status where that is kept apart."""
    kept = {name: value for name, value in old["metadata"].items() if name in _IMMUTABLE}
    mine = {name: v for name, v in metadata.items() if name not in ownership.SERVER_FIELDS}
    body = {**_without_status(obj, kind), "metadata": {**kept, **mine}}
    if kind.has_status:
        body = _with_status(body, old.get("status"))
    return _headed(_as_namespace(body, kind), kind)


def _with_status(obj: Object, status: Any) -> Object:
    rest = {name: value for name, value in obj.items() if name != "status"}
    return rest if status is None else {**rest, "status": status}


def apply(
    old: Object | None, config: Object, write: Write, *, key: Key, uid: str, force: bool
) -> Outcome:
    """Return `old` after a server-side apply of `config`; a new object where there is none.

    Raises:
        BadRequestError: `config` carries managedFields or another name.
        ConflictError: Others own fields that would change, and `force` is not set; or a
            resourceVersion or uid in `config` isn't that of `old`.
        InvalidError: The result isn't valid.

    """
    metadata = _metadata(config)
    if metadata.get("managedFields"):
        raise BadRequestError("metadata.managedFields must be nil")
    config, warnings = normalise(write.kind, without_nulls(config))
    live = old if old is not None else _unborn(metadata, write, key, uid)
    _check_identity(live, metadata, write.kind)
    if write.subresource == "status":
        _require_status(write.kind)
        wanted: Object = {"status": config.get("status", {})}
    else:
        wanted = _without_status(config, write.kind)
    applying = ownership.apply(
        live, wanted, _owners(live), write.by("Apply"), schema_of(write.kind)
    )
    applied = _headed(_as_namespace(applying.object, write.kind), write.kind)
    admitted = admit(write.kind, write.kind.storage, applied, old=old, strict=write.strict)
    owners = applying.claim(admitted.obj, force=force)
    new = _finished(old, admitted.obj, owners, write)
    told = tuple(dict.fromkeys((*warnings, *admitted.warnings)))
    return Outcome(new, () if new is old else told)


def _unborn(metadata: Object, write: Write, key: Key, uid: str) -> Object:
    if metadata.get("resourceVersion"):
        raise ConflictError(
            f'{write.kind.resource} "{key.name}" has no resourceVersion: it does not exist'
        )
    place = {"namespace": key.namespace} if key.namespace else {}
    return {"metadata": {"name": key.name, **place, "uid": uid, "creationTimestamp": write.time}}


def _require_status(kind: Kind) -> None:
    if not kind.has_status:
        raise UnsupportedError(f"{kind.resource} have no status subresource")


def _metadata(obj: Object) -> Object:
    metadata = obj.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InvalidError([FieldError("metadata", metadata, "an object")])
    return metadata


def _owners(obj: Object) -> Owners:
    return ownership.parse(obj["metadata"].get("managedFields"))


def _given_owners(metadata: Mapping[str, Any], live: Owners) -> Owners:
    """Return the owners that the client sent, which wins over `live` unless it is none.

    Clients that move ownership rewrite managedFields; `[{}]` drops all of it. What can't be
    read counts as not sent, as with an API server.
    """
    entries = metadata.get("managedFields")
    if entries == [{}]:
        return {}
    try:
        return ownership.parse(entries) or live
    except InvalidError:
        return live


def _check_identity(old: Object, metadata: Object, kind: Kind) -> None:
    """Refuse a write that means another object, or another version of it."""
    known = old["metadata"]
    for field in ("name", "namespace"):
        if metadata.get(field, known.get(field)) not in (known.get(field), ""):
            raise BadRequestError(
                f"the {field} of the object ({metadata[field]}) does not match"
                f" the {field} on the URL ({known.get(field, '')})"
            )
    version = metadata.get("resourceVersion")
    if version and version != known.get("resourceVersion"):
        raise stale(kind, known["name"])
    uid = metadata.get("uid")
    if uid and uid != known["uid"]:
        raise ConflictError(
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known['uid']}"
        )


def stale(kind: Kind, name: str) -> ConflictError:
    """Return the error for a write that was based on an older version."""
    return ConflictError(
        f'Operation cannot be fulfilled on {kind.resource} "{name}": the object has been'
        " modified; please apply your changes to the latest version and try again"
    )


def _finished(old: Object | None, new: Object, owners: Owners, write: Write) -> Object:
    """Return `new` with its generation and owners; `old` itself where nothing changed."""
    _check_finalizers(old, new)
    metadata = {k: v for k, v in new["metadata"].items() if k != "managedFields"}
    if old is None:
        generation = _first_generation(write.kind)
    else:
        changed = _desired(old) != _desired(new)
        generation = old["metadata"].get("generation", 0)
        generation += 1 if generation and changed else 0
    if generation:
        metadata["generation"] = generation
    bare = {**new, "metadata": metadata}
    if old is not None and bare == _unowned(old) and ownership.same(_owners(old), owners):
        return old
    rendered = ownership.render(owners)
    return {**new, "metadata": {**metadata, "managedFields": rendered} if rendered else metadata}


def _first_generation(kind: Kind) -> int:
    """Return 1 for custom resources; the core group's kinds that we serve have none."""
    return 1 if kind.group else 0


def _unowned(obj: Object) -> Object:
    metadata = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    return {**obj, "metadata": metadata}


def _desired(obj: Object) -> Object:
    """Return what counts for the generation: all that is neither metadata nor status."""
    return {k: v for k, v in obj.items() if k not in ("apiVersion", "kind", "metadata", "status")}


def _check_finalizers(old: Object | None, new: Object) -> None:
    if old is None or not old["metadata"].get("deletionTimestamp"):
        return
    before = set(old["metadata"].get("finalizers") or ())
    fresh = set(new["metadata"].get("finalizers") or ()) - before
    if fresh:
        what = "no new finalizers: the object is being deleted"
        raise InvalidError([FieldError("metadata.finalizers", sorted(fresh), what)])


def mark_deleted(old: Object, time: str) -> Object:
    """Return `old` as waiting for its finalizers; unchanged where it waits already."""
    metadata = old["metadata"]
    if metadata.get("deletionTimestamp"):
        return old
    marked = {**metadata, "deletionTimestamp": time, "deletionGracePeriodSeconds": 0}
    if "generation" in metadata:
        marked["generation"] = metadata["generation"] + 1
    return {**old, "metadata": marked}


def is_released(obj: Object) -> bool:
    """Whether `obj` is being deleted and nobody holds it any more."""
    metadata = obj["metadata"]
    return bool(metadata.get("deletionTimestamp")) and not metadata.get("finalizers")


def named(obj: Object, suffix: Callable[[], str]) -> Object:
    """Return `obj` with a name: its own, or one made from `generateName`."""
    metadata = _metadata(obj)
    prefix = metadata.get("generateName")
    if metadata.get("name") or not isinstance(prefix, str) or not prefix:
        return obj
    return {**obj, "metadata": {**metadata, "name": prefix[:58] + suffix()}}
