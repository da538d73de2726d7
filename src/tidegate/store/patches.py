"""Merge patch (RFC 7386) and JSON patch (RFC 6902) on plain JSON values.

Both return a new value and leave the old one as it was; a JSON patch that fails anywhere
changes nothing.
"""

from collections.abc import Mapping
from typing import Any, Final

from tidegate.api.errors import BadRequestError, FieldError, InvalidError

MAX_OPERATIONS: Final = 10_000
"""As many as an API server takes in one patch (`maxJSONPatchOperations`)."""

_MISSING: Final = object()


def merge(target: Any, patch: Any) -> Any:
    """Return `target` with the merge patch `patch` applied (RFC 7386 section 2)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def apply_json(target: Any, operations: Any) -> Any:
    """Return `target` with the JSON patch `operations` applied (RFC 6902 section 3).

    Raises:
        BadRequestError: `operations` isn't a JSON patch.
        InvalidError: An operation can't be done, or a `test` doesn't hold; the error's path is
            the operation's.

    """
    if not isinstance(operations, list):
        raise BadRequestError(
            "a JSON patch is a list of operations, such as "
            '[{"op": "add", "path": "/metadata/labels/a", "value": "b"}]'
        )
    if len(operations) > MAX_OPERATIONS:
        raise BadRequestError(f"a JSON patch has at most {MAX_OPERATIONS} operations")
    for index, operation in enumerate(operations):
        target = _operate(target, _checked(operation, index))
    return target


def _checked(operation: Any, index: int) -> Mapping[str, Any]:
    if not isinstance(operation, Mapping) or not isinstance(operation.get("op"), str):
        raise BadRequestError(f"operation {index} of the JSON patch is no object with an `op`")
    for name in ("path", "from") if operation["op"] in ("move", "copy") else ("path",):
        pointer = operation.get(name)
        if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
            raise BadRequestError(f"operation {index} of the JSON patch has no valid `{name}`")
    if operation["op"] in ("add", "replace", "test") and "value" not in operation:
        raise BadRequestError(f"operation {index} of the JSON patch has no `value`")
    return operation


def _operate(target: Any, operation: Mapping[str, Any]) -> Any:
    path = operation["path"]
    match operation["op"]:
        case "add":
            return _add(target, path, operation["value"])
        case "remove":
            return _remove(target, path)
        case "replace":
            return _replace(target, path, operation["value"])
        case "test":
            return _test(target, path, operation["value"])
        case "copy":
            return _add(target, path, _get(target, operation["from"]))
        case "move":
            return _move(target, operation["from"], path)
        case unknown:
            raise BadRequestError(f"a JSON patch knows no operation {unknown!r}")


def _tokens(pointer: str) -> list[str]:
    """Return the parts of a JSON pointer (RFC 6901 section 4)."""
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _refuse(pointer: str, found: object, expected: str) -> InvalidError:
    return InvalidError([FieldError(pointer or "/", found, expected)])


def _get(target: Any, pointer: str) -> Any:
    for part in _tokens(pointer):
        target = _child(target, part)
        if target is _MISSING:
            raise _refuse(pointer, None, "a path that exists")
    return target


def _child(target: Any, part: str) -> Any:
    if isinstance(target, Mapping):
        return target.get(part, _MISSING)
    index = _index(target, part)
    return _MISSING if index is None else target[index]


def _index(target: Any, part: str, end: int = 0) -> int | None:
    """Return `part` as an index of the list `target`, at most `end` past the last one."""
    plain = part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")
    if not isinstance(target, list) or not plain:
        return None
    return int(part) if int(part) < len(target) + end else None


def _add(target: Any, pointer: str, value: Any) -> Any:
    def put(parent: Any, part: str) -> Any:
        if isinstance(parent, Mapping):
            return {**parent, part: value}
        index = len(parent) if part == "-" and isinstance(parent, list) else None
        index = _index(parent, part, end=1) if index is None else index
        if index is None:
            raise _refuse(pointer, part, "a field of an object or an index of a list")
        return [*parent[:index], value, *parent[index:]]

    return _edit(target, pointer, put) if pointer else value


def _remove(target: Any, pointer: str) -> Any:
    def drop(parent: Any, part: str) -> Any:
        if _child(parent, part) is _MISSING:
            raise _refuse(pointer, None, "a path that exists")
        if isinstance(parent, Mapping):
            return {name: value for name, value in parent.items() if name != part}
        return [*parent[: int(part)], *parent[int(part) + 1 :]]

    if not pointer:
        raise _refuse(pointer, "remove", "a path below the object itself")
    return _edit(target, pointer, drop)


def _replace(target: Any, pointer: str, value: Any) -> Any:
    def put(parent: Any, part: str) -> Any:
        if _child(parent, part) is _MISSING:
            raise _refuse(pointer, None, "a path that exists")
        if isinstance(parent, Mapping):
            return {**parent, part: value}
        return [*parent[: int(part)], value, *parent[int(part) + 1 :]]

    return _edit(target, pointer, put) if pointer else value


def _move(target: Any, source: str, pointer: str) -> Any:
    if pointer == source:
        return _test(target, source, _get(target, source))
    if pointer.startswith(source + "/"):
        raise _refuse(pointer, source, "a path that isn't below the one that is moved")
    return _add(_remove(target, source), pointer, _get(target, source))


def _test(target: Any, pointer: str, value: Any) -> Any:
    found = _get(target, pointer)
    if not _equal(found, value):
        raise _refuse(pointer, found, f"{value!r}, as the patch's `test` demands")
    return target


def _equal(a: Any, b: Any) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def _edit(target: Any, pointer: str, change: Any) -> Any:
    """Return `target` with `change(parent, last part)` in the place of the parent."""

    def walk(value: Any, tokens: list[str]) -> Any:
        part, *rest = tokens
        if not rest:
            return change(value, part)
        child = _child(value, part)
        if child is _MISSING:
            raise _refuse(pointer, None, "a path whose parent exists")
        edited = walk(child, rest)
        if isinstance(value, Mapping):
            return {**value, part: edited}
        return [*value[: int(part)], edited, *value[int(part) + 1 :]]

    return walk(target, _tokens(pointer))
