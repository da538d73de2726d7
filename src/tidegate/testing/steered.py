"""The rollouts controller over a store in memory, with a clock of the test's own, and crashes.

Workers are what the test says they are: each second they report requests by the weights that
the route has. Endpoints are one real server that lists a model. The controller dies at the
write that the test names, and another takes over from what is stored.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidegate.api.gateway import HTTPRoute
from tidegate.api.inference import GROUP, InferenceObjective, InferencePool
from tidegate.api.meta import Key, Resource
from tidegate.api.rollout import InferenceRollout
from tidegate.api.scheme import by_model
from tidegate.api.tidegate import ModelServer
from tidegate.controllers import sight
from tidegate.controllers.rollouts import Rollouts
from tidegate.judge.block import Block, Place
from tidegate.routing.snapshot import Snapshot
from tidegate.store.interface import Store
from tidegate.store.sqlite import Engine
from tidegate.telemetry.shelf import Shelf
from tidegate.telemetry.shipment import Parcel, Running, Shipment
from tidegate.testing.endpoints import Seen, answer, scripted

R = TypeVar("R", bound=Resource)

NAMESPACE = "default"
KEY = Key(NAMESPACE, "move")
ROUTE = Key(NAMESPACE, "route")
SCOPE = f"{ROUTE}/chat"


class DiedError(Exception):
    """The controller's process ended here."""


class Mortal:
    """A store whose client dies at a write: after it was done, or before."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.writes = 0
        self.dies_at: float | None = None
        """Write number n is never sent; n + 0.5: it is sent, and its answer never heard."""

    async def _write(self, name: str, *args: Any, **named: Any) -> Any:
        self.writes += 1
        if self.dies_at == self.writes:
            raise DiedError
        done = await getattr(self._engine, name)(*args, **named)
        if self.dies_at == self.writes + 0.5:
            raise DiedError
        return done

    async def get(self, kind: type[R], key: Key) -> R:
        """See `Store`."""
        return await self._engine.get(kind, key)

    async def apply(self, *args: Any, **named: Any) -> Any:
        """See `Store`."""
        return await self._write("apply", *args, **named)

    async def apply_status(self, *args: Any, **named: Any) -> Any:
        """See `Store`."""
        return await self._write("apply_status", *args, **named)

    async def edit(self, *args: Any, **named: Any) -> Any:
        """See `Store`."""
        return await self._write("edit", *args, **named)

    async def delete(self, *args: Any, **named: Any) -> Any:
        """See `Store`."""
        return await self._write("delete", *args, **named)


class Listed:
    """A cache that is as new as its last `refresh`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen = Snapshot()

    async def refresh(self) -> None:
        """Read everything."""
        found = [each for kind in sight.KINDS for each in (await self._engine.list(kind))[0]]
        self._seen = Snapshot.of(found)

    def all(self, kind: type[R]) -> Mapping[Key, R]:
        """See `Cache`."""
        return self._seen.all(kind)

    def get(self, kind: type[R], key: Key) -> R | None:
        """See `Store`."""
        return self._seen.get(kind, key)


