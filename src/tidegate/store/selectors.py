"""Which objects a request means: label and field selectors, parsed once, matched often.

The grammar is the one of Kubernetes (`k8s.io/apimachinery/pkg/labels`, selector.go): comma
means and; `k`, `!k`, `k=v`, `k==v`, `k!=v`, `k in (a,b)`, `k notin (a,b)`, `k>1`, `k<1`.
`!=` and `notin` also match where the label is missing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidegate.api.errors import BadRequestError


class SelectorError(BadRequestError):
    """A selector that can't be parsed or names a field that isn't selectable."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One part of a selector: what a label, or its absence, has to be."""

    key: str
    operator: str
    """One of `in`, `notin`, `exists`, `missing`, `>`, `<`."""
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, Any]) -> bool:
        """Whether `labels` satisfies this requirement."""
        found = labels.get(self.key)
        match self.operator:
            case "exists":
                return found is not None
            case "missing":
                return found is None
            case "in":
                return found in self.values
            case "notin":
                return found not in self.values
            case _:
                return self._compares(found)

    def _compares(self, found: object) -> bool:
        if not isinstance(found, str) or not re.fullmatch(r"-?\d{1,19}", found):
            return False
        bound = int(next(iter(self.values)))
        return int(found) > bound if self.operator == ">" else int(found) < bound


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements on labels and on `metadata.name` and `metadata.namespace`; all must hold."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """Whether a whole object is meant."""
        metadata = obj.get("metadata") or {}
        labels = metadata.get("labels") or {}
        return all(r.holds({r.key: _value(obj, r.key)}) for r in self.fields) and all(
            r.holds(labels) for r in self.labels
        )

    @property
    def can_change(self) -> bool:
        """Whether an object can come to match or cease to: labels change, names don't."""
        return bool(self.labels)


def _value(obj: Mapping[str, Any], path: str) -> str:
    """Return a selectable field's value; '' where it is missing."""
    found: Any = obj
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def parse_selector(labels: str, fields: str) -> Selector:
    """Return the selector of a request's `labelSelector` and `fieldSelector`.

    Raises:
        SelectorError: With the text that can't be understood.

    """
    return Selector(_parse_labels(labels), _parse_fields(fields))


_NAME: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY: Final = rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}"
_VALUE: Final = rf"(?:{_NAME})?"
_REQUIREMENT: Final = re.compile(
    rf"""\s*(?:
      (?P<key>{_KEY})\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)
    | (?P<left>{_KEY})\s*(?P<operator>==|=|!=)\s*(?P<right>{_VALUE})
    | (?P<number_key>{_KEY})\s*(?P<order>[<>])\s*(?P<number>-?\d+)
    | !\s*(?P<missing>{_KEY})
    | (?P<exists>{_KEY})
    )\s*(?P<end>,|$)""",
    re.VERBOSE,
)


def _parse_labels(text: str) -> tuple[Requirement, ...]:
    found: list[Requirement] = []
    rest = text
    while rest.strip():
        match = _REQUIREMENT.match(rest)
        if match is None or (match["end"] and not rest[match.end() :].strip()):
            raise SelectorError(f'unable to parse requirement: found "{rest.strip()}" in "{text}"')
        found.append(_requirement(match, text))
        rest = rest[match.end() :]
    return tuple(found)


def _requirement(match: re.Match[str], text: str) -> Requirement:
    if match["set"]:
        return Requirement(match["key"], match["set"], _values(match["values"], text))
    if match["operator"]:
        operator = "notin" if match["operator"] == "!=" else "in"
        return Requirement(match["left"], operator, frozenset([match["right"]]))
    if match["order"]:
        return Requirement(match["number_key"], match["order"], frozenset([match["number"]]))
    if match["missing"]:
        return Requirement(match["missing"], "missing")
    return Requirement(match["exists"], "exists")


def _values(text: str, whole: str) -> frozenset[str]:
    values = [value.strip() for value in text.split(",")]
    for value in values:
        if not re.fullmatch(_VALUE, value):
            raise SelectorError(f'unable to parse requirement: found value "{value}" in "{whole}"')
    return frozenset(values)


_OF_EVENTS: Final = (
    *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion")),
    *("involvedObject.resourceVersion", "involvedObject.fieldPath"),
    *("reason", "type", "reportingComponent"),
)
"""What `kubectl describe` and `kubectl events` select by (`registry/core/event/strategy.go`)."""
_FIELDS: Final = frozenset(("metadata.name", "metadata.namespace", *_OF_EVENTS))


def _parse_fields(text: str) -> tuple[Requirement, ...]:
    return tuple(_field(part) for part in text.split(",") if part.strip())


def _field(part: str) -> Requirement:
    match = re.fullmatch(r"\s*([\w.]+)\s*(==|=|!=)\s*(\S*)\s*", part)
    if match is None:
        raise SelectorError(f'invalid field selector: found "{part}", expected field=value')
    name, operator, value = match.groups()
    if name not in _FIELDS:
        raise SelectorError(f"field label not supported: {name}")
    return Requirement(name, "notin" if operator == "!=" else "in", frozenset([value]))
