"""Does a value have the shape that its schema asks for? Every place where it doesn't.

Meaning is checked in the same walk: a rule stands for a model and sees a value of it once
everything below that value has its shape, so one bad field hides no other's errors.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tidegate.api.errors import Cause, Described, FieldError
from tidegate.api.meta import Model
from tidegate.api.names import is_text
from tidegate.api.schema import INT64, Node

Problem = FieldError
"""What a rule yields: its path is relative to the value, such as `.port` or ``."""

Rule = Callable[[Any], Iterable[Problem]]
"""What a model's values must fulfil beyond their shape."""


def prune(node: Node, value: Any, unknown: list[str], path: str = "") -> Any:
    """Return `value` without the fields that its schema doesn't know; list them in `unknown`."""
    if isinstance(value, dict) and node.form == "object":
        return _prune_fields(node, value, unknown, path)
    if node.items is None:
        return value
    items = node.items
    if isinstance(value, dict) and node.form == "map":
        return {k: prune(items, item, unknown, f"{path}[{k}]") for k, item in value.items()}
    if isinstance(value, list) and node.form == "array":
        return [prune(items, item, unknown, f"{path}[{i}]") for i, item in enumerate(value)]
    return value


def _prune_fields(node: Node, value: dict[str, Any], unknown: list[str], path: str) -> Any:
    kept = {}
    for name, item in value.items():
        child = node.fields.get(name)
        if child is not None:
            kept[name] = prune(child, item, unknown, joined(path, name))
        elif node.keeps_unknown:
            kept[name] = item
        else:
            unknown.append(joined(path, str(name)))
    return kept


def joined(path: str, name: str) -> str:
    """Return the path of a field below `path`."""
    return f"{path}.{name}" if path else name


@dataclass(slots=True)
class Check:
    """One walk over a value; afterwards `errors` has all that is wrong, in order."""

    rules: Mapping[type[Model], Rule] = field(default_factory=dict)
    errors: list[FieldError] = field(default_factory=list)

    def walk(self, node: Node, value: Any, path: str) -> bool:
        """Note what is wrong with `value` and return whether its shape is right."""
        wrong = next(_misfits(node, value), None)
        if wrong is not None:
            expected, cause = wrong
            self.errors.append(FieldError(path, _outline(value), expected, cause))
            return False
        match node.form:
            case "object":
                return self._object(node, value, path)
            case "map":
                return self._map(node, value, path)
            case "array":
                return self._array(node, value, path)
            case _:
                return True

    def _object(self, node: Node, value: dict[str, Any], path: str) -> bool:
        shaped = True
        for name in sorted(node.required - value.keys()):
            child = node.fields[name]
            missing = FieldError(joined(path, name), None, phrase(child), "FieldValueRequired")
            self.errors.append(missing)
            shaped = False
        for name, item in value.items():
            if name in node.fields:
                shaped &= self.walk(node.fields[name], item, joined(path, name))
        if shaped and node.model is not None and node.model in self.rules:
            self._apply(node.model, value, path)
        return shaped

    def _apply(self, model: type[Model], value: dict[str, Any], path: str) -> None:
        typed = msgspec.convert(value, model)
        for problem in self.rules[model](typed):
            where = (path + problem.path).lstrip(".")
            self.errors.append(FieldError(where, problem.found, problem.expected, problem.cause))

    def _map(self, node: Node, value: dict[Any, Any], path: str) -> bool:
        shaped = True
        for key, item in value.items():
            if not isinstance(key, str):
                self.errors.append(FieldError(path, key, "a key that is text", TYPE_INVALID))
                shaped = False
            elif node.items is not None:
                shaped &= self.walk(node.items, item, f"{path}[{key}]")
        return shaped

    def _array(self, node: Node, value: list[Any], path: str) -> bool:
        assert node.items is not None  # noqa: S101  # arrays have items
        shaped = True
        for index, item in enumerate(value):
            shaped &= self.walk(node.items, item, f"{path}[{index}]")
        if shaped and node.list_keys is not None:
            shaped = self._unique(node.list_keys, value, path)
        return shaped

    def _unique(self, keys: tuple[str, ...], value: list[Any], path: str) -> bool:
        seen: set[Any] = set()
        before = len(self.errors)
        for index, item in enumerate(value):
            key = tuple(item.get(name) for name in keys) if keys else item
            if key in seen:
                found = ", ".join(map(str, key)) if keys else item
                what = f"no second item with the same {' and '.join(keys) or 'value'}"
                duplicate = FieldError(f"{path}[{index}]", found, what, "FieldValueDuplicate")
                self.errors.append(duplicate)
            seen.add(key)
        return len(self.errors) == before


