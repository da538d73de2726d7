"""What every store promises: the engine, our API over HTTPS, and a real API server.

The last one runs where TIDEGATE_TEST_KUBECONFIG names one; the suite installs the CRDs there
and works in a namespace of its own.
"""

import asyncio
import json
import os
import subprocess
import uuid
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidegate.api.core import Namespace
from tidegate.api.crds import CUSTOM_KINDS, crd
from tidegate.api.errors import (
    BadRequestError,
    ConflictError,
    GoneError,
    InvalidError,
    NotFoundError,
    TidegateError,
    UnavailableError,
)
from tidegate.api.gateway import Gateway, GatewayClass, HTTPRoute
from tidegate.api.meta import Key
from tidegate.api.scheme import by_model
from tidegate.api.tidegate import ModelServer
from tidegate.process.clock import now
from tidegate.store.client import HttpStore
from tidegate.store.sqlite import Engine
from tidegate.testing.api import serving
from tidegate.testing.waiting import wait_for

CLUSTER = os.environ.get("TIDEGATE_TEST_KUBECONFIG", "")
HORIZON = 20


@dataclass
class Place:
    """A store, a namespace in it, and the engine behind it where that is ours."""

    store: Engine | HttpStore
    namespace: str
    engine: Engine | None

    def key(self, name):
        return Key(self.namespace, name)


@asynccontextmanager
async def engine_place(tmp_path):
    engine = Engine.open(":memory:", now=now, horizon=HORIZON)
    yield Place(engine, "default", engine)
    engine.close()


@asynccontextmanager
async def http_place(tmp_path):
    async with serving(tmp_path, horizon=HORIZON, bookmark_s=0.05) as (engine, credentials):
        store = HttpStore.from_kubeconfig(credentials.kubeconfig_path)
        yield Place(store, "default", engine)
        await store.close()


@asynccontextmanager
async def cluster_place(tmp_path):
    await asyncio.to_thread(install_crds)
    store = HttpStore.from_kubeconfig(Path(CLUSTER))
    namespace = f"tidegate-test-{uuid.uuid4().hex[:8]}"
    await store.apply(Namespace, Key("", namespace), {}, manager="suite")
    yield Place(store, namespace, None)
    await store.delete(Namespace, Key("", namespace))
    await store.close()


def install_crds():
    manifests = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [crd(kind) for kind in CUSTOM_KINDS]}
    )
    apply = ["kubectl", "--kubeconfig", CLUSTER, "apply", "--server-side", "-f", "-"]
    subprocess.run(apply, input=manifests.encode(), check=True)
    names = [f"crd/{kind.resource}" for kind in CUSTOM_KINDS]
    wait = ["kubectl", "--kubeconfig", CLUSTER, "wait", "--for=condition=Established", *names]
    subprocess.run(wait, check=True)


PLACES = {"engine": engine_place, "http": http_place, "cluster": cluster_place}


@pytest.fixture(
    params=[
        "engine",
        "http",
        pytest.param(
            "cluster",
            marks=pytest.mark.skipif(not CLUSTER, reason="TIDEGATE_TEST_KUBECONFIG is not set"),
        ),
    ]
)
async def place(request, tmp_path):
    async with PLACES[request.param](tmp_path) as made:
        yield made


@pytest.fixture
def store(place):
    return place.store


def route(weight=1, hostnames=()):
    # With all defaults: a cluster compares a list before it fills them in.
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}
    backend = {"group": "", "kind": "Service", "name": "a", "port": 80, "weight": weight}
    matches = [{"path": {"type": "PathPrefix", "value": "/"}}]
    spec = {"parentRefs": [parent], "rules": [{"matches": matches, "backendRefs": [backend]}]}
    return {"spec": {**spec, "hostnames": list(hostnames)} if hostnames else spec}


def listeners(*names):
    spec = {"gatewayClassName": "tidegate"}
    named = [
        {"name": name, "port": 8000 + index, "protocol": "HTTP"} for index, name in enumerate(names)
    ]
    return {"spec": {**spec, "listeners": named}}


def weight_of(resource):
    return resource.spec.rules[0].backend_refs[0].weight


class Watching:
    """Collects what a watch yields, in the background."""

    def __init__(self, store, kind, version):
        self.changes = []
        self.error = None
        self._task = asyncio.create_task(self._run(store, kind, version))

    async def _run(self, store, kind, version):
        try:
            async with aclosing(store.watch(kind, version)) as changes:
                async for change in changes:
                    self.changes.append(change)
        except TidegateError as error:
            self.error = error

    @property
    def events(self):
        return [(c.type, c.key.name) for c in self.changes if c.type != "BOOKMARK"]

    async def stop(self):
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.stop()


