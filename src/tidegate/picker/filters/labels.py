"""Keep the endpoints whose model server has certain labels: roles, tiers, zones."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Literal

import msgspec
import numpy as np

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Flags

ROLE: Final = "llm-d.ai/role"
"""Which part of a request a server does."""


class Requirement(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """One condition on a label, as in a Kubernetes label selector."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it holds for a server with `labels`."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None


class LabelSelectorFilter(Plugin, frozen=True):
    """Keeps endpoints whose model server's labels match a Kubernetes label selector."""

    reason: ClassVar[str] = "NoEndpoints"

    match_labels: dict[str, str] = {}  # noqa: RUF012  # msgspec copies it
    """Labels and their values; all must be equal."""
    match_expressions: tuple[Requirement, ...] = ()
    """Conditions on labels (`key`, `operator`, `values`); all must hold."""

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return who matches."""
        return _where(candidates, self, self._matches)

    def _matches(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            each.holds(labels) for each in self.match_expressions
        )


class ByLabelFilter(Plugin, frozen=True):
    """Keeps endpoints whose model server has one of some values of a label."""

    reason: ClassVar[str] = "NoEndpoints"

    label: str
    """The label's name."""
    valid_values: tuple[str, ...] = ()
    """Values that pass."""
    allows_no_label: bool = False
    """Whether servers without the label pass too."""

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return who matches."""
        return _where(candidates, self, self._matches)

    def _matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.label)
        return self.allows_no_label if value is None else value in self.valid_values


class DecodeFilter(Plugin, frozen=True):
    """Keeps endpoints whose role (label `llm-d.ai/role`) includes decoding."""

    reason: ClassVar[str] = "NoEndpoints"
    roles: ClassVar[frozenset[str]] = frozenset(
        {"decode", "prefill-decode", "both", "encode-prefill-decode"}
    )

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return who decodes."""
        return _where(candidates, self, lambda labels: labels.get(ROLE) in self.roles)


class PrefillFilter(Plugin, frozen=True):
    """Keeps endpoints whose role (label `llm-d.ai/role`) includes computing prompts."""

    reason: ClassVar[str] = "NoEndpoints"
    roles: ClassVar[frozenset[str]] = frozenset(
        {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}
    )

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return who computes prompts."""
        return _where(candidates, self, lambda labels: labels.get(ROLE) in self.roles)


def _where(
    candidates: Candidates, plugin: Plugin, holds: Callable[[Mapping[str, str]], bool]
) -> Flags:
    """Return for which candidates `holds`; labels seldom change, so the pool remembers it."""
    remembered = candidates.pool.label_flags
    flags = remembered.get(id(plugin))
    if flags is None:
        endpoints = candidates.pool.endpoints
        found = [one is not None and holds(one.labels) for one in endpoints]
        flags = remembered[id(plugin)] = np.array(found, np.bool_)
    return flags[candidates.at]