TYPE_INVALID: Final[Cause] = "FieldValueTypeInvalid"


def _misfits(node: Node, value: Any) -> Iterator[tuple[str, Cause]]:
    """Yield what is expected instead of `value`, which is looked at without what is in it."""
    if not _TYPE_CHECKS[node.form](value):
        yield phrase(node), TYPE_INVALID
    elif node.enum and value not in node.enum:
        yield phrase(node), "FieldValueNotSupported"
    elif node.form in ("integer", "number") and not _in_range(node, value):
        yield phrase(node), "FieldValueInvalid"
    elif node.form in ("string", "array", "map"):
        yield from _size_misfits(node, value)


def _size_misfits(node: Node, value: Any) -> Iterator[tuple[str, Cause]]:
    size = len(value)
    too_short = node.min_size is not None and size < node.min_size
    too_long = node.max_size is not None and size > node.max_size
    if too_short or too_long or (node.regex is not None and not node.regex.search(value)):
        yield phrase(node), "FieldValueInvalid"


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


_TYPE_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "map": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": is_text,
    "integer": _is_integer,
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "int-or-string": lambda value: _is_integer(value) or is_text(value),
    "any": lambda _: True,
}


def _in_range(node: Node, value: float) -> bool:
    low = INT64[0] if node.minimum is None and node.form == "integer" else node.minimum
    high = INT64[1] if node.maximum is None and node.form == "integer" else node.maximum
    if low is not None and (value < low or (node.exclusive_minimum and value == low)):
        return False
    return high is None or value <= high


def phrase(node: Node) -> str:
    """Return in words what a node expects: `an integer from 1 to 65535`."""
    if node.expected:
        return node.expected
    if node.enum:
        words = ", ".join(f'"{each}"' for each in node.enum)
        return words if len(node.enum) == 1 else f"one of {words}"
    match node.form:
        case "integer" | "number":
            return f"{'an integer' if node.form == 'integer' else 'a number'}{_range(node)}"
        case "string":
            matching = f" matching {node.pattern}" if node.pattern else ""
            return f"text{_sizes(node, 'character')}{matching}"
        case "array":
            return f"a list{_sizes(node, 'item')}"
        case "map":
            return f"a mapping{_sizes(node, 'key')}"
        case "object":
            return "a mapping" + (f" with {_fields(node)}" if node.required else "")
        case "boolean":
            return "true or false"
        case _:
            return "an integer or text"


def _fields(node: Node) -> str:
    return ", ".join(sorted(node.required))


def _range(node: Node) -> str:
    low, high = node.minimum, node.maximum
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" above {low}" if node.exclusive_minimum else f" of at least {low}"
    return f" of at most {high}" if high is not None else ""


def _sizes(node: Node, unit: str) -> str:
    low, high = node.min_size, node.max_size
    if low is not None and high is not None:
        return f" of {low} to {high} {unit}s"
    if low is not None:
        return f" of at least {counted(low, unit)}"
    return f" of at most {counted(high, unit)}" if high is not None else ""


def _outline(value: Any) -> Any:
    """Return a value as an error shows it: of lists and mappings only what they are."""
    if isinstance(value, dict):
        return MAPPING if value else Described("an empty mapping")
    if isinstance(value, list):
        return Described(f"a list of {counted(len(value), 'item')}" if value else "an empty list")
    return value


MAPPING: Final = Described("a mapping")


def counted(number: int, thing: str) -> str:
    """Return `1 item`, `2 items`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
