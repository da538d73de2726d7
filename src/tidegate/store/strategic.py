"""Strategic merge patches, which kubectl sends for the built-in kinds (Secret, Service, ...).

A merge patch, but lists of the built-in kinds are merged item by item, and directives say
what a plain merge can't: `$patch: delete` or `replace`, `$setElementOrder/FIELD`,
`$deleteFromPrimitiveList/FIELD`, `$retainKeys`. Semantics follow
`k8s.io/apimachinery/pkg/util/strategicpatch` (patch.go).
"""

from collections.abc import Mapping
from typing import Any, Final

from tidegate.api.errors import BadRequestError

Json = dict[str, Any]

LISTS: Final[Mapping[str, str]] = {
    "spec.ports": "port",
    "status.conditions": "type",
    "metadata.ownerReferences": "uid",
    "metadata.finalizers": "",
    "spec.finalizers": "",
}
"""The lists that are merged, and by which field of their items; "" for plain values.

From the `patchMergeKey` tags of `k8s.io/api/core/v1` and `meta/v1`, types.go. Other lists are
replaced.
"""

_PATCH: Final = "$patch"
_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"
_RETAIN: Final = "$retainKeys"


def merge_strategic(target: Any, patch: Any, path: str = "") -> Any:
    """Return `target` with the strategic merge patch `patch` applied; neither is changed.

    Raises:
        BadRequestError: A directive is malformed.

    """
    if not isinstance(patch, dict):
        return patch
    directive = patch.get(_PATCH)
    if directive == "delete":
        return None
    if directive == "replace":
        return _plain(patch)
    old = target if isinstance(target, dict) else {}
    merged = _retained(old, patch)
    for name, value in patch.items():
        if not name.startswith("$"):
            _merge_field(merged, name, value, f"{path}.{name}".lstrip("."))
    return _directed(merged, patch, path)


def _merge_field(merged: Json, name: str, value: Any, path: str) -> None:
    """Set one field of `merged` to what the patch makes of it."""
    if isinstance(value, list) and path in LISTS:
        merged[name] = _merge_list(merged.get(name), value, LISTS[path], path)
    elif (new := merge_strategic(merged.get(name), value, path)) is None:
        merged.pop(name, None)
    else:
        merged[name] = new


def _merge_list(old: Any, patch: list[Any], key: str, path: str) -> list[Any]:
    items = list(old) if isinstance(old, list) else []
    if not key:
        return items + [value for value in patch if value not in items]
    for change in patch:
        if not isinstance(change, dict):
            raise BadRequestError(f"{path}: found {change!r:.40}, expected objects with {key}")
        if change.get(_PATCH) == "replace" and key not in change:
            items = [_plain(c) for c in patch if isinstance(c, dict) and key in c]
            break
        if key not in change:
            raise BadRequestError(f"{path}: an item of the patch lacks {key}")
        _merge_item(items, change, key, path)
    return items


def _merge_item(items: list[Any], change: Json, key: str, path: str) -> None:
    """Merge one item of a patch into the one of the same key, or append it."""
    for at, item in enumerate(items):
        if isinstance(item, dict) and item.get(key) == change[key]:
            new = merge_strategic(item, change, f"{path}[]")
            items[at : at + 1] = [] if new is None else [new]
            return
    if change.get(_PATCH) != "delete":
        items.append(_plain(change))


def _directed(merged: Json, patch: Json, path: str) -> Json:
    """Return `merged` after the directives that stand beside the fields they are about."""
    for name, value in patch.items():
        if name.startswith((_ORDER, _DELETE)):
            if not isinstance(value, list):
                raise BadRequestError(f"{name}: found {value!r:.40}, expected a list")
            field = name.partition("/")[2]
            found = merged.get(field)
            if isinstance(found, list) and name.startswith(_DELETE):
                merged[field] = [item for item in found if item not in value]
            elif isinstance(found, list):
                key = LISTS.get(f"{path}.{field}".lstrip("."), "")
                merged[field] = _ordered(found, value, key)
    return merged


def _ordered(items: list[Any], order: list[Any], key: str) -> list[Any]:
    """Return the items in `order`; those that it doesn't name stay behind."""

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    names = [name(item) for item in order]
    return sorted(items, key=lambda i: names.index(name(i)) if name(i) in names else len(names))


def _retained(old: Json, patch: Json) -> Json:
    keys = patch.get(_RETAIN)
    if keys is None:
        return dict(old)
    if not isinstance(keys, list):
        raise BadRequestError(f"{_RETAIN}: found {keys!r:.40}, expected a list")
    return {name: value for name, value in old.items() if name in keys}


def _plain(patch: Any) -> Any:
    """Return what a patch says without directives and without nulls."""
    if isinstance(patch, dict):
        fields = ((name, value) for name, value in patch.items() if not name.startswith("$"))
        return {name: _plain(value) for name, value in fields if value is not None}
    return [_plain(item) for item in patch] if isinstance(patch, list) else patch