async def seen(watching, *events):
    await wait_for(lambda: len(watching.events) >= len(events) or watching.error)
    assert watching.error is None
    assert watching.events == list(events)


# Objects


async def test_what_was_applied_can_be_read(place):
    made = await place.store.apply(HTTPRoute, place.key("r"), route(7), manager="ann")
    read = await place.store.get(HTTPRoute, place.key("r"))
    assert read == made
    assert weight_of(read) == 7
    assert read.key == place.key("r")
    assert read.metadata.uid
    assert read.metadata.creation_timestamp.endswith("Z")
    assert read.api_version == "gateway.networking.k8s.io/v1"


async def test_a_cluster_scoped_object_has_no_namespace(place):
    name = f"class-{uuid.uuid4().hex[:6]}"
    fields = {"spec": {"controllerName": "tidegate.dev/gateway"}}
    await place.store.apply(GatewayClass, Key("", name), fields, manager="ann")
    try:
        assert (await place.store.get(GatewayClass, Key("", name))).key == Key("", name)
        found, _ = await place.store.list(GatewayClass)
        assert Key("", name) in [each.key for each in found]
    finally:
        await place.store.delete(GatewayClass, Key("", name))


async def test_a_missing_object_is_not_found(place):
    with pytest.raises(NotFoundError, match='"none" not found'):
        await place.store.get(HTTPRoute, place.key("none"))
    with pytest.raises(NotFoundError):
        await place.store.delete(HTTPRoute, place.key("none"))
    with pytest.raises(NotFoundError):
        await place.store.apply_status(HTTPRoute, place.key("none"), {"parents": []}, manager="ann")


async def test_nothing_is_created_in_a_missing_namespace(place):
    with pytest.raises(NotFoundError, match='namespaces "nowhere" not found'):
        await place.store.apply(HTTPRoute, Key("nowhere", "r"), route(), manager="ann")


async def test_a_list_has_every_object_of_its_kind(place):
    for name in ("b", "a", "c"):
        await place.store.apply(HTTPRoute, place.key(name), route(), manager="ann")
    await place.store.apply(Gateway, place.key("g"), listeners("http"), manager="ann")
    found, version = await place.store.list(HTTPRoute)
    assert [r.key.name for r in found if r.key.namespace == place.namespace] == ["a", "b", "c"]
    assert version


async def test_namespaces_hold_objects_of_the_same_name(place):
    other = f"other-{uuid.uuid4().hex[:6]}"
    await place.store.apply(Namespace, Key("", other), {}, manager="ann")
    await place.store.apply(HTTPRoute, place.key("r"), route(1), manager="ann")
    await place.store.apply(HTTPRoute, Key(other, "r"), route(2), manager="ann")
    assert weight_of(await place.store.get(HTTPRoute, place.key("r"))) == 1
    assert weight_of(await place.store.get(HTTPRoute, Key(other, "r"))) == 2
    await place.store.delete(Namespace, Key("", other))

    async def emptied():
        found, _ = await place.store.list(HTTPRoute)
        return Key(other, "r") not in [each.key for each in found]

    await wait_for(emptied, 30)
    assert weight_of(await place.store.get(HTTPRoute, place.key("r"))) == 1


async def test_a_deleted_object_is_gone_and_comes_back_as_another(place):
    first = await place.store.apply(HTTPRoute, place.key("r"), route(), manager="ann")
    await place.store.delete(HTTPRoute, place.key("r"))
    with pytest.raises(NotFoundError):
        await place.store.get(HTTPRoute, place.key("r"))
    second = await place.store.apply(HTTPRoute, place.key("r"), route(), manager="ann")
    assert second.metadata.uid != first.metadata.uid
    assert second.metadata.generation == 1


async def test_an_invalid_object_is_refused_with_every_path_and_not_stored(place):
    fields = route(-1, hostnames=["UPPER.example"])
    with pytest.raises(InvalidError) as raised:
        await place.store.apply(HTTPRoute, place.key("r"), fields, manager="ann")
    paths = {error.path for error in raised.value.errors}
    assert paths == {"spec.rules[0].backendRefs[0].weight", "spec.hostnames[0]"}
    with pytest.raises(NotFoundError):
        await place.store.get(HTTPRoute, place.key("r"))


