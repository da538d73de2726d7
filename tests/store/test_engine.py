"""The embedded store beyond the contract: raw verbs, durability, damage, and its watch log."""

import asyncio
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.api.core import ConfigMap, Namespace
from tidegate.api.errors import (
    AlreadyExistsError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    StrictDecodingError,
    TidegateError,
    UnavailableError,
    UnsupportedError,
)
from tidegate.api.gateway import Gateway, HTTPRoute
from tidegate.api.meta import Key
from tidegate.api.scheme import by_model
from tidegate.api.tidegate import ModelServer
from tidegate.store.sqlite import Engine

ROUTES = by_model(HTTPRoute)
MAPS = by_model(ConfigMap)
SERVERS = by_model(ModelServer)
NAMESPACES = by_model(Namespace)
R = Key("default", "r")


class Clock:
    """A time that tests set."""

    def __init__(self):
        self.time = 1_767_225_600.0  # 2026-01-01

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def engine(clock):
    engine = Engine.open(":memory:", now=clock)
    yield engine
    engine.close()


def route(weight=1, **metadata):
    backends = [{"name": "a", "port": 80, "weight": weight}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "default", **metadata},
        "spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": backends}]},
    }


def config(name, **data):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


def server(**spec):
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": "r", "namespace": "default"},
        "spec": {"addresses": ["127.0.0.1:9000"], **spec},
    }


def entries(obj):
    return {
        (each["manager"], each["operation"], each.get("subresource", ""))
        for each in obj["metadata"].get("managedFields", [])
    }


# Create


