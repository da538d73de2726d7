"""Admission: from an object as it was sent to one that may be stored.

In this order, as on a real API server: what is almost right is mended with a warning,
unknown fields are refused or pruned, missing fields get their defaults, then shape and
meaning are checked. All that is wrong is reported at once. Admitting an admitted object
changes nothing and warns of nothing new.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from tidegate.api import core, gateway, inference
from tidegate.api.columns import values_at
from tidegate.api.defaults import apply_defaults
from tidegate.api.errors import Cause, Described, FieldError, InvalidError, StrictDecodingError
from tidegate.api.leniency import normalise
from tidegate.api.meta import Resource
from tidegate.api.names import KNOWN_FIELDS, metadata_errors
from tidegate.api.rules import RULES
from tidegate.api.schema import Node, node_of
from tidegate.api.scheme import Kind
from tidegate.api.structure import Check, prune
from tidegate.api.versions import decode, without_nulls

Strictness = Literal["Strict", "Warn", "Ignore"]
"""What becomes of unknown fields: refused, pruned with a warning, pruned in silence."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An object that may be stored, and what its writer should know."""

    obj: dict[str, Any]
    warnings: tuple[str, ...] = ()


def admit(
    kind: Kind,
    version: str,
    obj: Mapping[str, Any],
    *,
    old: Mapping[str, Any] | None = None,
    strict: Strictness = "Strict",
) -> Admitted:
    """Return the object to store in place of `obj`, which stays as it is.

    Args:
        kind: What `obj` must be.
        version: One of the kind's versions, which `obj` must be in.
        obj: The whole object as JSON values, with what a subresource left in place.
        old: The stored object that it replaces; some fields can't change.
        strict: What becomes of unknown fields.

    Raises:
        StrictDecodingError: There are unknown fields, and `strict` is Strict.
        InvalidError: With all that is wrong.

    """
    try:
        return _admit(kind, version, obj, old, strict)
    except RecursionError as error:
        raise InvalidError(
            [FieldError("", Described("deep nesting"), "a flatter object")]
        ) from error


def _admit(
    kind: Kind,
    version: str,
    obj: Mapping[str, Any],
    old: Mapping[str, Any] | None,
    strict: Strictness,
) -> Admitted:
    given, warnings = normalise(kind, without_nulls(obj))
    known, unknown = _known_fields(kind, given)
    if unknown and strict == "Strict":
        raise StrictDecodingError([path for path, _ in unknown], [text for _, text in unknown])
    filled = apply_defaults(kind, known)
    errors = [
        *_type_errors(kind, version, filled),
        *_shape_errors(kind, filled),
        *(_changed(kind, filled, old) if old is not None else ()),
    ]
    if errors:
        raise InvalidError(errors)
    decode(filled)
    if old is not None and old.get("spec") == filled.get("spec"):
        warnings = ()
    if strict == "Warn":
        warnings += tuple(text for _, text in unknown)
    return Admitted(filled, warnings)


def _known_fields(kind: Kind, obj: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return `obj` without the fields that its kind doesn't have, and these with a text each."""
    node = node_of(kind.model)
    paths: list[str] = []
    known = prune(node, obj, paths)
    metadata = known.get("metadata")
    if isinstance(metadata, dict):
        known["metadata"] = {name: metadata[name] for name in metadata if name in KNOWN_FIELDS}
        paths += [f"metadata.{name}" for name in metadata if name not in KNOWN_FIELDS]
    return known, [(path, _unknown_text(node, path)) for path in paths]


def _unknown_text(node: Node, path: str) -> str:
    """Return the words of a real API server, with the field that may have been meant."""
    holder, _, name = path.rpartition(".")
    meant = difflib.get_close_matches(name, _names_at(node, holder), n=1)
    hint = f' (did you mean "{meant[0]}"?)' if meant else ""
    return f'unknown field "{path}"{hint}'


def _names_at(node: Node, path: str) -> Iterable[str]:
    if path == "metadata":
        return KNOWN_FIELDS
    for name in path.split(".") if path else ():
        found = node.fields.get(name.partition("[")[0])
        if found is None:
            return ()
        node = found.items if found.items is not None else found
    return node.fields


def _type_errors(kind: Kind, version: str, obj: Mapping[str, Any]) -> Iterator[FieldError]:
    for field, expected in (("apiVersion", kind.api_version(version)), ("kind", kind.kind)):
        if obj.get(field) != expected:
            cause: Cause = "FieldValueInvalid" if obj.get(field) else "FieldValueRequired"
            yield FieldError(field, obj.get(field), f'"{expected}"', cause)


def _shape_errors(kind: Kind, obj: dict[str, Any]) -> list[FieldError]:
    metadata = obj.get("metadata")
    check = Check(RULES)
    if isinstance(metadata, dict):
        check.errors.extend(metadata_errors(kind, metadata))
    else:
        words = "a mapping with a name"
        check.errors.append(FieldError("metadata", metadata, words, "FieldValueRequired"))
    # Type and metadata are checked above, and rules of whole objects don't read them.
    rest = {**obj, "apiVersion": "", "kind": "", "metadata": {}}
    check.walk(node_of(kind.model), rest, "")
    return check.errors


_IMMUTABLE: Final[Mapping[type[Resource], str]] = {
    gateway.GatewayClass: ".spec.controllerName",
    inference.InferenceModel: ".spec.modelName",
}
"""Fields that upstream's CRDs don't let change."""


def _changed(kind: Kind, obj: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[FieldError]:
    """Yield the fields that differ from the stored object and mustn't."""
    path = _IMMUTABLE.get(kind.model)
    if path is not None and values_at(obj, path) != values_at(old, path):
        found = next(iter(values_at(obj, path)), None)
        words = f'"{next(iter(values_at(old, path)), "")}": the field is immutable'
        yield FieldError(path.lstrip("."), found, words, "FieldValueForbidden")
    if kind.model in (core.Secret, core.ConfigMap) and old.get("immutable") is True:
        for field in ("data", "binaryData", "type", "immutable"):
            if obj.get(field) != old.get(field):
                words = "no change: the object is immutable"
                yield FieldError(field, Described("a change"), words, "FieldValueForbidden")
