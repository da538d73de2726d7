"""Pools that a route sends to are held; the others go at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tidegate.api.errors import NotFoundError
from tidegate.api.event import Event
from tidegate.api.gateway import HTTPRoute
from tidegate.api.inference import InferencePool, LegacyInferencePool
from tidegate.api.meta import Key
from tidegate.controllers import protection
from tidegate.controllers.protection import ROUTED, Protection
from tidegate.routing.snapshot import Snapshot
from tidegate.store.informer import Informer
from tidegate.testing.waiting import wait_for

GROUP = "inference.networking.k8s.io"
POOL = Key("default", "llm")


@pytest.fixture
async def running(engine) -> AsyncIterator[None]:
    informer = Informer(engine, protection.KINDS)
    cache = Snapshot({kind: informer.resources[kind] for kind in protection.KINDS})
    controller = Protection(cache, engine)

    async def dispatch() -> None:
        while True:
            await informer.changed()
            controller.changed()

    tasks = [asyncio.create_task(informer.run())]
    await informer.synced()
    tasks += [asyncio.create_task(work) for work in (dispatch(), controller.run())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def put_pool(engine, key: Key = POOL) -> None:
    spec = {"selector": {"matchLabels": {"app": key.name}}, "targetPorts": [{"number": 8000}]}
    await engine.apply(InferencePool, key, {"spec": spec}, manager="test")


async def put_route(engine, weight: int = 1, **rule) -> None:
    backends = [{"group": GROUP, "kind": "InferencePool", "name": "llm", "weight": weight}]
    spec = {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": backends, **rule}]}
    key = Key("default", "route")
    await engine.apply(HTTPRoute, key, {"spec": spec}, manager="test", force=True)


async def held(engine) -> bool:
    return ROUTED in (await engine.get(InferencePool, POOL)).metadata.finalizers


async def gone(engine) -> bool:
    try:
        await engine.get(InferencePool, POOL)
    except NotFoundError:
        return True
    return False


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("ending", ["deleted", "weight 0"])
async def test_a_pool_that_a_route_sends_to_goes_once_it_does_no_more(engine, ending):
    await put_pool(engine)
    await put_route(engine)
    await wait_for(lambda: held(engine), what="the pool to be held")
    await engine.delete(InferencePool, POOL)

    async def told() -> bool:
        events, _ = await engine.list(Event)
        return any("HTTPRoute default/route sends requests" in one.message for one in events)

    await wait_for(told, what="the reason")
    assert not await gone(engine)
    if ending == "deleted":
        await engine.delete(HTTPRoute, Key("default", "route"))
    else:
        await put_route(engine, weight=0)
    await wait_for(lambda: gone(engine), what="the pool to be gone")


@pytest.mark.usefixtures("running")
async def test_a_pool_that_nobody_sends_to_goes_at_once(engine):
    await put_pool(engine)
    await put_route(engine, weight=0)
    await put_pool(engine, Key("default", "other"))
    await engine.delete(InferencePool, POOL)
    assert await gone(engine)


@pytest.mark.usefixtures("running")
async def test_a_pool_is_let_go_when_its_weight_goes_to_0(engine):
    await put_pool(engine)
    await put_route(engine)
    await wait_for(lambda: held(engine))
    await put_route(engine, weight=0)

    async def free() -> bool:
        return not await held(engine)

    await wait_for(free)


@pytest.mark.usefixtures("running")
async def test_a_pool_that_gets_copies_is_held(engine):
    mirror = {"backendRef": {"group": GROUP, "kind": "InferencePool", "name": "llm"}}
    await put_pool(engine)
    await put_route(engine, 0, filters=[{"type": "RequestMirror", "requestMirror": mirror}])
    await wait_for(lambda: held(engine))


@pytest.mark.usefixtures("running")
async def test_a_pool_of_the_older_group_is_held_too(engine):
    spec = {"selector": {"app": "llm"}, "targetPortNumber": 8000}
    await engine.apply(LegacyInferencePool, POOL, {"spec": spec}, manager="test")
    await put_route(engine)

    async def kept() -> bool:
        found = await engine.get(LegacyInferencePool, POOL)
        return ROUTED in found.metadata.finalizers

    await wait_for(kept)


@pytest.mark.usefixtures("running")
async def test_a_pool_whose_namesake_in_the_other_group_stays_goes_at_once(engine):
    await put_pool(engine)
    await put_route(engine)
    await wait_for(lambda: held(engine))
    spec = {"selector": {"app": "llm"}, "targetPortNumber": 8000}
    await engine.apply(LegacyInferencePool, POOL, {"spec": spec}, manager="test")
    await engine.delete(InferencePool, POOL)
    await wait_for(lambda: gone(engine))
