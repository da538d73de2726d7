"""A watch: what changes after a version, as lines of JSON, until somebody ends it.

A client sees a world of its own: only objects that its selector matches. One that comes to
match is ADDED to that world, one that ceases to is DELETED from it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from tidegate.api.errors import TidegateError
from tidegate.api.meta import Key
from tidegate.store.ledger import key_of
from tidegate.store.parameters import WatchOptions
from tidegate.store.representation import Representation
from tidegate.store.selectors import Selector
from tidegate.store.sqlite import Engine, RawChange
from tidegate.store.statuses import Subject, describe
from tidegate.store.targets import Target

Object = dict[str, Any]
Event = Literal["ADDED", "MODIFIED", "DELETED"]

LONGEST_S: Final = 3600.0
"""A watch without a timeout of its own ends after this; clients go on where they were."""
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""Marks the bookmark that ends what there was before the watch (KEP-3157)."""


@dataclass(slots=True)
class View:
    """Which objects a client believes to exist: its selector's part of the world."""

    selector: Selector
    namespace: str = ""
    known: dict[Key, bool] = field(default_factory=dict)
    """Whether an object matched when last seen. Missing: not seen since the watch began."""

    def see(self, change: Event, obj: Object) -> Event | None:
        """Return what `change` is to the client; None where it is nothing."""
        if not self._in_scope(obj):
            return None
        matches = self.selector.matches(obj)
        if not self.selector.can_change:
            return change if matches else None
        key = key_of(obj)
        # Of an object changed before this watch began nobody knows what it was: better a
        # DELETED too many than a client that believes in it for ever.
        before = self.known.get(key, matches or change == "MODIFIED")
        if change == "DELETED":
            self.known.pop(key, None)
            return "DELETED" if before else None
        self.known[key] = matches
        if matches:
            return change if before else "ADDED"
        return "DELETED" if before else None

    def remember(self, obj: Object) -> bool:
        """Note whether the client sees `obj` now, and return it."""
        sees = self._in_scope(obj) and self.selector.matches(obj)
        if self.selector.can_change:
            self.known[key_of(obj)] = sees
        return sees

    def _in_scope(self, obj: Object) -> bool:
        return not self.namespace or key_of(obj).namespace == self.namespace


@dataclass(frozen=True, slots=True)
class Watch:
    """One watch of one client."""

    engine: Engine
    target: Target
    selector: Selector
    options: WatchOptions
    representation: Representation
    now: Callable[[], float]
    bookmark_s: float
    """How often a quiet watch says which version it has reached."""

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield one event a line; ends at the timeout, and after an error."""
        pen = _Pen(self.representation, self.now)
        try:
            async with aclosing(self._events(pen)) as events:
                async for line in events:
                    yield line
        except TidegateError as error:
            yield _line("ERROR", describe(error, Subject(self.target.kind, self.target.version)))

    async def _events(self, pen: "_Pen") -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        end = loop.time() + (self.options.timeout_s or LONGEST_S)
        view = View(self.selector, self.target.namespace)
        start, found = await self._begin(view)
        for obj in found:
            yield pen.event("ADDED", obj)
        if self.options.initial_events:
            yield pen.bookmark(start, initial_events_end=True)
        async with aclosing(self._changes(start, end)) as changes:
            async for change in changes:
                if isinstance(change, str):
                    yield pen.bookmark(change)
                elif event := view.see(change.type, change.object):
                    yield pen.event(event, change.object)

    async def _begin(self, view: View) -> tuple[str, list[Object]]:
        """Return the version to go on from, and the objects to begin with."""
        resumes = self.options.version not in ("", "0") and not self.options.initial_events
        # Whoever resumes knows the objects already; only where nothing happened in between
        # is what they are now what they were then.
        if resumes and self.options.version != self.engine.version:
            return self.options.version, []
        objects, version = await self.engine.read_all(self.target.kind)
        found = [obj for obj in objects if view.remember(obj)]
        return version, [] if resumes else found

    async def _changes(self, start: str, end: float) -> AsyncGenerator[RawChange | str, None]:
        """Yield changes, and versions to bookmark when it is quiet, until `end` (loop time)."""
        loop = asyncio.get_running_loop()
        follow = self.engine.follow(self.target.kind, start)
        upcoming: asyncio.Future[RawChange] | None = None
        reached = start
        try:
            while (left := end - loop.time()) > 0:
                upcoming = upcoming or asyncio.ensure_future(anext(follow))
                before = self.engine.version
                await asyncio.wait([upcoming], timeout=min(left, self.bookmark_s))
                if upcoming.done():
                    change, upcoming = upcoming.result(), None
                    reached = change.version
                    yield change
                # All up to `before` would have come by now.
                elif self.options.bookmarks and before != reached:
                    reached = before
                    yield reached
        finally:
            await _close(upcoming, follow)


async def _close(
    upcoming: "asyncio.Future[RawChange] | None", follow: AsyncIterator[RawChange]
) -> None:
    """End a generator that may be in the middle of waiting."""
    if upcoming is not None and not upcoming.done():
        upcoming.cancel()
        await asyncio.wait([upcoming])
    if close := getattr(follow, "aclose", None):
        await close()


@dataclass(slots=True)
class _Pen:
    """Writes events in a client's form; a Table's columns come with the first one only."""

    representation: Representation
    now: Callable[[], float]
    headers: bool = True

    def event(self, event: str, obj: Object) -> bytes:
        shown = self.representation.one(obj, self.now(), headers=self.headers)
        self.headers = False
        return _line(event, shown)

    def bookmark(self, version: str, *, initial_events_end: bool = False) -> bytes:
        metadata: Object = {"resourceVersion": version, "creationTimestamp": None}
        if initial_events_end:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        return self.event("BOOKMARK", {"metadata": metadata})


def _line(event: str, obj: Object) -> bytes:
    return msgspec.json.encode({"type": event, "object": obj}) + b"\n"
