"""Watches of the embedded API: what comes, from where, and how they end."""

import asyncio

import pytest
import pytest_asyncio

from tidegate.store.watching import INITIAL_EVENTS_END
from tidegate.testing.api import serving
from tidegate.testing.rest import ROUTES, Rest, route
from tidegate.testing.waiting import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOOKMARK_S = 0.05
HORIZON = 40
MERGE = "application/merge-patch+json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    async with serving(data_dir, bookmark_s=BOOKMARK_S, horizon=HORIZON) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def rest(server):
    client = Rest(server[1])
    yield client
    await client.ask("DELETE", ROUTES)


async def create(rest, name, **metadata):
    return (await rest.ask("POST", ROUTES, route(name, **metadata))).json()


async def label(rest, name, **labels):
    patch = {"metadata": {"labels": labels}}
    await rest.ask("PATCH", f"{ROUTES}/{name}", patch, media=MERGE)


async def version(rest):
    return (await rest.ask("GET", ROUTES)).json()["metadata"]["resourceVersion"]


async def next_event(events):
    event = await asyncio.wait_for(anext(events), 10)
    return event["type"], event["object"]["metadata"].get("name", "")


async def take(events, count):
    return [await next_event(events) for _ in range(count)]


@pytest.mark.parametrize("start", ["", "&resourceVersion=0", "&resourceVersion="])
async def test_a_watch_from_nothing_begins_with_what_there_is(rest, start):
    await create(rest, "a")
    await create(rest, "b")
    async with rest.watch(f"{ROUTES}?watch=true{start}") as events:
        assert await take(events, 2) == [("ADDED", "a"), ("ADDED", "b")]
        await rest.ask("DELETE", f"{ROUTES}/a")
        assert await take(events, 1) == [("DELETED", "a")]