async def test_a_created_object_gets_its_identity(engine):
    written = await engine.create(ROUTES, route(), manager="ann")
    metadata = written.object["metadata"]
    assert written.created
    assert metadata["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert metadata["generation"] == 1
    assert metadata["resourceVersion"] == engine.version
    assert entries(written.object) == {("ann", "Update", "")}
    assert await engine.read(ROUTES, R) == written.object


async def test_a_name_is_taken_once_and_a_namespace_must_exist(engine):
    await engine.create(ROUTES, route(), manager="ann")
    with pytest.raises(AlreadyExistsError, match='"r" already exists'):
        await engine.create(ROUTES, route(), manager="ann")
    with pytest.raises(NotFoundError, match='namespaces "other" not found'):
        await engine.create(ROUTES, route(namespace="other"), manager="ann")


async def test_a_new_object_has_no_version_and_no_status(engine):
    with pytest.raises(BadRequestError):
        await engine.create(ROUTES, route(resourceVersion="7"), manager="ann")
    obj = {**server(), "status": {"replicas": 3}}
    written = await engine.create(SERVERS, obj, manager="ann")
    assert written.object.get("status", {}).get("replicas", 0) == 0


async def test_identity_that_a_client_sends_is_not_believed(engine):
    sent = route(uid="mine", generation=9, creationTimestamp="2001-01-01T00:00:00Z")
    metadata = (await engine.create(ROUTES, sent, manager="ann")).object["metadata"]
    assert metadata["uid"] != "mine"
    assert metadata["generation"] == 1
    assert metadata["creationTimestamp"] == "2026-01-01T00:00:00Z"


async def test_a_name_is_made_from_its_prefix(engine):
    sent = config("x")
    sent["metadata"] = {"generateName": "made-"}
    names = set()
    for _ in range(3):
        written = await engine.create(MAPS, sent, manager="ann")
        names.add(written.object["metadata"]["name"])
    assert len(names) == 3
    assert all(name.startswith("made-") and len(name) == 10 for name in names)


async def test_older_versions_of_a_kind_are_stored_as_the_newest(engine):
    sent = {**route(), "apiVersion": "gateway.networking.k8s.io/v1beta1"}
    written = await engine.create(ROUTES, sent, manager="ann")
    assert written.object["apiVersion"] == "gateway.networking.k8s.io/v1"


async def test_unknown_fields_are_refused_or_told(engine):
    sent = route()
    sent["spec"]["hostnmes"] = ["a.example"]
    with pytest.raises(StrictDecodingError, match="hostnmes"):
        await engine.create(ROUTES, sent, manager="ann")
    written = await engine.create(ROUTES, sent, manager="ann", strict="Warn")
    assert any("hostnmes" in warning for warning in written.warnings)
    assert "hostnmes" not in written.object["spec"]


# Dry run


async def test_a_dry_run_shows_the_result_and_stores_nothing(engine):
    await engine.create(MAPS, config("kept", a="1"), manager="ann")
    before = engine.version
    key = Key("default", "kept")
    made = await engine.create(MAPS, config("new"), manager="ann", dry_run=True)
    assert made.created
    patched = await engine.patch(
        MAPS, key, {"data": {"a": "2"}}, patch_type="merge", manager="ann", dry_run=True
    )
    assert patched.object["data"] == {"a": "2"}
    applied = await engine.patch(
        MAPS, key, {"data": {"b": "3"}}, patch_type="apply", manager="bob", dry_run=True
    )
    assert applied.object["data"] == {"a": "1", "b": "3"}
    await engine.remove(MAPS, key, dry_run=True)
    assert engine.version == before
    objects, _ = await engine.read_all(MAPS)
    assert [(obj["metadata"]["name"], obj["data"]) for obj in objects] == [("kept", {"a": "1"})]


# Replace


async def test_a_replacement_must_know_the_newest_version(engine):
    made = (await engine.create(ROUTES, route(1), manager="ann")).object
    newer = {**made, "spec": route(2)["spec"]}
    written = await engine.replace(ROUTES, R, newer, manager="ann")
    assert written.object["metadata"]["generation"] == 2
    with pytest.raises(ConflictError, match="the object has been modified"):
        await engine.replace(ROUTES, R, {**made, "spec": route(3)["spec"]}, manager="ann")
    with pytest.raises(InvalidError, match="resourceVersion"):
        await engine.replace(ROUTES, R, route(3), manager="ann")
    with pytest.raises(NotFoundError):
        await engine.replace(ROUTES, Key("default", "s"), newer, manager="ann")


async def test_a_replacement_of_a_core_object_needs_no_version(engine):
    await engine.create(MAPS, config("m", a="1"), manager="ann")
    key = Key("default", "m")
    written = await engine.replace(MAPS, key, config("m", b="2"), manager="ann")
    assert written.object["data"] == {"b": "2"}
    assert "generation" not in written.object["metadata"]


async def test_a_replacement_keeps_identity_and_status(engine):
    made = (await engine.create(SERVERS, server(), manager="ann")).object
    status = {"status": {"replicas": 1}}
    await engine.patch(SERVERS, R, status, patch_type="merge", manager="c", subresource="status")
    now = await engine.read(SERVERS, R)
    sent = {**now, "status": {"replicas": 9}, "spec": {"addresses": ["127.0.0.1:9001"]}}
    sent["metadata"] = {
        "name": "r",
        "namespace": "default",
        "resourceVersion": now["metadata"]["resourceVersion"],
    }
    written = (await engine.replace(SERVERS, R, sent, manager="ann")).object
    assert written["status"]["replicas"] == 1
    for field in ("uid", "creationTimestamp"):
        assert written["metadata"][field] == made["metadata"][field]


async def test_a_status_write_changes_the_status_only(engine):
    made = (await engine.create(SERVERS, server(), manager="ann")).object
    sent = {**made, "spec": {"addresses": []}, "status": {"replicas": 2}}
    sent["metadata"] = {**made["metadata"], "labels": {"a": "b"}}
    written = (await engine.replace(SERVERS, R, sent, manager="c", subresource="status")).object
    assert written["spec"] == made["spec"]
    assert "labels" not in written["metadata"]
    assert written["status"]["replicas"] == 2
    assert ("c", "Update", "status") in entries(written)
    await engine.create(MAPS, config("m"), manager="ann")
    with pytest.raises(UnsupportedError):
        await engine.patch(
            MAPS,
            Key("default", "m"),
            {"status": {}},
            patch_type="merge",
            manager="c",
            subresource="status",
        )


async def test_another_object_is_not_taken_for_this_one(engine):
    made = (await engine.create(ROUTES, route(), manager="ann")).object
    other = {**made, "metadata": {**made["metadata"], "uid": "other"}}
    with pytest.raises(ConflictError, match="UID"):
        await engine.replace(ROUTES, R, other, manager="ann")
    renamed = {**made, "metadata": {**made["metadata"], "name": "s"}}
    with pytest.raises(BadRequestError, match="name"):
        await engine.replace(ROUTES, R, renamed, manager="ann")


# Patch


async def test_a_merge_patch_changes_what_it_says(engine):
    await engine.create(ROUTES, route(), manager="ann")
    patch = {"metadata": {"labels": {"a": "1"}}}
    written = await engine.patch(ROUTES, R, patch, patch_type="merge", manager="bob")
    assert written.object["metadata"]["labels"] == {"a": "1"}
    assert written.object["metadata"]["generation"] == 1
    assert ("bob", "Update", "") in entries(written.object)


async def test_a_patch_that_changes_nothing_is_no_write(engine, clock):
    await engine.create(ROUTES, route(3), manager="ann")
    before = await engine.read(ROUTES, R)
    clock.time += 60
    patch = {"spec": {"parentRefs": [{"name": "g"}]}}
    written = await engine.patch(ROUTES, R, patch, patch_type="merge", manager="bob")
    assert written.object == before
    assert await engine.read(ROUTES, R) == before


async def test_a_json_patch_that_fails_changes_nothing(engine):
    await engine.create(ROUTES, route(3), manager="ann")
    before = await engine.read(ROUTES, R)
    patch = [
        {"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 9},
        {"op": "test", "path": "/metadata/name", "value": "other"},
    ]
    with pytest.raises(InvalidError) as raised:
        await engine.patch(ROUTES, R, patch, patch_type="json", manager="bob")
    assert raised.value.errors[0].path == "/metadata/name"
    assert await engine.read(ROUTES, R) == before


async def test_a_patch_with_another_version_conflicts(engine):
    made = (await engine.create(ROUTES, route(1), manager="ann")).object
    version = made["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version}, "spec": route(2)["spec"]}
    await engine.patch(ROUTES, R, patch, patch_type="merge", manager="bob")
    with pytest.raises(ConflictError):
        await engine.patch(ROUTES, R, patch, patch_type="merge", manager="bob")


async def test_an_applied_list_may_leave_out_defaults(engine):
    await engine.patch(ROUTES, R, route(3), patch_type="apply", manager="ann")
    again = await engine.patch(ROUTES, R, route(3), patch_type="apply", manager="bob")
    assert entries(again.object) == {("ann", "Apply", ""), ("bob", "Apply", "")}
    with pytest.raises(ConflictError):
        await engine.patch(ROUTES, R, route(4), patch_type="apply", manager="bob")


async def test_a_lenient_manifest_is_applied_with_a_warning(engine):
    sent = route()
    sent["spec"]["rules"] = sent["spec"]["rules"][0]
    written = await engine.patch(ROUTES, R, sent, patch_type="apply", manager="kubectl")
    assert isinstance(written.object["spec"]["rules"], list)
    assert len(written.warnings) == 1
    again = await engine.patch(ROUTES, R, sent, patch_type="apply", manager="kubectl")
    assert again.object == written.object


async def test_nobody_owns_what_admission_left_out(engine):
    sent = route()
    sent["spec"]["hostnmes"] = ["a.example"]
    written = await engine.patch(
        ROUTES, R, sent, patch_type="apply", manager="ann", strict="Ignore"
    )
    (entry,) = written.object["metadata"]["managedFields"]
    assert entry["fieldsV1"] == {"f:spec": {"f:parentRefs": {}, "f:rules": {}}}


async def test_ownership_can_be_moved_by_rewriting_managed_fields(engine):
    """What `kubectl apply --server-side` does after a client-side apply."""
    made = (await engine.create(ROUTES, route(), manager="kubectl-client-side-apply")).object
    version = made["metadata"]["resourceVersion"]
    moved = [
        {**each, "manager": "kubectl", "operation": "Apply"}
        for each in made["metadata"]["managedFields"]
    ]
    patch = [
        {"op": "replace", "path": "/metadata/managedFields", "value": moved},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    written = await engine.patch(ROUTES, R, patch, patch_type="json", manager="kubectl")
    assert entries(written.object) == {("kubectl", "Apply", "")}
    await engine.patch(ROUTES, R, route(5), patch_type="apply", manager="kubectl")
    # A second try with the older version must not undo it.
    with pytest.raises(ConflictError):
        await engine.patch(ROUTES, R, patch, patch_type="json", manager="kubectl")


async def test_ownership_can_be_dropped_but_not_by_an_empty_list(engine):
    await engine.create(ROUTES, route(), manager="ann")
    for value in ([], [{"manager": "x", "operation": "?"}], "none"):
        patch = {"metadata": {"managedFields": value}}
        kept = await engine.patch(ROUTES, R, patch, patch_type="merge", manager="bob")
        assert entries(kept.object) == {("ann", "Update", "")}
    patch = {"metadata": {"managedFields": [{}]}}
    dropped = await engine.patch(ROUTES, R, patch, patch_type="merge", manager="bob")
    assert entries(dropped.object) == set()


async def test_the_time_of_an_owner_is_that_of_its_last_change(engine, clock):
    await engine.patch(MAPS, R, config("r", a="1"), patch_type="apply", manager="ann")
    clock.time += 60
    await engine.patch(MAPS, R, config("r", b="2"), patch_type="apply", manager="bob")
    written = await engine.patch(MAPS, R, config("r", a="1"), patch_type="apply", manager="ann")
    times = {each["manager"]: each["time"] for each in written.object["metadata"]["managedFields"]}
    assert times == {"ann": "2026-01-01T00:00:00Z", "bob": "2026-01-01T00:01:00Z"}


# Delete


async def test_a_deletion_checks_its_preconditions(engine):
    made = (await engine.create(ROUTES, route(), manager="ann")).object
    with pytest.raises(ConflictError, match="UID"):
        await engine.remove(ROUTES, R, precondition_uid="other")
    with pytest.raises(ConflictError, match="ResourceVersion"):
        await engine.remove(ROUTES, R, precondition_version="1")
    gone = await engine.remove(
        ROUTES,
        R,
        precondition_uid=made["metadata"]["uid"],
        precondition_version=made["metadata"]["resourceVersion"],
    )
    assert gone["metadata"]["uid"] == made["metadata"]["uid"]


async def test_a_finalizer_cannot_be_added_to_a_dying_object(engine):
    await engine.create(ROUTES, route(finalizers=["a.b/c"]), manager="ann")
    held = await engine.remove(ROUTES, R)
    assert held["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:00Z"
    patch = {"metadata": {"finalizers": ["a.b/c", "d.e/f"]}}
    with pytest.raises(InvalidError, match="being deleted"):
        await engine.patch(ROUTES, R, patch, patch_type="merge", manager="ann")
    patch = {"metadata": {"finalizers": None}}
    await engine.patch(ROUTES, R, patch, patch_type="merge", manager="ann")
    with pytest.raises(NotFoundError):
        await engine.read(ROUTES, R)


async def test_the_default_namespace_stays(engine):
    with pytest.raises(ForbiddenError):
        await engine.remove(NAMESPACES, Key("", "default"))
    assert await engine.read(NAMESPACES, Key("", "default"))


async def test_a_namespace_goes_with_what_is_in_it_once_nobody_holds_it(engine):
    await engine.create(NAMESPACES, {"metadata": {"name": "n"}}, manager="ann")
    held = route(namespace="n", finalizers=["a.b/c"])
    await engine.create(ROUTES, held, manager="ann")
    await engine.create(
        MAPS, {**config("m"), "metadata": {"name": "m", "namespace": "n"}}, manager="ann"
    )
    await engine.remove(NAMESPACES, Key("", "n"))
    with pytest.raises(NotFoundError):
        await engine.read(MAPS, Key("n", "m"))
    with pytest.raises(ForbiddenError, match="being terminated"):
        await engine.create(
            ROUTES, {**held, "metadata": {**held["metadata"], "name": "s"}}, manager="ann"
        )
    patch = {"metadata": {"finalizers": []}}
    await engine.patch(ROUTES, Key("n", "r"), patch, patch_type="merge", manager="ann")
    with pytest.raises(NotFoundError):
        await engine.read(NAMESPACES, Key("", "n"))


# Garbage

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
PLACES = [
    (),
    ("apiVersion",),
    ("kind",),
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "namespace"),
    ("metadata", "generateName"),
    ("metadata", "uid"),
    ("metadata", "resourceVersion"),
    ("metadata", "generation"),
    ("metadata", "labels"),
    ("metadata", "annotations"),
    ("metadata", "finalizers"),
    ("metadata", "ownerReferences"),
    ("metadata", "managedFields"),
    ("metadata", "deletionTimestamp"),
    ("spec",),
    ("spec", "listeners"),
    ("spec", "rules"),
    ("spec", "addresses"),
    ("status",),
    ("status", "conditions"),
    ("status", "listeners"),
]


def put_at(obj, path, value):
    if not path:
        return value
    below = obj.get(path[0]) if isinstance(obj, dict) else None
    return {**(obj if isinstance(obj, dict) else {}), path[0]: put_at(below, path[1:], value)}


GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "r", "namespace": "default"},
    "spec": {
        "gatewayClassName": "c",
        "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}],
    },
}
SAMPLES = [
    (by_model(Gateway), GATEWAY),
    (ROUTES, route()),
    (SERVERS, server()),
    (MAPS, config("r")),
    (NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "r"}}),
]


