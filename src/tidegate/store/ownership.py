"""Who owns which field: managedFields and server-side apply.

Every write goes through here. An Update owns what it changed; an Apply owns what it says,
and what it said before and leaves out now goes away unless somebody else owns it. Two
managers may own the same field as long as they agree on its value.

Semantics follow structured-merge-diff v4 (`merge/update.go`) and the API server's
`fieldmanager`; the messages are the API server's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from tidegate.api.errors import ConflictError, FieldError, InvalidError
from tidegate.store import fieldset
from tidegate.store.fieldset import Fields, Schema

Object = dict[str, Any]
Operation = Literal["Apply", "Update"]

_STRING_MAP: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
META_SCHEMA: Final[Schema] = {
    "type": "object",
    "properties": {
        "labels": _STRING_MAP,
        "annotations": _STRING_MAP,
        "finalizers": {"type": "array", "x-kubernetes-list-type": "set"},
        "ownerReferences": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "items": {"type": "object", "x-kubernetes-map-type": "atomic"},
        },
    },
}
"""The schema of `metadata` (`ObjectMeta` of apimachinery)."""

SERVER_FIELDS: Final = frozenset(
    {
        "name",
        "namespace",
        "generateName",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    }
)
"""What nobody owns in `metadata`: identity, and what the server writes."""

_METADATA: Final[Fields] = frozenset({("f:metadata",)})
"""Every object has metadata, so nobody owns that it is there."""

FIRST_APPLY: Final = "before-first-apply"
"""Who owns what an object had before anybody's ownership was tracked."""


class Owner(NamedTuple):
    """One entry of managedFields: the same manager may update, apply, and write the status."""

    manager: str
    operation: Operation
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Owned:
    """What an owner owns, and since when."""

    fields: Fields
    time: str
    """When the owner last changed something, RFC 3339."""
    api_version: str


Owners = Mapping[Owner, Owned]


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes, when, and to which part of the object."""

    owner: Owner
    time: str
    api_version: str

    def owning(self, fields: Fields) -> Owned:
        """Return an entry for `fields` as of now."""
        return Owned(fields, self.time, self.api_version)


def object_schema(schema: Schema) -> Schema:
    """Return the schema of a kind with that of `metadata` filled in."""
    return {**schema, "properties": {**schema.get("properties", {}), "metadata": META_SCHEMA}}


def parse(entries: Any) -> Owners:
    """Return the owners in a `metadata.managedFields`.

    Raises:
        InvalidError: An entry is malformed.

    """
    owners: dict[Owner, Owned] = {}
    if not isinstance(entries or [], list):
        raise InvalidError([FieldError("metadata.managedFields", entries, "a list")])
    for index, entry in enumerate(entries or []):
        if entry:  # `[{}]` is how clients empty the list
            owner, owned = _parse_entry(entry, f"metadata.managedFields[{index}]")
            before = owners.get(owner)
            fields = owned.fields | before.fields if before else owned.fields
            owners[owner] = replace(owned, fields=fields)
    return owners


def _parse_entry(entry: Any, path: str) -> tuple[Owner, Owned]:
    if not isinstance(entry, dict):
        raise InvalidError([FieldError(path, entry, "an object")])
    operation = entry.get("operation")
    if operation not in ("Apply", "Update"):
        raise InvalidError([FieldError(f"{path}.operation", operation, "Apply or Update")])
    if entry.get("fieldsType", "FieldsV1") != "FieldsV1":
        raise InvalidError([FieldError(f"{path}.fieldsType", entry["fieldsType"], "FieldsV1")])
    owner = Owner(str(entry.get("manager", "")), operation, str(entry.get("subresource", "")))
    fields = fieldset.parse(entry.get("fieldsV1") or {})
    time, api_version = (str(entry.get(name) or "") for name in ("time", "apiVersion"))
    return owner, Owned(fields, time, api_version)


def render(owners: Owners) -> list[Object]:
    """Return `owners` as a `metadata.managedFields`, in the API server's order."""
    order = sorted(
        owners.items(), key=lambda item: (item[0].operation, item[1].time, item[0].manager, item[0])
    )
    return [_render_entry(owner, owned) for owner, owned in order]


def _render_entry(owner: Owner, owned: Owned) -> Object:
    entry: Object = {
        "manager": owner.manager,
        "operation": owner.operation,
        "apiVersion": owned.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fieldset.render(owned.fields),
        "subresource": owner.subresource,
    }
    return {name: value for name, value in entry.items() if value != ""}


def owned_part(obj: Mapping[str, Any]) -> Object:
    """Return the part of `obj` that can be owned: without identity and the server's fields."""
    part = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}
    metadata = part.pop("metadata", None) or {}
    metadata = {name: value for name, value in metadata.items() if name not in SERVER_FIELDS}
    return {**part, "metadata": metadata}


def update(old: Object, new: Object, owners: Owners, writer: Writer, schema: Schema) -> Owners:
    """Return who owns what once `writer` has made `old` into `new` by an update.

    It owns what it added or modified; nobody owns what it removed.
    """
    diff = fieldset.compare(owned_part(old), owned_part(new), schema)
    if not diff:
        return dict(owners)
    taken = diff.added | diff.modified
    mine = owners.get(writer.owner)
    fields = ((mine.fields if mine else fieldset.NONE) | taken) - diff.removed
    return _settle(owners, taken, diff.removed, writer, fields)


