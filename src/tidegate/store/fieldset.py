"""Sets of fields of an object, as server-side apply counts them.

A path is a tuple of elements in the spelling of FieldsV1: `f:name` a field, `k:{...}` an
item of a list by its keys, `v:...` an item of a set by its value. A set of fields is a plain
frozenset of paths, so union, intersection and difference are Python's own. What counts as a
single field comes from the schema: scalars and atomic lists and maps are one field, other
containers are their children.

Semantics follow structured-merge-diff v4 (`typed/tofieldset.go`, `typed/compare.go`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tidegate.api.errors import FieldError, InvalidError

Path = tuple[str, ...]
Fields = frozenset[Path]
Schema = Mapping[str, Any]

NONE: Final[Fields] = frozenset()
_ITSELF: Final = "."


class Child(NamedTuple):
    """One child of a granular container."""

    value: Any
    schema: Schema
    named: bool
    """Whether it is a field of a struct, not an entry of a map or list."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paths that differ between two objects."""

    added: Fields
    modified: Fields
    removed: Fields

    def __bool__(self) -> bool:
        return bool(self.added or self.modified or self.removed)


def parse(fields_v1: Mapping[str, Any]) -> Fields:
    """Return the paths of a FieldsV1 document.

    Raises:
        InvalidError: It isn't one.

    """
    return frozenset(_parse(fields_v1, ()))


def _parse(node: Any, path: Path) -> Iterator[Path]:
    if not isinstance(node, Mapping):
        raise _not_fields("metadata.managedFields", node)
    for element, below in node.items():
        if element == _ITSELF:
            yield path
            continue
        here = (*path, _canonical(element))
        if below:
            yield from _parse(below, here)
        else:
            yield here


def _canonical(element: str) -> str:
    """Return `element` with its JSON spelled as we spell it, so that equal ones are equal."""
    sort, _, rest = element.partition(":")
    if sort in ("f", "i"):
        return element
    if sort not in ("k", "v"):
        raise _not_fields("metadata.managedFields", element)
    try:
        value = json.loads(rest)
    except ValueError as error:
        raise _not_fields("metadata.managedFields", element) from error
    if sort == "k" and not (isinstance(value, dict) and value):
        raise _not_fields("metadata.managedFields", element)
    return _spell(sort, value)


def _not_fields(path: str, found: object) -> InvalidError:
    return InvalidError([FieldError(path, found, "fields as FieldsV1 writes them")])


def _spell(sort: str, value: Any) -> str:
    spelled = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{sort}:{spelled}"


def render(fields: Iterable[Path]) -> dict[str, Any]:
    """Return `fields` as a FieldsV1 document."""
    root: dict[str, Any] = {}
    members = sorted(fields)
    for path in members:
        _descend(root, path)
    for path in members:
        node = _descend(root, path)
        if node:
            node[_ITSELF] = {}
    return _in_order(root)


def _descend(root: dict[str, Any], path: Path) -> dict[str, Any]:
    node = root
    for element in path:
        node = node.setdefault(element, {})
    return node


def _in_order(node: dict[str, Any]) -> dict[str, Any]:
    return {element: _in_order(node[element]) for element in sorted(node)}


def spell(path: Path) -> str:
    """Return `path` as error messages of an API server write it: `.spec.ports[name="a"].port`."""
    return "".join(_spell_element(element) for element in path)


def _spell_element(element: str) -> str:
    sort, _, rest = element.partition(":")
    if sort == "f":
        return f".{rest}"
    if sort == "k":
        keys = json.loads(rest)
        return "[" + ",".join(f"{name}={json.dumps(keys[name])}" for name in sorted(keys)) + "]"
    return f"[={rest}]" if sort == "v" else f"[{rest}]"


def is_atomic(value: Any, schema: Schema) -> bool:
    """Whether `value` counts as one field. What the schema doesn't know: maps don't, lists do."""
    if isinstance(value, dict):
        return schema.get("x-kubernetes-map-type") == "atomic"
    if isinstance(value, list):
        return schema.get("x-kubernetes-list-type", "atomic") not in ("map", "set")
    return True


def children(value: Any, schema: Schema, path: str = "") -> dict[str, Child]:
    """Return the children of a granular container by their path element, in order.

    Raises:
        InvalidError: Two items of a keyed list are the same, or one lacks its key.

    """
    if isinstance(value, dict):
        return {f"f:{name}": _member(name, child, schema) for name, child in value.items()}
    found: dict[str, Child] = {}
    items = schema.get("items", {})
    for item in value:
        element = element_of(item, schema, path)
        if element in found:
            raise InvalidError(
                [FieldError(path, _spell_element(element), "each item once: it is a duplicate")]
            )
        found[element] = Child(item, items, named=False)
    return found


