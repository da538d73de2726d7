"""A local copy of resources that follows the store: list, watch, resume, list again on 410.

It never dies because the store is away: it keeps what it has and tries again. What it knows
is a plain map by kind and key; consumers either wait for the next change of anything, or
take the keys that changed from a queue. An object that doesn't fit its model is passed over
with a log entry, and its last good version stays.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from random import Random
from typing import Final, TypeVar, cast

import structlog

from tidegate.api.errors import GoneError, InvalidError, TidegateError, UnavailableError
from tidegate.api.meta import Key, Resource
from tidegate.store.interface import Change, Store

R = TypeVar("R", bound=Resource)

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
"""The API's restart is noticed within this: it is a local process, or a cluster's service."""

log = structlog.get_logger(__name__)


class Resources:
    """The informer's copy: by kind and key."""

    def __init__(self, kinds: Sequence[type[Resource]]) -> None:
        self._objects: dict[type[Resource], dict[Key, Resource]] = {kind: {} for kind in kinds}

    def __getitem__(self, kind: type[R]) -> Mapping[Key, R]:
        """Return all objects of a followed kind. The map lives on: copy it to keep it."""
        return cast("dict[Key, R]", self._objects[kind])

    def __iter__(self) -> Iterator[type[Resource]]:
        return iter(self._objects)

    def get(self, kind: type[R], key: Key) -> R | None:
        """Return one object, or None."""
        return self[kind].get(key)

    def all(self) -> list[Resource]:
        """Return every object of every kind."""
        return [resource for objects in self._objects.values() for resource in objects.values()]

    def put(self, kind: type[Resource], key: Key, resource: Resource | None) -> bool:
        """Set or remove one object; return whether that changed anything."""
        objects = self._objects[kind]
        before = objects.get(key)
        if resource is None:
            objects.pop(key, None)
        else:
            objects[key] = resource
        return before != resource


class Informer:
    """Follows some kinds of a store for as long as `run` runs."""

    def __init__(
        self, store: Store, kinds: Sequence[type[Resource]], *, rng: Random | None = None
    ) -> None:
        """Follow `kinds` in `store`.

        Args:
            store: Whom to ask.
            kinds: What to follow.
            rng: Spreads the retries of many informers.

        """
        self.resources = Resources(kinds)
        self.version = 0
        """Counts the changes."""
        self._store = store
        self._kinds = tuple(kinds)
        self._rng = rng or Random()  # spreads load, guards nothing
        self._unsynced = set(kinds)
        self._synced = asyncio.Event()
        self._changed = asyncio.Event()
        self._lost: dict[type[Resource], str] = {}
        self._queues: list[asyncio.Queue[tuple[type[Resource], Key]]] = []
        if not kinds:
            self._synced.set()

    async def run(self) -> None:
        """Follow the store until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for kind in self._kinds:
                tasks.create_task(self._follow(kind), name=f"informer-{kind.__name__}")

    async def synced(self) -> None:
        """Return once every kind has been listed."""
        await self._synced.wait()

    async def changed(self) -> None:
        """Return once something has changed since the last call; for one consumer.

        Changes that come in a burst count as one.
        """
        await self._changed.wait()
        self._changed.clear()

    def subscribe(self) -> asyncio.Queue[tuple[type[Resource], Key]]:
        """Return a queue of what changes from now on, after what there is already."""
        queue: asyncio.Queue[tuple[type[Resource], Key]] = asyncio.Queue()
        for kind in self._kinds:
            for key in self.resources[kind]:
                queue.put_nowait((kind, key))
        self._queues.append(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[tuple[type[Resource], Key]]) -> None:
        """Stop filling a queue that `subscribe` gave."""
        self._queues.remove(queue)

    async def _follow(self, kind: type[Resource]) -> None:
        """List and watch one kind for ever."""
        version: str | None = None
        pause = FIRST_PAUSE_S
        while True:
            progressed = False
            try:
                if version is None:
                    version = await self._list(kind)
                    progressed = True
                watch = self._store.watch(kind, version, broken=partial(_pass_over, kind))
                async with aclosing(
                    cast("AsyncGenerator[Change[Resource], None]", watch)
                ) as stream:
                    async for change in stream:
                        self._accept(kind, change)
                        version = change.version
                        progressed = True
                        self._found(kind)
            except GoneError:
                version = None
            except TidegateError as error:
                self._lose(kind, error)
            pause = FIRST_PAUSE_S if progressed else min(pause * 2, LONGEST_PAUSE_S)
            await _pause(pause * self._rng.uniform(0.5, 1.0))

    def _lose(self, kind: type[Resource], error: TidegateError) -> None:
        """Log a failure, but one that all kinds meet, or that lasts, only once."""
        text = str(error) if isinstance(error, UnavailableError) else f"{kind.__name__}: {error}"
        if text not in self._lost.values():
            log.warning("store lost, trying again", kind=kind.__name__, error=str(error))
        self._lost[kind] = text

    def _found(self, kind: type[Resource]) -> None:
        if self._lost.pop(kind, None) and not self._lost:
            log.info("store found again")

    async def _list(self, kind: type[Resource]) -> str:
        """Take over a whole list and return its version; what isn't in it is gone."""
        broken: set[Key] = set()

        def pass_over(key: Key, error: InvalidError) -> None:
            broken.add(key)
            _pass_over(kind, key, error)

        found, version = await self._store.list(kind, broken=pass_over)
        current = {resource.key: resource for resource in found}
        for key in self.resources[kind].keys() - current.keys() - broken:
            self._put(kind, key, None)
        for key, resource in current.items():
            self._put(kind, key, resource)
        self._found(kind)
        self._unsynced.discard(kind)
        if not self._unsynced:
            self._synced.set()
        return version

    def _accept(self, kind: type[Resource], change: Change[Resource]) -> None:
        if change.key is not None:
            gone = change.type == "DELETED"
            self._put(kind, change.key, None if gone else change.object)

    def _put(self, kind: type[Resource], key: Key, resource: Resource | None) -> None:
        """Set or remove one object and tell who waits."""
        if not self.resources.put(kind, key, resource):
            return
        self.version += 1
        self._changed.set()
        for queue in self._queues:
            queue.put_nowait((kind, key))


def _pass_over(kind: type[Resource], key: Key, error: InvalidError) -> None:
    log.warning("object passed over", kind=kind.__name__, key=str(key), error=str(error))


async def _pause(seconds: float) -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, done.set)
    await done.wait()