@dataclass(frozen=True, slots=True)
class Applying:
    """An apply half-way: laid over the live object, not yet admitted, nothing claimed."""

    object: Object
    """To be admitted, which fills in defaults and may leave fields out."""
    _before: Object
    _wanted: Fields
    _owners: Owners
    _writer: Writer
    _schema: Schema

    def claim(self, admitted: Object, *, force: bool) -> Owners:
        """Return who owns what once `admitted` takes the live object's place.

        An upstream API server compares before it fills in defaults, and so reports conflicts
        about lists that only lack their defaults; here what is compared is what is stored.

        Raises:
            ConflictError: Somebody else owns a field that changes, and `force` is not set.

        """
        after = owned_part(admitted)
        diff = fieldset.compare(self._before, after, self._schema)
        taken = diff.added | diff.modified
        if not force:
            _refuse_conflicts(self._owners, taken, self._writer)
        fields = self._wanted & fieldset.nodes_of(after, self._schema)
        return _settle(self._owners, taken, diff.removed, self._writer, fields)


def apply(live: Object, config: Object, owners: Owners, writer: Writer, schema: Schema) -> Applying:
    """Lay `config` over `live`, and take out what the applier applied before and now doesn't.

    Args:
        live: The object as it is; nothing but its identity where it is to be created.
        config: What the applier wants, and all that it wants.
        owners: Who owns what in `live`.
        writer: The applier.
        schema: Of the kind, with `metadata` (see `object_schema`).

    """
    before = owned_part(live)
    part = owned_part(config)
    wanted = fieldset.fields_of(part, schema) - _METADATA
    if not owners:
        untracked = fieldset.fields_of(before, schema) - _METADATA
        owners = {Owner(FIRST_APPLY, "Update"): writer.owning(untracked)} if untracked else {}
    after = _prune(fieldset.merge(before, part, schema), owners, writer, wanted, schema)
    return Applying(_with_identity(live, after), before, wanted, owners, writer, schema)


def _prune(
    merged: Object, owners: Owners, writer: Writer, wanted: Fields, schema: Schema
) -> Object:
    """Return `merged` without what the applier had applied before, and nobody wants now."""
    last = owners.get(writer.owner)
    if last is None:
        return merged
    others = (owned.fields for owner, owned in owners.items() if owner != writer.owner)
    kept = fieldset.with_named_parents(wanted.union(*others))
    drop = fieldset.with_named_parents(last.fields) - kept
    pruned: Object = fieldset.without(merged, schema, drop)
    return pruned


def _refuse_conflicts(owners: Owners, taken: Fields, writer: Writer) -> None:
    conflicts = [
        (owner, owned, path)
        for owner, owned in sorted(owners.items())
        if owner != writer.owner
        for path in sorted(owned.fields & taken)
    ]
    if conflicts:
        raise ConflictError(
            _conflict_message(conflicts),
            [(owner.manager, fieldset.spell(path)) for owner, _, path in conflicts],
        )


def _conflict_message(conflicts: list[tuple[Owner, Owned, fieldset.Path]]) -> str:
    if len(conflicts) == 1:
        owner, owned, path = conflicts[0]
        who = _describe(owner, owned)
        return f"Apply failed with 1 conflict: conflict with {who}: {fieldset.spell(path)}"
    paths: dict[str, list[str]] = {}
    for owner, owned, path in conflicts:
        paths.setdefault(_describe(owner, owned), []).append(f"- {fieldset.spell(path)}")
    lines = [line for who in paths for line in (f"conflicts with {who}:", *paths[who])]
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def _describe(owner: Owner, owned: Owned) -> str:
    who = f'"{owner.manager}"'
    if owner.subresource:
        who += f' with subresource "{owner.subresource}"'
    if owner.operation == "Update":
        who += f" using {owned.api_version}" + (f" at {owned.time}" if owned.time else "")
    return who


def _settle(
    owners: Owners, taken: Fields, removed: Fields, writer: Writer, fields: Fields
) -> Owners:
    """Return `owners` after a write: the others lose `taken` and `removed`."""
    gone = taken | removed
    settled = {
        owner: replace(owned, fields=owned.fields - gone)
        for owner, owned in owners.items()
        if owner != writer.owner
    }
    settled = {owner: owned for owner, owned in settled.items() if owned.fields}
    mine = owners.get(writer.owner)
    if fields:
        unchanged = mine is not None and mine.fields == fields and not gone
        settled[writer.owner] = mine if unchanged and mine else writer.owning(fields)
    return settled


def _with_identity(live: Object, after: Object) -> Object:
    """Return `after` with the fields of `live` that nobody owns."""
    metadata = live.get("metadata", {})
    kept = {name: metadata[name] for name in metadata if name in SERVER_FIELDS}
    head: Object = {name: live[name] for name in ("apiVersion", "kind") if name in live}
    return {**head, **after, "metadata": {**kept, **after.get("metadata", {})}}


def same(old: Owners, new: Owners) -> bool:
    """Whether the same owners own the same fields; times don't count."""
    return {o: v.fields for o, v in old.items()} == {o: v.fields for o, v in new.items()}