class Steered:
    """One rollout `move` of the route `route`, from `llm` to `llm-new`."""

    def __init__(self, engine: Engine, folder: Path, address: str) -> None:
        self.engine = engine
        self.now = 1_800_000_000.0
        self.store = Mortal(engine)
        self.cache = Listed(engine)
        self.errors = 0
        """Of each second's requests of the canary, how many fail."""
        self.in_flight = 0
        """Requests that go on at the stable."""
        self.patient = True
        """Whether a look waits for what the controller does beside it."""
        self.honoured = True
        """Whether requests go by the weights; else all of them to the canary."""
        self.reach: list[tuple[int, int]] = []
        """The route's weights (stable, canary), each time they had changed."""
        self._folder = folder
        self._address = address
        self._boot = 0
        self._number = 0
        self.controller = self._born()

    def _born(self) -> Rollouts:
        store: Store = self.store  # type: ignore[assignment]  # all that the controller uses
        return Rollouts(
            self.cache, store, lambda: self.now, run=self._folder, shelf=Shelf(self._folder)
        )

    async def create(self, **spec: Any) -> None:
        """Create everything; `spec` is the rollout's."""
        for name in ("llm", "llm-new"):
            await self._create(ModelServer, name, {"addresses": [self._address]}, {"app": name})
            selector = {"matchLabels": {"app": name}}
            await self._create(
                InferencePool, name, {"selector": selector, "targetPorts": [{"number": 1}]}
            )
            endpoints = [{"address": self._address, "state": "Ready"}]
            status = {"endpoints": endpoints}
            await self.engine.apply_status(ModelServer, Key(NAMESPACE, name), status, manager="t")
        refs = [
            {"group": GROUP, "kind": "InferencePool", "name": name, "weight": weight}
            for name, weight in (("llm", 100), ("llm-new", 0))
        ]
        rule = {"name": "chat", "backendRefs": refs}
        await self._create(HTTPRoute, "route", {"rules": [rule], "parentRefs": [{"name": "gw"}]})
        await self.create_rollout("move", **spec)

    async def create_rollout(self, name: str, **spec: Any) -> None:
        """Create a rollout from `llm` to `llm-new`."""
        sides = {"stable": "llm", "canary": "llm-new"}
        await self._create(InferenceRollout, name, {**sides, **spec})

    async def _create(
        self, model: type[Resource], name: str, spec: dict[str, Any], labels: Any = None
    ) -> None:
        kind = by_model(model)
        metadata = {"name": name, "namespace": NAMESPACE, "labels": labels or {}}
        head = {"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata}
        await self.engine.create(kind, {**head, "spec": spec}, manager="kubectl")

    async def scalable(self, name: str, *, replicas: int) -> None:
        """Let a ModelServer be one that Tidegate runs."""
        kind = by_model(ModelServer)
        spec: dict[str, Any] = {"addresses": None, "simulator": {}, "replicas": replicas}
        body = {"spec": spec}
        await self.engine.patch(
            kind, Key(NAMESPACE, name), body, patch_type="merge", manager="kubectl"
        )

    async def replicas(self, name: str) -> int:
        """Return what a ModelServer is scaled to."""
        return (await self.engine.get(ModelServer, Key(NAMESPACE, name))).spec.replicas

    async def objective(self, name: str, pool: str) -> None:
        """Create an InferenceObjective of a pool."""
        await self._create(InferenceObjective, name, {"priority": 1, "poolRef": {"name": pool}})

    async def bound(self, name: str) -> str:
        """Return the pool that an InferenceObjective is bound to."""
        found = await self.engine.get(InferenceObjective, Key(NAMESPACE, name))
        return found.spec.pool_ref.name

    async def intend(self, **spec: Any) -> None:
        """Change the rollout's spec, as people do."""
        kind = by_model(InferenceRollout)
        body = {"spec": spec}
        await self.engine.patch(kind, KEY, body, patch_type="merge", manager="kubectl")

    async def rollout(self) -> InferenceRollout:
        """Return the rollout as it is stored."""
        return await self.engine.get(InferenceRollout, KEY)

    async def weights(self) -> tuple[int, int]:
        """Return the route's weights as they are stored: stable, canary."""
        route = await self.engine.get(HTTPRoute, ROUTE)
        stable, canary = (ref.weight or 0 for ref in route.spec.rules[0].backend_refs)
        return stable, canary

    async def look(self) -> None:
        """Reconcile until nothing more is to be done at this moment, through crashes."""
        for _ in range(60):
            before = self.store.writes
            await self.cache.refresh()
            try:
                await self.controller.reconcile(KEY)
            except DiedError:
                await self.die()
                continue
            busy = await self._rest()
            weights = await self.weights()
            if not self.reach or self.reach[-1] != weights:
                self.reach.append(weights)
            if not busy and self.store.writes == before:
                return
        raise AssertionError("the controller never rests")

    async def die(self) -> None:
        """End the controller as kill -9 does, and start another."""
        self.store.dies_at = None
        await self._rest(cancel=True)
        await self.controller.close()
        self.controller = self._born()

    async def _rest(self, *, cancel: bool = False) -> bool:
        """Wait for what the controller does beside its looks; return whether there was any."""
        tasks = {each for each in asyncio.all_tasks() if _is_work(each)}
        for task in tasks:
            if cancel:
                task.cancel()
        if tasks and (self.patient or cancel):
            await asyncio.wait(tasks)
        return bool(tasks) and self.patient

    async def second(self) -> None:
        """Let a second pass, with requests by the weights."""
        stable, canary = await self.weights()
        self.now += 1.0
        ours = 20 * canary // (stable + canary) if self.honoured else 20
        blocks = [
            self._block("llm", 20 - ours, 0),
            self._block("llm-new", ours, min(self.errors, ours)),
        ]
        self._number += 1
        running = [Running("default/llm", "m", self.in_flight)] if self.in_flight else []
        parcel = Parcel(self._number, [each for each in blocks if each.requests])
        self.controller.records.take("worker-0", Shipment("boot", self.now, [parcel], running))
        await self.look()

    def _block(self, arm: str, requests: int, errors: int) -> Block:
        block = Block(Place(self.now - 1.0, SCOPE, arm, 0), 1.0)
        block.requests = block.anonymous = block.ended = requests
        block.answered = block.completed = requests - errors
        block.server_errors = block.anonymous_bad = errors
        return block

    async def until(self, *phases: str, within_s: int = 120) -> InferenceRollout:
        """Let seconds pass until the rollout is in one of `phases`."""
        for _ in range(within_s):
            rollout = await self.rollout()
            if rollout.status.phase in phases:
                return rollout
            await self.second()
        raise AssertionError(f"never {phases}, but {(await self.rollout()).status}")


def _is_work(task: "asyncio.Task[Any]") -> bool:
    """Whether a task is a job or a probe of the controller."""
    name = getattr(task.get_coro(), "__qualname__", "")
    return name in ("Jobs._run", "Probes._ask")


async def _serve(seen: Seen, writer: asyncio.StreamWriter) -> None:
    body: dict[str, Any] = {}
    if seen.target == "/v1/models":
        body = {"data": [{"id": "m", "max_model_len": 8192}]}
    elif seen.target == "/tokenize":
        body = {"tokens": [1, 2, 3]}
    writer.write(answer(200, msgspec.json.encode(body), (("connection", "close"),)))
    writer.close()


@asynccontextmanager
async def steered(folder: Path, **spec: Any) -> AsyncIterator[Steered]:
    """Run a rollout's controller on a clock of its own."""
    async with scripted(_serve) as server:
        engine = Engine.open(":memory:", now=lambda: 1_800_000_000.0)
        made = Steered(engine, folder, server.address)
        try:
            await made.create(**spec)
            yield made
        finally:
            await made.die()
            engine.close()
