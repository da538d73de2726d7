"""What reconcilers read: the resources as we last heard of them."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

from tidegate.api.meta import Key, Resource

R = TypeVar("R", bound=Resource)


class Cache(Protocol):
    """Resources by kind and key; a `Snapshot` over an informer's live mapping is one."""

    def all(self, kind: type[R]) -> Mapping[Key, R]:
        """Return every object of `kind`."""

    def get(self, kind: type[R], key: Key) -> R | None:
        """Return one object, or None."""
