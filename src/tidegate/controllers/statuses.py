"""Write statuses: only those that differ, with times, and without touching other controllers'.

Several controllers may write `parents` of the same object: each has its own entries, known by
`controllerName`, and leaves the others' as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tidegate.api.errors import NotFoundError, TidegateError
from tidegate.api.meta import Resource
from tidegate.controllers.cache import Cache
from tidegate.controllers.conditions import with_times
from tidegate.routing.references import CONTROLLER
from tidegate.routing.statuses import StatusUpdate
from tidegate.store.interface import Store

PARENTS: Final = ("parents", "parent")
"""The field is singular in `inference.networking.x-k8s.io/v1alpha2`."""


class StatusWriter:
    """Brings stored statuses to what they should be."""

    def __init__(self, cache: Cache, store: Store, now: Callable[[], float], manager: str) -> None:
        self._cache = cache
        self._store = store
        self._now = now
        self._manager = manager

    async def write_all(self, updates: Sequence[StatusUpdate]) -> None:
        """Write what differs. One that can't be written keeps no other from it.

        Raises:
            TidegateError: The first that couldn't be written.

        """
        failed: list[TidegateError] = []
        for update in updates:
            try:
                await self._write(update)
            except NotFoundError:
                continue  # deleted meanwhile: there is nothing left to say
            except TidegateError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    async def _write(self, update: StatusUpdate) -> None:
        resource = self._cache.get(update.kind, update.key)
        if resource is None:
            return
        current = stored_status(resource)
        wanted = with_times(_with_others(update.status, current), current, self._now())
        if _is_other(resource, wanted):
            await self._store.apply_status(update.kind, update.key, wanted, manager=self._manager)


def with_condition(update: StatusUpdate, new: Mapping[str, Any]) -> StatusUpdate:
    """Return an update that has one condition more at each parent."""
    told: dict[str, Any] = {
        name: [{**one, "conditions": [*one["conditions"], new]} for one in update.status[name]]
        for name in PARENTS
        if name in update.status
    }
    return replace(update, status={**update.status, **told})


def stored_status(resource: Resource) -> dict[str, Any]:
    """Return the status of a resource as plain data."""
    status: dict[str, Any] = msgspec.to_builtins(getattr(resource, "status", None)) or {}
    return status


def _with_others(wanted: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(wanted)
    for name in PARENTS:
        if name in wanted:
            others = [p for p in current.get(name, []) if p.get("controllerName") != CONTROLLER]
            merged[name] = [*others, *wanted[name]]
    return merged


def _is_other(resource: Resource, wanted: Mapping[str, Any]) -> bool:
    # Compared as models: what is a default may be written or not.
    status = resource.status  # type: ignore[attr-defined]  # all kinds that get here have one
    return bool(msgspec.convert(wanted, type(status)) != status)