def _member(name: str, value: Any, schema: Schema) -> Child:
    properties = schema.get("properties", {})
    if name in properties:
        return Child(value, properties[name], named=True)
    rest = schema.get("additionalProperties")
    return Child(value, rest if isinstance(rest, Mapping) else {}, named=False)


def element_of(item: Any, schema: Schema, path: str = "") -> str:
    """Return the path element of an item of a keyed list or a set."""
    if schema.get("x-kubernetes-list-type") == "set":
        return _spell("v", item)
    names = schema.get("x-kubernetes-list-map-keys", ())
    if not isinstance(item, dict):
        raise InvalidError([FieldError(path, item, "an object")])
    known = schema.get("items", {}).get("properties", {})
    keys = {name: item.get(name, known.get(name, {}).get("default")) for name in names}
    keys = {name: key for name, key in keys.items() if key is not None}
    if not keys:
        raise InvalidError([FieldError(path, item, f"an item with {' and '.join(names)}")])
    return _spell("k", keys)


def fields_of(value: Any, schema: Schema) -> Fields:
    """Return all fields that `value` has: what an applier of it owns."""
    return frozenset(_fields(value, schema, ()))


def _fields(value: Any, schema: Schema, path: Path) -> Iterator[Path]:
    if is_atomic(value, schema):
        yield path
        return
    for element, child in children(value, schema, spell(path)).items():
        here = (*path, element)
        if not child.named or child.value is None or child.value in ({}, []):
            yield here
        yield from _fields(child.value, child.schema, here)


def _nodes(value: Any, schema: Schema, path: Path) -> Iterator[Path]:
    """Yield `path` and every path below it, containers too."""
    yield path
    if not is_atomic(value, schema):
        for element, child in children(value, schema, spell(path)).items():
            yield from _nodes(child.value, child.schema, (*path, element))


def nodes_of(value: Any, schema: Schema) -> Fields:
    """Return every path that `value` has, containers too."""
    return frozenset(_nodes(value, schema, ()))


def compare(old: Any, new: Any, schema: Schema) -> Comparison:
    """Return what `new` adds, modifies and removes; containers that come or go count too."""
    added: set[Path] = set()
    modified: set[Path] = set()
    removed: set[Path] = set()

    def walk(before: Any, after: Any, shape: Schema, path: Path) -> None:
        if before == after and type(before) is type(after):
            return
        if type(before) is not type(after) or is_atomic(after, shape):
            modified.add(path)
            return
        olds = children(before, shape, spell(path))
        news = children(after, shape, spell(path))
        for element in olds.keys() - news.keys():
            removed.update(_nodes(olds[element].value, olds[element].schema, (*path, element)))
        for element, child in news.items():
            here = (*path, element)
            if element in olds:
                walk(olds[element].value, child.value, child.schema, here)
            else:
                added.update(_nodes(child.value, child.schema, here))

    walk(old, new, schema, ())
    return Comparison(frozenset(added), frozenset(modified), frozenset(removed))


def merge(live: Any, config: Any, schema: Schema, path: Path = ()) -> Any:
    """Return `live` with everything that `config` has laid over it."""
    if type(live) is not type(config) or is_atomic(config, schema):
        return config
    olds = children(live, schema, spell(path))
    news = children(config, schema, spell(path))
    merged = {
        element: merge(olds[element].value, child.value, child.schema, (*path, element))
        if element in olds
        else child.value
        for element, child in news.items()
    }
    if isinstance(live, dict):
        return {**live, **{element[2:]: value for element, value in merged.items()}}
    return [_pick(element, merged, olds) for element in _interleave(list(olds), list(news))]


def _pick(element: str, merged: Mapping[str, Any], olds: Mapping[str, Child]) -> Any:
    return merged[element] if element in merged else olds[element].value


def _interleave(olds: list[str], news: list[str]) -> list[str]:
    """Return all elements: `news` in their order, each old stranger after its old neighbour."""
    wanted = set(news)
    after: dict[str | None, list[str]] = {}
    neighbour: str | None = None
    for element in olds:
        if element in wanted:
            neighbour = element
        else:
            after.setdefault(neighbour, []).append(element)
    order = list(after.get(None, ()))
    for element in news:
        order += [element, *after.get(element, ())]
    return order


def without(value: Any, schema: Schema, drop: Fields, path: Path = ()) -> Any:
    """Return `value` without the paths in `drop` and what lies below them."""
    if is_atomic(value, schema):
        return value
    kept = {
        element: without(child.value, child.schema, drop, (*path, element))
        for element, child in children(value, schema, spell(path)).items()
        if (*path, element) not in drop
    }
    if isinstance(value, dict):
        return {element[2:]: child for element, child in kept.items()}
    return list(kept.values())


def with_named_parents(fields: Fields) -> Fields:
    """Return `fields` and the field names above them: owning `spec.a.b` is owning `spec.a`."""
    parents = {path[:depth] for path in fields for depth in range(1, len(path))}
    return fields | {path for path in parents if path[-1].startswith("f:")}
