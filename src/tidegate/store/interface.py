"""The store seam: resources behind one interface, whoever keeps them.

Typed reads, raw writes: a writer applies only its own fields (server-side apply), so fields
that our models don't know survive.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from tidegate.api.errors import InvalidError
from tidegate.api.meta import Key, Resource

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True, slots=True)
class Change(Generic[R]):
    """What happened to one object; a BOOKMARK carries a version and no object."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: R | None
    """Of DELETED as it last was; None if that doesn't fit the model."""
    version: str
    key: Key | None = None
    """Which object; None for a BOOKMARK."""


Broken = Callable[[Key, InvalidError], None]
"""Told of an object that doesn't fit its model, which is then left out."""


class Store(Protocol):
    """Resources by kind and key. All versions are opaque: compare them for equality only."""

    async def get(self, kind: type[R], key: Key) -> R:
        """Return one object. Raises NotFoundError."""

    async def list(self, kind: type[R], *, broken: Broken | None = None) -> tuple[Sequence[R], str]:
        """Return all objects of a kind and the version to watch from.

        An object that doesn't fit its model raises InvalidError, or is left out and told to
        `broken` where that is given: somebody else's mistake must not hide the other objects.
        """

    def watch(
        self, kind: type[R], version: str, *, broken: Broken | None = None
    ) -> AsyncIterator[Change[R]]:
        """Yield what happens after `version`, for ever. Raises GoneError: list again.

        An object that doesn't fit its model is handled as in `list`; a BOOKMARK with its
        version then stands for its event.
        """

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
        """Server-side apply to the status subresource alone, by force: a status has one writer.

        Raises NotFoundError, InvalidError.
        """

    async def edit(
        self, kind: type[R], key: Key, operations: Sequence[Mapping[str, Any]], *, manager: str
    ) -> R:
        """Change an object by a JSON patch (RFC 6902): all of it, or nothing.

        Raises NotFoundError; InvalidError: a `test` doesn't hold, or the result isn't valid.
        """

    async def delete(self, kind: type[R], key: Key) -> None:
        """Delete one object (it goes once its finalizers are gone). Raises NotFoundError."""
