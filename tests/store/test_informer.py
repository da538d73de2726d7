"""The informer: it follows, it survives its store, it tells deletions that it didn't see."""

import asyncio
import random
from contextlib import asynccontextmanager

import pytest

from tidegate.api.core import ConfigMap
from tidegate.api.errors import UnavailableError
from tidegate.api.gateway import Gateway, HTTPRoute
from tidegate.api.meta import Key
from tidegate.api.scheme import by_model
from tidegate.store.client import HttpStore
from tidegate.store.informer import LONGEST_PAUSE_S, Informer
from tidegate.store.sqlite import Engine
from tidegate.testing.api import ApiProcess
from tidegate.testing.waiting import wait_for


@pytest.fixture
def engine():
    engine = Engine.open(":memory:", now=lambda: 0.0, horizon=10)
    yield engine
    engine.close()


@asynccontextmanager
async def following(store, *kinds):
    informer = Informer(store, kinds, rng=random.Random(1))
    running = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced(), 10)
        yield informer
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()


def key(name):
    return Key("default", name)


async def put(store, name, **data):
    await store.apply(ConfigMap, key(name), {"data": data}, manager="ann")


def data(informer):
    return {each.name: found.data for each, found in informer.resources[ConfigMap].items()}


class Wayward:
    """A store whose watches are cut, and which is away, when a test says so."""

    def __init__(self, engine):
        self._engine = engine
        self.away = False
        self.lists = 0
        self.watched_from = []
        self._cut = asyncio.Event()

    def cut(self):
        self._cut.set()
        self._cut = asyncio.Event()

    async def list(self, kind, *, broken=None):
        if self.away:
            raise UnavailableError("away")
        self.lists += 1
        return await self._engine.list(kind, broken=broken)

    async def watch(self, kind, version, *, broken=None):
        if self.away:
            raise UnavailableError("away")
        self.watched_from.append(version)
        cut = asyncio.create_task(self._cut.wait())
        watch = self._engine.watch(kind, version, broken=broken)
        try:
            while True:
                change = asyncio.ensure_future(anext(watch))
                await asyncio.wait([change, cut], return_when=asyncio.FIRST_COMPLETED)
                if cut.done():
                    change.cancel()
                    await asyncio.wait([change])
                    raise UnavailableError("cut")
                yield change.result()
        finally:
            cut.cancel()


async def test_it_knows_what_there_is_and_what_happens(engine):
    await put(engine, "a", v="1")
    async with following(engine, ConfigMap, HTTPRoute) as informer:
        assert data(informer) == {"a": {"v": "1"}}
        assert informer.resources[HTTPRoute] == {}
        await put(engine, "b", v="2")
        await put(engine, "a", v="3")
        await wait_for(lambda: data(informer) == {"a": {"v": "3"}, "b": {"v": "2"}})
        await engine.delete(ConfigMap, key("a"))
        await wait_for(lambda: data(informer) == {"b": {"v": "2"}})
        assert [each.key for each in informer.resources.all()] == [key("b")]


async def test_a_burst_of_changes_is_told_once(engine):
    async with following(engine, ConfigMap) as informer:
        for index in range(5):
            await put(engine, f"m{index}")
        await wait_for(lambda: informer.version == 5)
        await asyncio.wait_for(informer.changed(), 1)
        again = asyncio.create_task(informer.changed())
        await asyncio.wait([again], timeout=0.02)
        assert not again.done()
        await put(engine, "m0", v="new")
        await asyncio.wait_for(again, 1)


async def test_a_queue_has_what_there_is_and_then_each_change(engine):
    await put(engine, "a")
    async with following(engine, ConfigMap) as informer:
        queue = informer.subscribe()
        await put(engine, "b")
        await engine.delete(ConfigMap, key("a"))
        taken = [await asyncio.wait_for(queue.get(), 1) for _ in range(3)]
        assert taken == [(ConfigMap, key("a")), (ConfigMap, key("b")), (ConfigMap, key("a"))]
        informer.unsubscribe(queue)
        await put(engine, "c")
        await wait_for(lambda: "c" in data(informer))
        assert queue.empty()


