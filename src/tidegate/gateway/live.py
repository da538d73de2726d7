"""From the watch to the live table: snapshot, compile, swap one reference.

A worker compiles for itself; there is no control channel. Where compiling fails, the table
that is live stays, and the failure is logged: a bad config never replaces a good table.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from tidegate.api.meta import Resource
from tidegate.gateway.plane import Live, Plane, Registry
from tidegate.gateway.server import Listeners
from tidegate.routing.compile import compile as compile_table
from tidegate.routing.snapshot import Snapshot

log = structlog.get_logger("tidegate.gateway")


class Known(Protocol):
    """The informer's copy."""

    def all(self) -> list[Resource]:
        """Return every object."""


class Watch(Protocol):
    """The informer, as far as it is needed here."""

    @property
    def resources(self) -> Known:
        """Everything that is known now."""

    async def synced(self) -> None:
        """Return once everything was listed."""

    async def changed(self) -> None:
        """Return when something changed since the last call."""


class LiveTable:
    """Keeps a plane's table true to what is watched."""

    def __init__(
        self,
        plane: Plane,
        registry: Registry,
        watch: Watch,
        listeners: Listeners,
        *,
        on_swap: Callable[[Live], None],
    ) -> None:
        self._plane = plane
        self._registry = registry
        self._watch = watch
        self._listeners = listeners
        self._on_swap = on_swap

    async def run(self) -> None:
        """Swap in a new table after each change, for ever."""
        await self._watch.synced()
        while True:
            await self.swap(self._watch.resources.all())
            await self._watch.changed()

    async def swap(self, resources: Iterable[Resource]) -> None:
        """Compile `resources` and make the result live; on failure what is live stays."""
        try:
            table = compile_table(Snapshot.of(resources)).table
        except Exception:
            log.exception("compiling failed; the table before stays live")
            return
        if self._plane.live is not None and table == self._plane.live.table:
            return
        live = self._registry.live(table)
        # Requests see the new table from here on; those under way keep theirs.
        self._plane.live = live
        self._on_swap(live)
        await self._listeners.apply(table)
