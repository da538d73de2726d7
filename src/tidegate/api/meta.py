"""What all resources share: metadata, conditions, names.

Models are frozen msgspec structs in Python's spelling; on the wire they are camelCase.
They hold the fields that Tidegate reads. The store keeps the whole object as it came, so a
field that is not modelled here survives.
"""

from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=253)]
"""The name of an object: a DNS subdomain."""


class Model(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a resource."""


class Key(NamedTuple):
    """Which object of a kind; cluster-scoped kinds have namespace ''."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class GVK(NamedTuple):
    """Group, version and kind; the core group is ''."""

    group: str
    version: str
    kind: str

    @property
    def api_version(self) -> str:
        """`group/version`, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version


class ManagedFields(Model, frozen=True, kw_only=True):
    """Who wrote which fields last; see Kubernetes' "Server-Side Apply"."""

    manager: str = ""
    operation: str = ""
    time: str = ""
    """RFC 3339, UTC."""
    subresource: str = ""
    fields_v1: dict[str, Any] = msgspec.field(default_factory=dict, name="fieldsV1")


class ObjectMeta(Model, frozen=True, kw_only=True):
    """The part of `metadata` that Tidegate reads. Times are RFC 3339 strings, UTC."""

    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    finalizers: tuple[str, ...] = ()
    managed_fields: tuple[ManagedFields, ...] = ()


class Condition(Model, frozen=True, kw_only=True):
    """One aspect of an object's state, in the standard shape of Kubernetes."""

    type: Annotated[str, Meta(min_length=1, max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Meta(min_length=1, max_length=1024)]
    message: Annotated[str, Meta(max_length=32768)] = ""
    observed_generation: Annotated[int, Meta(ge=0)] = 0
    last_transition_time: str = ""


class Resource(Model, frozen=True, kw_only=True):
    """An object: what every kind has."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> Key:
        """The object's name within its kind."""
        return Key(self.metadata.namespace, self.metadata.name)


class LabelSelector(Model, frozen=True, kw_only=True):
    """Labels that must all be equal (an empty selector selects everything)."""

    match_labels: dict[str, str] = {}

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether `labels` has every wanted label with its value."""
        return all(labels.get(name) == value for name, value in self.match_labels.items())
