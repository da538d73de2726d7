"""The ModelServers controller over an engine in memory, as the control process runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil

from tidegate.api.meta import Key, Resource
from tidegate.api.tidegate import ModelServer, ModelServerStatus
from tidegate.controllers.modelservers import ModelServers
from tidegate.controllers.processes import MARK
from tidegate.controllers.replica import Place
from tidegate.routing.snapshot import Snapshot
from tidegate.store.sqlite import Engine
from tidegate.testing.waiting import wait_for


class World:
    """A controller, the store that it serves, and what the store was told."""

    def __init__(self, engine: Engine, place: Place) -> None:
        self.engine = engine
        self.history: list[ModelServerStatus] = []
        """Every status that was written."""
        self._servers: dict[Key, Resource] = {}
        cache = Snapshot({ModelServer: self._servers})
        self.controller = ModelServers(cache, engine, place, lambda: 1_700_000_000.0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        """Run the controller; at the end stop it as a crash would: nothing is put in order."""
        servers, version = await self.engine.list(ModelServer)
        self._servers.update({server.key: server for server in servers})
        tasks = [
            asyncio.create_task(self._follow(version)),
            asyncio.create_task(self.controller.run()),
        ]
        try:
            yield self
        finally:
            tasks += [t for f in self.controller.fleets.values() for t in f.tasks()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, version: str) -> None:
        async for change in self.engine.watch(ModelServer, version):
            if change.key is None:
                continue
            if change.type == "DELETED":
                self._servers.pop(change.key, None)
            elif change.object is not None:
                self._servers[change.key] = change.object
                self.history.append(change.object.status)
            self.controller.loop.add(change.key)

    async def apply(self, spec: dict[str, Any], name: str = "llm") -> ModelServer:
        """Write a ModelServer's spec."""
        key = Key("default", name)
        return await self.engine.apply(ModelServer, key, {"spec": spec}, manager="test", force=True)

    async def status(self, name: str = "llm") -> ModelServerStatus:
        """Return a ModelServer's status."""
        return (await self.engine.get(ModelServer, Key("default", name))).status

    async def until(self, what: str, reached: Any, name: str = "llm") -> ModelServerStatus:
        """Return the first status that `reached` holds for."""
        found: list[ModelServerStatus] = []

        async def look() -> bool:
            found[:] = [await self.status(name)]
            return bool(reached(found[0]))

        await wait_for(look, what=what)
        return found[0]

    async def ready(self, count: int, name: str = "llm") -> ModelServerStatus:
        """Return the status once so many endpoints, and no others, are ready."""

        def reached(status: ModelServerStatus) -> bool:
            whole = status.ready_replicas == len(status.endpoints) == count
            return whole and status.conditions[0].status == "True"

        return await self.until(f"{count} ready replicas", reached, name)


def living(uid: str) -> set[int]:
    """Return the pids of the running processes that carry the mark of this ModelServer."""
    return {p.pid for p in psutil.process_iter() if _mark(p).startswith(uid)}


def _mark(process: psutil.Process) -> str:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return process.environ().get(MARK, "")
    except psutil.Error:
        return ""