@given(
    sample=st.sampled_from(SAMPLES),
    places=st.lists(st.tuples(st.sampled_from(PLACES), json_values), min_size=1, max_size=2),
    exists=st.booleans(),
    subresource=st.sampled_from(["", "status"]),
)
@settings(max_examples=150, deadline=None)
def test_garbage_is_refused_or_stored_soundly(sample, places, exists, subresource):
    asyncio.run(write_garbage(*sample, places, exists, subresource))


async def write_garbage(kind, obj, places, exists, subresource):
    engine = Engine.open(":memory:", now=Clock())
    key = Key("default" if kind.namespaced else "", "r")
    if exists:
        await engine.create(kind, obj, manager="ann")
    garbage = obj
    for path, value in places:
        garbage = put_at(garbage, path, value)
    operations = [
        {"op": "add", "path": "".join(f"/{name}" for name in path), "value": value}
        for path, value in places
    ]
    part = {"manager": "bob", "subresource": subresource}
    attempts = [
        lambda: engine.patch(kind, key, garbage, patch_type="apply", force=True, **part),
        lambda: engine.patch(kind, key, garbage, patch_type="merge", **part),
        lambda: engine.patch(kind, key, operations, patch_type="json", **part),
    ]
    if isinstance(garbage, dict):
        attempts.append(lambda: engine.create(kind, garbage, manager="bob"))
        attempts.append(lambda: engine.replace(kind, key, garbage, **part))
    for attempt in attempts:
        try:
            written = await attempt()
        except TidegateError:
            continue
        metadata = written.object["metadata"]
        stored = Key(metadata.get("namespace", ""), metadata["name"])
        again = await engine.patch(kind, stored, {}, patch_type="merge", manager="x")
        assert again.object == written.object
        await engine.list(kind.model)
    engine.close()