async def test_a_watch_resumes_where_the_client_was_and_misses_nothing(rest):
    start = await version(rest)
    await create(rest, "a")
    await label(rest, "a", x="y")
    async with rest.watch(f"{ROUTES}?watch=True&resourceVersion={start}") as events:
        assert await take(events, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
        await rest.ask("DELETE", f"{ROUTES}/a")
        assert await take(events, 1) == [("DELETED", "a")]


async def test_a_version_older_than_the_log_is_gone(rest):
    start = await version(rest)
    await create(rest, "a")
    for number in range(2 * HORIZON):
        await label(rest, "a", x=str(number))
    async with rest.watch(f"{ROUTES}?watch=1&resourceVersion={start}") as events:
        event = await anext(events)
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        assert event["object"]["reason"] == "Expired"
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_an_unchanged_write_is_no_event(rest):
    await create(rest, "a", labels={"x": "y"})
    async with rest.watch(f"{ROUTES}?watch=1&resourceVersion={await version(rest)}") as events:
        await label(rest, "a", x="y")
        await create(rest, "b")
        assert await take(events, 1) == [("ADDED", "b")]


async def test_other_namespaces_and_other_names_are_not_seen(rest):
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
    await rest.ask("POST", "/api/v1/namespaces", namespace)
    other = ROUTES.replace("default", "other")
    everywhere = ROUTES.replace("/namespaces/default", "")
    by_name = f"{ROUTES}?watch=1&fieldSelector=metadata.name%3Db"
    async with (
        rest.watch(f"{ROUTES}?watch=1") as here,
        rest.watch(f"{everywhere}?watch=1") as all_of_them,
        rest.watch(by_name) as named,
    ):
        await rest.ask("POST", other, route("a"))
        await create(rest, "b")
        assert await take(here, 1) == [("ADDED", "b")]
        assert await take(all_of_them, 2) == [("ADDED", "a"), ("ADDED", "b")]
        assert await take(named, 1) == [("ADDED", "b")]
    await rest.ask("DELETE", "/api/v1/namespaces/other")


async def test_an_object_that_leaves_the_selector_is_deleted_for_that_watch(rest):
    await create(rest, "in", labels={"tier": "gold"})
    await create(rest, "out", labels={"tier": "tin"})
    query = f"watch=1&labelSelector=tier%3Dgold&resourceVersion={await version(rest)}"
    async with rest.watch(f"{ROUTES}?{query}") as events:
        await label(rest, "out", note="x")
        await label(rest, "in", tier="tin")
        await label(rest, "in", note="x")
        await label(rest, "out", tier="gold")
        await label(rest, "out", note="y")
        await rest.ask("DELETE", f"{ROUTES}/in")
        await rest.ask("DELETE", f"{ROUTES}/out")
        assert await take(events, 4) == [
            ("DELETED", "in"),
            ("ADDED", "out"),
            ("MODIFIED", "out"),
            ("DELETED", "out"),
        ]


async def test_a_watch_of_tables_sends_the_columns_once(rest):
    await create(rest, "a")
    await create(rest, "b")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    async with rest.watch(f"{ROUTES}?watch=1", {"accept": accept}) as events:
        first, second = (await anext(events))["object"], (await anext(events))["object"]
    assert first["kind"] == second["kind"] == "Table"
    assert first["columnDefinitions"][0]["name"] == "Name"
    assert second["columnDefinitions"] is None
    assert [table["rows"][0]["cells"][0] for table in (first, second)] == ["a", "b"]


async def test_bookmarks_keep_a_quiet_watch_from_falling_behind(rest):
    start = await version(rest)
    query = f"watch=1&resourceVersion={start}&allowWatchBookmarks=true"
    async with rest.watch(f"{ROUTES}?{query}") as events:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
        made = await rest.ask("POST", "/api/v1/namespaces/default/configmaps", body)
        event = await asyncio.wait_for(anext(events), 10)
        assert event["type"] == "BOOKMARK"
        assert event["object"]["kind"] == "HTTPRoute"
        reached = event["object"]["metadata"]["resourceVersion"]
        assert reached == made.json()["metadata"]["resourceVersion"]
    await rest.ask("DELETE", "/api/v1/namespaces/default/configmaps/c")
    await create(rest, "a")
    async with rest.watch(f"{ROUTES}?watch=1&resourceVersion={reached}") as events:
        assert await take(events, 1) == [("ADDED", "a")]


async def test_nobody_gets_bookmarks_who_did_not_ask(rest):
    async with rest.watch(f"{ROUTES}?watch=1&timeoutSeconds=1") as events:
        await create(rest, "a")
        await rest.ask("POST", "/api/v1/namespaces/default/configmaps", {"kind": "ConfigMap"})
        assert [event["type"] async for event in events] == ["ADDED"]


async def test_initial_events_end_with_a_bookmark_that_says_so(rest):
    await create(rest, "a")
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with rest.watch(f"{ROUTES}?watch=1&{query}") as events:
        assert await take(events, 1) == [("ADDED", "a")]
        event = await anext(events)
        assert event["type"] == "BOOKMARK"
        assert event["object"]["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}
        assert event["object"]["metadata"]["resourceVersion"] == await version(rest)
        await create(rest, "b")
        assert await take(events, 1) == [("ADDED", "b")]


async def test_a_watch_ends_at_its_timeout(rest):
    async with rest.watch(f"{ROUTES}?watch=1&timeoutSeconds=1") as events:
        assert [event async for event in events] == []


async def test_a_client_that_hangs_up_leaves_nothing_behind(rest):
    def running():
        return [t for t in asyncio.all_tasks() if "Watch" in repr(t) or "_send" in repr(t)]

    before = len(running())
    async with rest.watch(f"{ROUTES}?watch=1"), rest.watch(f"{ROUTES}?watch=1"):
        assert len(running()) > before
    await wait_for(lambda: len(running()) == before, what="the watches' tasks to end")


async def test_a_stop_ends_watches_well(tmp_path):
    running = serving(tmp_path)
    _, credentials = await running.__aenter__()
    async with Rest(credentials).watch(f"{ROUTES}?watch=1") as events:
        await running.__aexit__(None, None, None)
        # A cut connection would raise: it lacks the last chunk.
        assert [event async for event in events] == []


async def test_a_stop_waits_for_the_request_that_is_under_way(tmp_path):
    running = serving(tmp_path)
    _, credentials = await running.__aenter__()
    rest = Rest(credentials)
    stop = None
    async with rest.half_sent("POST", ROUTES, route("last")) as finish:
        stop = asyncio.create_task(running.__aexit__(None, None, None))
        await wait_for(lambda: _refuses(credentials.port), what="the listener to close")
        assert (await finish()).code == 201
    await asyncio.wait_for(stop, 10)
    async with serving(tmp_path) as (_, again):
        assert (await Rest(again).ask("GET", f"{ROUTES}/last")).code == 200


async def _refuses(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return True
    writer.close()
    return False
