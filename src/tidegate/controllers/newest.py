"""The cache, with what we just wrote laid over it.

The watch brings our own write back some milliseconds later. To decide on the weights as they
were before it would be wrong once: a rollback could take a 0 that is no longer there for a
fact. So an object that a write returned is read until the cache has one of its generation.
(`metadata.generation` counts changes of the spec; unlike versions it may be compared.)
"""

from typing import TypeVar, cast

from tidegate.api.meta import Key, Resource
from tidegate.controllers.cache import Cache

R = TypeVar("R", bound=Resource)


class Newest:
    """Reads of objects whose spec we write."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._ours: dict[tuple[type[Resource], Key], Resource] = {}

    def wrote(self, resource: Resource) -> None:
        """Remember what a write or a fresh read returned."""
        self._ours[type(resource), resource.key] = resource

    def get(self, kind: type[R], key: Key) -> R | None:
        """Return the newest that is known."""
        cached = self._cache.get(kind, key)
        ours = cast("R | None", self._ours.get((kind, key)))
        if ours is None:
            return cached
        if cached is not None and _is_newer(ours, cached):
            return ours
        del self._ours[kind, key]
        return cached

    def all(self, kind: type[R], namespace: str) -> list[R]:
        """Return all of a namespace."""
        keys = [key for key in self._cache.all(kind) if key.namespace == namespace]
        return [found for key in keys if (found := self.get(kind, key)) is not None]


def _is_newer(ours: Resource, cached: Resource) -> bool:
    one, other = ours.metadata, cached.metadata
    return one.uid == other.uid and one.generation > other.generation