@pytest.mark.parametrize("patch_type", ["merge", "apply"])
async def test_what_is_nested_too_deeply_is_refused(engine, patch_type):
    await engine.create(MAPS, config("m"), manager="ann")
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(InvalidError, match="nesting"):
        await engine.patch(MAPS, Key("default", "m"), deep, patch_type=patch_type, manager="ann")


# The log


async def take(engine, kind, version, count):
    taken = []
    async with aclosing(engine.follow(kind, version)) as changes:
        async for change in changes:
            taken.append(change)
            if len(taken) == count:
                return taken
    return taken


def fold(objects, changes):
    world = {obj["metadata"]["name"]: obj for obj in objects}
    for change in changes:
        name = change.object["metadata"]["name"]
        if change.type == "DELETED":
            del world[name]
        else:
            assert (name in world) == (change.type == "MODIFIED")
            world[name] = change.object
    return world


steps = st.lists(
    st.tuples(st.sampled_from(["put", "delete"]), st.sampled_from("abc"), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)


@given(steps=steps)
@settings(max_examples=40, deadline=None)
def test_a_list_and_all_changes_since_are_the_newest_list(steps):
    asyncio.run(replay(steps))


async def replay(steps):
    engine = Engine.open(":memory:", now=Clock())
    lists = [await engine.read_all(MAPS)]
    for step, name, value in steps:
        key = Key("default", name)
        try:
            if step == "put":
                body = {"data": {"v": str(value)}}
                await engine.patch(MAPS, key, body, patch_type="apply", manager="ann")
            else:
                await engine.remove(MAPS, key)
        except NotFoundError:
            continue
        lists.append(await engine.read_all(MAPS))
    newest = fold(lists[-1][0], [])
    for objects, version in lists:
        count = int(engine.version) - int(version)
        changes = await take(engine, MAPS, version, count) if count else []
        assert [int(c.version) for c in changes] == list(
            range(int(version) + 1, int(engine.version) + 1)
        )
        assert fold(objects, changes) == newest
    engine.close()


async def test_followers_that_come_and_go_under_writes_miss_and_repeat_nothing(engine):
    start = engine.version
    written = 200

    async def write(part):
        for index in range(part, written, 4):
            await engine.create(MAPS, config(f"m{index}"), manager="ann")

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow_exactly(engine, start, written)) for _ in range(3)]
        for part in range(4):
            tasks.create_task(write(part))
    assert all(task.result() == followers[0].result() for task in followers)
    assert sorted(followers[0].result()) == sorted(f"m{index}" for index in range(written))