async def test_a_finalizer_holds_a_deleted_object(place):
    fields = {**route(), "metadata": {"finalizers": ["tidegate.dev/drain"]}}
    made = await place.store.apply(HTTPRoute, place.key("r"), fields, manager="ann")
    await place.store.delete(HTTPRoute, place.key("r"))
    held = await place.store.get(HTTPRoute, place.key("r"))
    assert held.metadata.deletion_timestamp
    assert held.metadata.generation == made.metadata.generation + 1
    await place.store.delete(HTTPRoute, place.key("r"))
    await place.store.apply(HTTPRoute, place.key("r"), route(), manager="ann")
    with pytest.raises(NotFoundError):
        await place.store.get(HTTPRoute, place.key("r"))


# Versions and generations


async def test_a_write_changes_the_version_and_a_repeated_one_does_not(place):
    first = await place.store.apply(HTTPRoute, place.key("r"), route(1), manager="ann")
    again = await place.store.apply(HTTPRoute, place.key("r"), route(1), manager="ann")
    assert again.metadata.resource_version == first.metadata.resource_version
    other = await place.store.apply(HTTPRoute, place.key("r"), route(2), manager="ann")
    assert other.metadata.resource_version != first.metadata.resource_version


async def test_the_generation_counts_changes_of_the_spec_only(place):
    key = place.key("r")
    made = await place.store.apply(HTTPRoute, key, route(1), manager="ann")
    assert made.metadata.generation == 1
    labelled = {**route(1), "metadata": {"labels": {"a": "b"}}}
    assert (
        await place.store.apply(HTTPRoute, key, labelled, manager="ann")
    ).metadata.generation == 1
    status = {"parents": []}
    written = await place.store.apply_status(HTTPRoute, key, status, manager="c")
    assert written.metadata.generation == 1
    changed = await place.store.apply(HTTPRoute, key, route(2), manager="ann")
    assert changed.metadata.generation == 2


async def test_an_apply_based_on_another_version_conflicts(place):
    key = place.key("r")
    made = await place.store.apply(HTTPRoute, key, route(1), manager="ann")
    await place.store.apply(HTTPRoute, key, route(2), manager="ann")
    stale = {**route(3), "metadata": {"resourceVersion": made.metadata.resource_version}}
    with pytest.raises(ConflictError, match="the object has been modified") as raised:
        await place.store.apply(HTTPRoute, key, stale, manager="ann")
    assert raised.value.owners == ()


# Ownership


async def test_a_field_of_somebody_else_conflicts_unless_forced(place):
    key = place.key("r")
    await place.store.apply(HTTPRoute, key, route(1), manager="ann")
    with pytest.raises(ConflictError) as raised:
        await place.store.apply(HTTPRoute, key, route(2), manager="bob")
    assert raised.value.owners == (("ann", ".spec.rules"),)
    forced = await place.store.apply(HTTPRoute, key, route(2), manager="bob", force=True)
    assert weight_of(forced) == 2
    with pytest.raises(ConflictError) as raised:
        await place.store.apply(HTTPRoute, key, route(1), manager="ann")
    assert raised.value.owners == (("bob", ".spec.rules"),)


async def test_what_an_applier_leaves_out_goes_unless_shared(place):
    key = place.key("r")
    labels = {"metadata": {"labels": {"a": "1", "b": "2"}}}
    await place.store.apply(HTTPRoute, key, {**route(), **labels}, manager="ann")
    shared = {"metadata": {"labels": {"a": "1"}}}
    await place.store.apply(HTTPRoute, key, shared, manager="bob")
    left = await place.store.apply(HTTPRoute, key, route(), manager="ann")
    assert left.metadata.labels == {"a": "1"}
    left = await place.store.apply(HTTPRoute, key, {}, manager="bob")
    assert left.metadata.labels == {}


async def test_listeners_are_owned_one_by_one(place):
    key = place.key("g")
    await place.store.apply(Gateway, key, listeners("http"), manager="ann")
    more = {"spec": {"listeners": [{"name": "extra", "port": 9000, "protocol": "HTTP"}]}}
    both = await place.store.apply(Gateway, key, more, manager="bob")
    assert [each.name for each in both.spec.listeners] == ["http", "extra"]
    again = await place.store.apply(Gateway, key, listeners("http"), manager="ann")
    assert again.metadata.resource_version == both.metadata.resource_version


async def test_managed_fields_cannot_be_applied(place):
    fields = {**route(), "metadata": {"managedFields": [{"manager": "ann"}]}}
    with pytest.raises(BadRequestError, match="managedFields must be nil"):
        await place.store.apply(HTTPRoute, place.key("r"), fields, manager="ann")


# Status


