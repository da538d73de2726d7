"""The compiler's only input: all resources of one moment, by kind and key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tidegate.api.core import ConfigMap, Namespace, Secret, Service
from tidegate.api.gateway import Gateway, GatewayClass, HTTPRoute, ReferenceGrant
from tidegate.api.inference import (
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    LegacyInferenceModelRewrite,
    LegacyInferenceObjective,
    LegacyInferencePool,
)
from tidegate.api.meta import Key, Resource
from tidegate.api.rollout import InferenceRollout
from tidegate.api.tidegate import ModelServer

KINDS: Final[tuple[type[Resource], ...]] = (
    GatewayClass,
    Gateway,
    HTTPRoute,
    ReferenceGrant,
    InferencePool,
    LegacyInferencePool,
    InferenceModel,
    InferenceModelRewrite,
    LegacyInferenceModelRewrite,
    InferenceObjective,
    LegacyInferenceObjective,
    InferenceRollout,
    ModelServer,
    Service,
    Secret,
    ConfigMap,
    Namespace,
)
"""What a table and its statuses are made of: what workers and controllers watch."""

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable bundle of resources, already converted to the newest versions."""

    objects: Mapping[type[Resource], Mapping[Key, Resource]] = field(default_factory=dict)

    @staticmethod
    def of(resources: Iterable[Resource]) -> "Snapshot":
        """Return a snapshot of `resources`; of two with the same kind and key the last wins."""
        objects: dict[type[Resource], dict[Key, Resource]] = {}
        for resource in resources:
            objects.setdefault(type(resource), {})[resource.key] = resource
        return Snapshot(objects)

    def all(self, kind: type[R]) -> Mapping[Key, R]:
        """Return every object of `kind`."""
        return self.objects.get(kind, {})  # type: ignore[return-value]  # keyed by type

    def get(self, kind: type[R], key: Key) -> R | None:
        """Return one object, or None."""
        return self.all(kind).get(key)