async def follow_exactly(engine, version, count):
    """Follow in short stretches, each from where the last one ended."""
    rng, seen = random.Random(count), []
    while len(seen) < count:
        stretch = min(rng.randint(1, 20), count - len(seen))
        for change in await take(engine, MAPS, version, stretch):
            seen.append(change.object["metadata"]["name"])
            version = change.version
    return seen


async def test_versions_that_are_none_are_refused(engine):
    for version in ("", "x", "-1", "1.5"):
        with pytest.raises(BadRequestError):
            await take(engine, MAPS, version, 1)
    with pytest.raises(GoneError):
        await take(engine, MAPS, str(int(engine.version) + 1), 1)


async def test_closing_ends_all_watches(engine):
    waiting = asyncio.create_task(take(engine, MAPS, engine.version, 1))
    await asyncio.wait([waiting], timeout=0.01)
    engine.close()
    with pytest.raises(UnavailableError, match="closed"):
        await waiting
    with pytest.raises(UnavailableError, match="closed"):
        await engine.create(MAPS, config("m"), manager="ann")


async def test_what_was_handed_out_is_the_callers_own(engine):
    made = (await engine.create(MAPS, config("m", a="1"), manager="ann")).object
    made["data"]["a"] = "spoilt"
    read = await engine.read(MAPS, Key("default", "m"))
    read["data"]["a"] = "spoilt"
    assert (await engine.read(MAPS, Key("default", "m")))["data"] == {"a": "1"}