def condition(status, generation=1):
    return {
        "type": "Ready",
        "status": status,
        "reason": "Because",
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


SERVER = {"spec": {"addresses": ["127.0.0.1:9000"]}}


async def test_spec_and_status_do_not_touch_each_other(place):
    key = place.key("m")
    await place.store.apply(ModelServer, key, SERVER, manager="ann")
    status = {"replicas": 1, "conditions": [condition("True")]}
    await place.store.apply_status(ModelServer, key, status, manager="controller")
    lying = {"spec": {"addresses": ["127.0.0.1:9001"]}, "status": {"replicas": 7}}
    written = await place.store.apply(ModelServer, key, lying, manager="ann")
    assert written.status.replicas == 1
    assert written.spec.addresses == ("127.0.0.1:9001",)


async def test_conditions_of_two_writers_stand_side_by_side(place):
    key = place.key("m")
    await place.store.apply(ModelServer, key, SERVER, manager="ann")
    other = {**condition("False"), "type": "Other"}
    for manager, each in (("one", condition("True")), ("two", other)):
        await place.store.apply_status(ModelServer, key, {"conditions": [each]}, manager=manager)
    read = await place.store.get(ModelServer, key)
    assert {each.type: each.status for each in read.status.conditions} == {
        "Ready": "True",
        "Other": "False",
    }
    await place.store.apply_status(ModelServer, key, {}, manager="one")
    read = await place.store.get(ModelServer, key)
    assert [each.type for each in read.status.conditions] == ["Other"]


async def test_a_status_written_by_another_is_taken_over(place):
    key = place.key("m")
    await place.store.apply(ModelServer, key, SERVER, manager="ann")
    await place.store.apply_status(ModelServer, key, {"replicas": 1}, manager="one")
    taken = await place.store.apply_status(ModelServer, key, {"replicas": 2}, manager="two")
    assert taken.status.replicas == 2


# Watches


async def test_a_watch_tells_what_happens_after_its_version(place):
    key = place.key("r")
    await place.store.apply(HTTPRoute, place.key("before"), route(), manager="ann")
    _, version = await place.store.list(HTTPRoute)
    async with Watching(place.store, HTTPRoute, version) as watching:
        await place.store.apply(HTTPRoute, key, route(1), manager="ann")
        await place.store.apply(Gateway, place.key("g"), listeners("http"), manager="ann")
        changed = await place.store.apply(HTTPRoute, key, route(2), manager="ann")
        await place.store.apply(HTTPRoute, key, route(2), manager="ann")
        await place.store.delete(HTTPRoute, key)
        await seen(watching, ("ADDED", "r"), ("MODIFIED", "r"), ("DELETED", "r"))
        events = [each for each in watching.changes if each.key]
    assert weight_of(events[0].object) == 1
    assert events[1].object == changed
    assert events[1].version == changed.metadata.resource_version
    assert weight_of(events[2].object) == 2
    assert len({each.version for each in events}) == 3


async def test_a_watch_resumes_where_another_ended(place):
    key = place.key("r")
    _, version = await place.store.list(HTTPRoute)
    async with Watching(place.store, HTTPRoute, version) as watching:
        await place.store.apply(HTTPRoute, key, route(1), manager="ann")
        await seen(watching, ("ADDED", "r"))
        reached = watching.changes[-1].version
    await place.store.apply(HTTPRoute, key, route(2), manager="ann")
    async with Watching(place.store, HTTPRoute, reached) as watching:
        await place.store.apply(HTTPRoute, key, route(3), manager="ann")
        await seen(watching, ("MODIFIED", "r"), ("MODIFIED", "r"))
        assert [weight_of(each.object) for each in watching.changes if each.key] == [2, 3]


async def test_many_watches_all_see_everything(place):
    _, version = await place.store.list(HTTPRoute)
    watches = [Watching(place.store, HTTPRoute, version) for _ in range(5)]
    for index in range(10):
        await place.store.apply(HTTPRoute, place.key(f"r{index}"), route(), manager="ann")
    for watching in watches:
        await seen(watching, *(("ADDED", f"r{index}") for index in range(10)))
        await watching.stop()


async def test_a_watch_from_before_the_log_is_gone(place):
    if place.engine is None:
        pytest.skip("a real API server compacts when it likes")
    _, version = await place.store.list(HTTPRoute)
    for index in range(2 * HORIZON):
        await place.store.apply(HTTPRoute, place.key("r"), route(index), manager="ann")
    with pytest.raises(GoneError):
        async for _ in place.store.watch(HTTPRoute, version):
            pass


async def test_a_quiet_watch_learns_how_far_it_is(place):
    if not isinstance(place.store, HttpStore) or place.engine is None:
        pytest.skip("bookmarks come from our API, and from a real one each minute")
    _, version = await place.store.list(HTTPRoute)
    async with Watching(place.store, HTTPRoute, version) as watching:
        await place.store.apply(Gateway, place.key("g"), listeners("http"), manager="ann")
        newest = place.engine.version
        await wait_for(lambda: watching.changes)
        assert watching.changes[-1].version == newest
        assert watching.changes[-1].type == "BOOKMARK"


# Objects that don't fit


async def test_an_object_that_does_not_fit_hides_no_other(place):
    if place.engine is None:
        pytest.skip("a real API server lets no such object in")
    _, version = await place.store.list(HTTPRoute)
    await place.store.apply(HTTPRoute, place.key("good"), route(), manager="ann")
    spoil(place.engine, by_model(HTTPRoute), place.key("bad"))
    broken = []
    found, _ = await place.store.list(HTTPRoute, broken=lambda key, error: broken.append(key))
    assert [each.key for each in found] == [place.key("good")]
    assert broken == [place.key("bad")]
    with pytest.raises(InvalidError):
        await place.store.list(HTTPRoute)
    changes = []
    async with aclosing(
        place.store.watch(HTTPRoute, version, broken=lambda key, error: broken.append(key))
    ) as watch:
        async for change in watch:
            changes.append(change)
            if len(changes) == 2:
                break
    assert {(each.type, each.key) for each in changes} == {
        ("ADDED", place.key("good")),
        ("BOOKMARK", None),
    }


def spoil(engine, kind, key):
    """Put an object behind the engine's back that no admission would let in."""
    metadata = {"name": key.name, "namespace": key.namespace, "uid": "u"}
    obj = {
        "apiVersion": kind.api_version(),
        "kind": kind.kind,
        "metadata": metadata,
        "spec": {"rules": 7},
    }
    ledger = engine._ledger
    ledger._publish([ledger.stage(kind.resource, "ADDED", obj)])


# Errors of the connection


async def test_a_server_that_is_away_is_unavailable(tmp_path):
    async with serving(tmp_path) as (_, credentials):
        store = HttpStore.from_kubeconfig(credentials.kubeconfig_path)
        _, version = await store.list(HTTPRoute)
        watching = Watching(store, HTTPRoute, version)
        await store.apply(HTTPRoute, Key("default", "r"), route(), manager="ann")
        await wait_for(lambda: watching.changes)
    await wait_for(lambda: watching.error)
    assert isinstance(watching.error, UnavailableError)
    with pytest.raises(UnavailableError):
        await store.list(HTTPRoute)
    await store.close()


async def test_a_kubeconfig_that_is_none_is_told(tmp_path):
    with pytest.raises(UnavailableError, match="kubeconfig"):
        HttpStore.from_kubeconfig(tmp_path / "missing")
    for content in ("", "[]", "a: b: c", "clusters: []\ncontexts: []\n"):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(UnavailableError, match="kubeconfig"):
            HttpStore.from_kubeconfig(tmp_path / "bad")


WEIGHT = "/spec/rules/0/backendRefs/0/weight"


def edits(generation, weight):
    return [
        {"op": "test", "path": "/metadata/generation", "value": generation},
        {"op": "add", "path": WEIGHT, "value": weight},
    ]


async def test_an_edit_changes_what_it_names_and_is_owned_by_its_manager(place):
    made = await place.store.apply(HTTPRoute, place.key("r"), route(1), manager="ann")
    edited = await place.store.edit(
        HTTPRoute, made.key, edits(made.metadata.generation, 7), manager="bob"
    )
    assert weight_of(edited) == 7
    assert edited.spec.parent_refs == made.spec.parent_refs
    assert "bob" in {each.manager for each in edited.metadata.managed_fields}


async def test_an_edit_whose_test_fails_changes_nothing(place):
    made = await place.store.apply(HTTPRoute, place.key("r"), route(1), manager="ann")
    stale = made.metadata.generation
    await place.store.edit(HTTPRoute, made.key, edits(stale, 7), manager="bob")
    with pytest.raises(InvalidError):
        await place.store.edit(HTTPRoute, made.key, edits(stale, 8), manager="eve")
    assert weight_of(await place.store.get(HTTPRoute, made.key)) == 7


async def test_an_edit_of_a_missing_object_is_not_found(place):
    with pytest.raises(NotFoundError):
        await place.store.edit(HTTPRoute, place.key("none"), edits(1, 1), manager="bob")
