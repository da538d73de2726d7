"""The store seam: resources behind one interface, whoever keeps them.

Typed reads, raw writes: a writer applies only its own fields (server-side apply), so fields
that our models don't know survive.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from tidegate.api.meta import Key, Resource

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """What happened to one object; a BOOKMARK carries a version and no object."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: R | None
    version: str


class Store(Protocol):
    """Resources by kind and key. All versions are opaque: compare them for equality only."""

    async def get(self, kind: type[R], key: Key) -> R:
        """Return one object. Raises NotFoundError."""

    async def list(self, kind: type[R]) -> tuple[Sequence[R], str]:
        """Return all objects of a kind and the version to watch from."""

    def watch(self, kind: type[R], version: str) -> AsyncIterator[Change[R]]:
        """Yield what happens after `version`, for ever. Raises GoneError: list again."""

    async def apply(
        self,
        kind: type[R],
        key: Key,
        fields: Mapping[str, Any],
        *,
        manager: str,
        force: bool = False,
    ) -> R:
        """Server-side apply of `fields` (say `{"spec": {...}}`) as `manager`.

        Creates the object where it is missing. Fields that `manager` applied before and
        leaves out now are removed. Raises ConflictError naming who owns a field, unless
        `force` takes it over; InvalidError.
        """

    async def apply_status(
        self, kind: type[R], key: Key, status: Mapping[str, Any], *, manager: str
    ) -> R:
        """Server-side apply to the status subresource alone. Raises NotFoundError."""

    async def delete(self, kind: type[R], key: Key) -> None:
        """Delete one object (it goes once its finalizers are gone). Raises NotFoundError."""