# The file


async def test_a_reopened_store_goes_on_where_it_was(tmp_path, clock):
    path = tmp_path / "t.db"
    engine = Engine.open(path, now=clock, horizon=5)
    for index in range(10):
        await engine.create(MAPS, config(f"m{index}"), manager="ann")
    before, version = await engine.read_all(MAPS)
    engine.close()
    again = Engine.open(path, now=clock, horizon=5)
    assert await again.read_all(MAPS) == (before, version)
    assert len(await take(again, MAPS, str(int(version) - 5), 5)) == 5
    with pytest.raises(GoneError):
        await take(again, MAPS, str(int(version) - 6), 1)
    written = await again.create(MAPS, config("next"), manager="ann")
    assert int(written.object["metadata"]["resourceVersion"]) == int(version) + 1
    again.close()


def test_secrets_are_readable_by_their_owner_only(tmp_path, clock):
    before = os.umask(0)
    engine = Engine.open(tmp_path / "t.db", now=clock)
    os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    engine.close()
    assert set(modes.values()) == {0o600}


def test_one_process_at_a_time(tmp_path, clock):
    engine = Engine.open(tmp_path / "t.db", now=clock)
    with pytest.raises(UnavailableError, match="in use by another process"):
        Engine.open(tmp_path / "t.db", now=clock)
    engine.close()


def test_a_file_that_is_no_database_is_told(tmp_path, clock):
    path = tmp_path / "t.db"
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(UnavailableError, match="is damaged"):
        Engine.open(path, now=clock)
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_database_is_told(tmp_path, clock):
    path = tmp_path / "t.db"
    Engine.open(path, now=clock).close()
    content = bytearray(path.read_bytes())
    content[4096:8192] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(UnavailableError, match="is damaged"):
        Engine.open(path, now=clock)