async def test_a_cut_watch_resumes_without_another_list(engine):
    store = Wayward(engine)
    async with following(store, ConfigMap) as informer:
        await put(engine, "a", v="1")
        await wait_for(lambda: "a" in data(informer))
        for value in range(3):
            reached = engine.version
            store.cut()
            await put(engine, "a", v=str(value))
            await wait_for(lambda value=value: data(informer) == {"a": {"v": str(value)}})
            assert store.watched_from[-1] == reached
        assert store.lists == 1


async def test_what_went_while_it_was_away_is_told_after_the_next_list(engine):
    store = Wayward(engine)
    await put(engine, "stays", v="1")
    await put(engine, "goes")
    async with following(store, ConfigMap) as informer:
        queue = informer.subscribe()
        while not queue.empty():
            queue.get_nowait()
        store.away = True
        store.cut()
        await engine.delete(ConfigMap, key("goes"))
        for index in range(20):  # past the horizon, so that it must list again
            await put(engine, "busy", v=str(index))
        assert "goes" in data(informer)
        store.away = False
        await wait_for(lambda: "goes" not in data(informer), LONGEST_PAUSE_S + 1)
        assert store.lists == 2
        assert data(informer) == {"stays": {"v": "1"}, "busy": {"v": "19"}}
        told = {queue.get_nowait()[1] for _ in range(queue.qsize())}
        assert told == {key("goes"), key("busy")}


async def test_it_waits_for_a_store_that_is_away_at_first(engine):
    store = Wayward(engine)
    store.away = True
    await put(engine, "a")
    informer = Informer(store, [ConfigMap], rng=random.Random(1))
    running = asyncio.create_task(informer.run())
    synced = asyncio.create_task(informer.synced())
    await asyncio.wait([synced, running], timeout=0.2)
    assert not synced.done()
    assert not running.done()
    store.away = False
    await asyncio.wait_for(synced, LONGEST_PAUSE_S + 1)
    assert "a" in data(informer)
    running.cancel()
    await asyncio.wait([running])


async def test_an_object_that_does_not_fit_keeps_its_last_good_version(engine):
    await put(engine, "a", v="1")
    async with following(engine, ConfigMap) as informer:
        spoil(engine, "a")
        await put(engine, "b")
        await wait_for(lambda: "b" in data(informer))
        assert data(informer)["a"] == {"v": "1"}
        for index in range(20):
            await put(engine, "busy", v=str(index))
        # A list, too, must not take it for deleted.
        fresh = Informer(engine, [ConfigMap])
        fresh.resources.put(ConfigMap, key("a"), informer.resources[ConfigMap][key("a")])
        running = asyncio.create_task(fresh.run())
        await asyncio.wait_for(fresh.synced(), 5)
        assert data(fresh)["a"] == {"v": "1"}
        running.cancel()
        await asyncio.wait([running])
        await engine.delete(ConfigMap, key("a"))
        await wait_for(lambda: "a" not in data(informer))


def spoil(engine, name):
    """Put an object behind the engine's back that no admission would let in."""
    kind = by_model(ConfigMap)
    metadata = {"name": name, "namespace": "default", "uid": "u"}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": 7}
    ledger = engine._ledger
    ledger._publish([ledger.stage(kind.resource, "MODIFIED", obj)])


async def test_it_follows_an_api_that_is_killed_and_comes_back(tmp_path):
    api = ApiProcess(tmp_path)
    await asyncio.to_thread(api.start)
    store = HttpStore.from_kubeconfig(api.kubeconfig)
    try:
        async with following(store, ConfigMap, Gateway) as informer:
            await put(store, "a", v="1")
            await wait_for(lambda: "a" in data(informer))
            await asyncio.to_thread(api.kill)
            with pytest.raises(UnavailableError):
                await put(store, "a", v="2")
            assert data(informer) == {"a": {"v": "1"}}
            await asyncio.to_thread(api.start)
            await put(store, "a", v="3")
            await wait_for(lambda: data(informer) == {"a": {"v": "3"}}, LONGEST_PAUSE_S + 2)
    finally:
        await store.close()
        await asyncio.to_thread(api.stop)
