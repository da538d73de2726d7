"""The shape of a kind on the wire: a tree of nodes made once from its model.

The tree is what validation walks, what defaulting fills in and what CRDs and the OpenAPI
document are rendered from, so the three can't disagree. It says more than the model where
the wire does: `Meta(extra={...})` on a field may carry

    default     what the API server writes where the field is missing
    required    the field must be there although the model has a default
    enum        the only values to admit, where the model reads any
    list_keys   the fields by which items of a list are told apart; () for items themselves
    expected    a pattern in words, for error messages
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Literal

import msgspec
from msgspec import inspect as types

from tidegate.api.docs import docs_of
from tidegate.api.meta import Model, ObjectMeta, Resource

Form = Literal[
    "object", "map", "array", "string", "integer", "number", "boolean", "int-or-string", "any"
]

MISSING: Final = msgspec.UNSET
"""No default."""

INT32: Final = (-(2**31), 2**31 - 1)
INT64: Final = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One place of a schema. A field that doesn't concern its `form` is at its default."""

    form: Form
    description: str = ""
    default: Any = MISSING
    model: type[Model] | None = None
    """The struct behind an object."""
    fields: Mapping[str, "Node"] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    keeps_unknown: bool = False
    """Whether an object keeps fields that it doesn't know."""
    items: "Node | None" = None
    """The items of an array, or the values of a map."""
    list_keys: tuple[str, ...] | None = None
    """How an array's items are told apart: by these fields, by themselves if empty."""
    enum: tuple[str | int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    min_size: int | None = None
    """Least characters of a string, items of an array, entries of a map."""
    max_size: int | None = None
    pattern: str = ""
    regex: re.Pattern[str] | None = None
    expected: str = ""
    """The value in words, where its limits don't say it well."""


@cache
def node_of(model: type[Resource]) -> Node:
    """Return the schema of a kind's objects."""
    described = docs_of(model)
    fields = {
        "apiVersion": Node(form="string", description="The group and version of this object."),
        "kind": Node(form="string", description="The kind of this object."),
        "metadata": Node(
            form="object",
            description="Name, labels and annotations.",
            model=ObjectMeta,
            keeps_unknown=True,
        ),
    }
    own = [each for each in _fields(model) if each.encode_name not in fields]
    for each in own:
        make = _status if each.encode_name == "status" else _field
        fields[each.encode_name] = make(each, described.fields.get(each.name, ""))
    return Node(
        form="object",
        description=described.text,
        model=model,
        fields=fields,
        required=frozenset(each.encode_name for each in own if _is_required(each)),
    )


def _status(each: types.Field, description: str) -> Node:
    """Return the schema of a status: filled by controllers, of which others may know more."""
    node = _node(each.type)
    return replace(
        _without_defaults(node),
        default=node.default,
        description=description or node.description,
        keeps_unknown=True,
    )


def _without_defaults(node: Node) -> Node:
    return replace(
        node,
        default=MISSING,
        fields={name: _without_defaults(child) for name, child in node.fields.items()},
        items=_without_defaults(node.items) if node.items else None,
    )


def _field(each: types.Field, description: str) -> Node:
    node = _node(each.type)
    default = _default(each, node)
    return replace(
        node,
        default=default if node.default is MISSING else node.default,
        description=description or node.description,
    )


def _is_required(each: types.Field) -> bool:
    return each.required or _extra(each.type).get("required", False)


def _extra(kind: types.Type) -> Mapping[str, Any]:
    return (kind.extra or {}) if isinstance(kind, types.Metadata) else {}


def _default(each: types.Field, node: Node) -> Any:
    """Return what the wire has where the field is missing: never null, never empty."""
    if each.required or _is_required(each) or each.default is None:
        return MISSING
    value = each.default_factory() if each.default is msgspec.NODEFAULT else each.default
    filled = fill(node, msgspec.to_builtins(value))
    if isinstance(filled, float) and filled.is_integer():
        return int(filled)  # as people write it
    return MISSING if filled in ([], {}) else filled


def fill(node: Node, value: Any) -> Any:
    """Return `value` with the defaults of everything in it that is missing.

    A new value is returned; of the old one nothing is changed. What doesn't fit the schema
    is left as it is.
    """
    if isinstance(value, dict) and node.fields:
        return _fill_fields(node, value)
    if node.items is None:
        return value
    items = node.items
    if isinstance(value, dict) and node.form == "map":
        return {key: fill(items, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and node.form == "array":
        return [fill(items, item) for item in value]
    return value


def _fill_fields(node: Node, value: dict[str, Any]) -> dict[str, Any]:
    filled = {
        name: fill(node.fields[name], item) if name in node.fields else item
        for name, item in value.items()
    }
    for name, child in node.fields.items():
        if name not in filled and child.default is not MISSING:
            filled[name] = copied(child.default)
    return filled


def copied(value: Any) -> Any:
    """Return a copy of a JSON value that shares nothing that can change."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def _node(kind: types.Type) -> Node:
    match kind:
        case types.Metadata():
            return _annotated(_node(kind.type), kind.extra or {})
        case types.UnionType():
            return _union([each for each in kind.types if not isinstance(each, types.NoneType)])
        case types.StructType():
            return _object(kind.cls)
        case types.DictType():
            return _map(kind)
        case types.VarTupleType() | types.ListType():
            return Node(
                form="array",
                items=_node(kind.item_type),
                min_size=kind.min_length,
                max_size=kind.max_length,
            )
        case _:
            return _scalar(kind)


def _annotated(node: Node, extra: Mapping[str, Any]) -> Node:
    """Return the node with what the field's `Meta(extra=...)` says; lists inside stay theirs."""
    known = {name: extra[name] for name in ("enum", "list_keys", "expected") if name in extra}
    if "default" in extra:
        known["default"] = fill(node, extra["default"])
    return replace(node, **known)


def _union(members: list[types.Type]) -> Node:
    nodes = [_node(member) for member in members]
    if len(nodes) == 1:
        return nodes[0]
    if {node.form for node in nodes} == {"integer", "string"}:
        return Node(form="int-or-string")
    raise TypeError(f"no schema for a union of {members}")


@cache
def _object(model: type[Model]) -> Node:
    own = _fields(model)
    described = docs_of(model)
    return Node(
        form="object",
        description=described.text,
        model=model,
        fields={
            each.encode_name: _field(each, described.fields.get(each.name, "")) for each in own
        },
        required=frozenset(each.encode_name for each in own if _is_required(each)),
    )


def _fields(model: type[Model]) -> tuple[types.Field, ...]:
    struct = types.type_info(model)
    assert isinstance(struct, types.StructType)  # noqa: S101  # a Model is one
    return struct.fields


def _map(kind: types.DictType) -> Node:
    values = kind.value_type
    if isinstance(values, types.AnyType):
        return Node(form="object", keeps_unknown=True)
    return Node(form="map", items=_node(values), min_size=kind.min_length, max_size=kind.max_length)


def _scalar(kind: types.Type) -> Node:
    match kind:
        case types.StrType():
            return Node(
                form="string",
                min_size=kind.min_length,
                max_size=kind.max_length,
                pattern=kind.pattern or "",
                regex=_compiled(kind.pattern),
            )
        case types.IntType():
            low = kind.ge if kind.ge is not None else (kind.gt + 1 if kind.gt is not None else None)
            return Node(form="integer", minimum=low, maximum=kind.le)
        case types.FloatType():
            return Node(
                form="number",
                minimum=kind.ge if kind.ge is not None else kind.gt,
                exclusive_minimum=kind.gt is not None,
                maximum=kind.le,
            )
        case types.BoolType():
            return Node(form="boolean")
        case types.LiteralType():
            return _literal([each for each in kind.values if isinstance(each, (str, int))])
        case types.AnyType():
            return Node(form="any", keeps_unknown=True)
        case _:
            raise TypeError(f"no schema for {kind}")


def _literal(values: list[str | int]) -> Node:
    enum = tuple(values)
    return Node(form="integer" if isinstance(enum[0], int) else "string", enum=enum)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    r"""Return the pattern as Go reads it: `$` ends the text, `\d` and `\w` are ASCII.

    Python's `$` would let a newline at the end pass.
    """
    if not pattern:
        return None
    outside = re.compile(r"(\\.|\[(?:\\.|[^\]\\])*\])|\$")
    ended = outside.sub(lambda match: match[1] or r"\Z", pattern)
    return re.compile(ended, re.ASCII)