def test_somebody_elses_database_is_left_alone(tmp_path, clock):
    path = tmp_path / "t.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(UnavailableError, match="another program"):
        Engine.open(path, now=clock)


def test_a_newer_format_is_told(tmp_path, clock):
    path = tmp_path / "t.db"
    Engine.open(path, now=clock).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UnavailableError, match="format 99"):
        Engine.open(path, now=clock)


def test_a_directory_that_is_missing_is_told(tmp_path, clock):
    with pytest.raises(UnavailableError, match="missing"):
        Engine.open(tmp_path / "missing" / "t.db", now=clock)


async def test_a_full_disk_refuses_writes_and_takes_them_again_later(tmp_path, clock):
    engine = Engine.open(tmp_path / "t.db", now=clock)
    await engine.create(MAPS, config("before"), manager="ann")
    connection = engine._ledger._journal._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    big = "x" * 100_000
    made = await asyncio.gather(
        *(engine.create(MAPS, config(f"m{i}", a=big), manager="ann") for i in range(5)),
        return_exceptions=True,
    )
    assert {type(each) for each in made} == {UnavailableError}
    assert "can't write" in str(made[0])
    objects, version = await engine.read_all(MAPS)
    assert [obj["metadata"]["name"] for obj in objects] == ["before"]
    # The second apply changes nothing of what the first failed to store.
    same = config("m0", a=big)
    made = await asyncio.gather(
        engine.patch(MAPS, Key("default", "m0"), same, patch_type="apply", manager="ann"),
        engine.patch(MAPS, Key("default", "m0"), same, patch_type="apply", manager="ann"),
        return_exceptions=True,
    )
    assert [type(each) for each in made] == [UnavailableError] * 2
    connection.execute("PRAGMA max_page_count = 1000000")
    written = await engine.create(MAPS, config("m0"), manager="ann")
    assert int(written.object["metadata"]["resourceVersion"]) == int(version) + 1
    engine.close()
    again = Engine.open(tmp_path / "t.db", now=clock)
    objects, _ = await again.read_all(MAPS)
    assert [obj["metadata"]["name"] for obj in objects] == ["before", "m0"]
    again.close()


def test_every_commit_is_synced(tmp_path, clock):
    engine = Engine.open(tmp_path / "t.db", now=clock)
    connection = engine._ledger._journal._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    engine.close()


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path):
    path, rng = tmp_path / "t.db", random.Random(7)
    acknowledged, newest = {}, 0
    for _ in range(6):
        for name, value, version in said_before_kill(path, after=rng.randint(1, 60)):
            assert version > newest
            acknowledged[name], newest = value, version
        stored, version = asyncio.run(read_back(path))
        assert version >= newest
        newest = version
        assert all(stored[name] >= value for name, value in acknowledged.items())


def said_before_kill(path, after):
    """Run a writer, kill it once it has acknowledged `after` writes; return what it said."""
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.endswith("\n"):
                name, value, version = line.split()
                said.append((name, int(value), int(version)))
            if len(said) == after:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(said) >= after
    return said


async def read_back(path):
    engine = Engine.open(path, now=Clock())
    objects, version = await engine.read_all(MAPS)
    engine.close()
    versions = {obj["metadata"]["resourceVersion"] for obj in objects}
    assert len(versions) == len(objects)
    return {obj["metadata"]["name"]: int(obj["data"]["v"]) for obj in objects}, int(version)


WRITE_FOR_EVER = """
import asyncio, itertools, pathlib, sys
from tidegate.api.core import ConfigMap
from tidegate.api.meta import Key
from tidegate.store.sqlite import Engine

async def write(engine, name):
    key = Key("default", name)
    try:
        first = int((await engine.get(ConfigMap, key)).data["v"]) + 1
    except Exception:
        first = 0
    for value in itertools.count(first):
        made = await engine.apply(ConfigMap, key, {"data": {"v": str(value)}}, manager="ann")
        print(name, value, made.metadata.resource_version, flush=True)

async def main():
    engine = Engine.open(pathlib.Path(sys.argv[1]), now=lambda: 0.0)
    await asyncio.gather(*(write(engine, f"m{index}") for index in range(4)))

asyncio.run(main())
"""
