import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from tidegate.api.gateway import Gateway, GatewayClass, HTTPRoute
from tidegate.api.inference import (
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    LegacyInferenceObjective,
    LegacyInferencePool,
)
from tidegate.api.meta import Key
from tidegate.api.scheme import by_model
from tidegate.controllers import objectives, routes
from tidegate.controllers.freshness import Verdict
from tidegate.controllers.objectives import Objectives
from tidegate.controllers.routes import Routes
from tidegate.routing.snapshot import Snapshot
from tidegate.store.informer import Informer
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_for

KINDS = tuple(dict.fromkeys((*routes.KINDS, *objectives.KINDS)))
ROUTE = Key("default", "route")
METRICS = {"blind": Verdict("Unknown", "NoMetrics", "why")}
"""What the workers hear of pools, by name."""


class Clock:
    """Moves when told to."""

    def __init__(self) -> None:
        self.at = 1_700_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def running(engine, clock) -> AsyncIterator[None]:
    """Both status controllers, as the control process runs them."""
    informer = Informer(engine, KINDS)
    cache = Snapshot({kind: informer.resources[kind] for kind in KINDS})
    statuses = Routes(
        cache,
        engine,
        clock,
        host="127.0.0.1",
        addresses=["10.1.2.3"],
        metrics=lambda key: METRICS.get(key.name),
    )
    referrers = Objectives(cache, engine, clock)

    async def dispatch() -> None:
        while True:
            await informer.changed()
            statuses.changed()
            referrers.changed()

    tasks = [asyncio.create_task(informer.run())]
    await informer.synced()
    tasks += [asyncio.create_task(w) for w in (dispatch(), statuses.run(), referrers.run())]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


async def put(engine, kind, key, spec, **metadata):
    fields = {"spec": spec, "metadata": metadata}
    return await engine.apply(kind, key, fields, manager="test", force=True)


async def put_gateway(engine, *ports: int) -> None:
    await put(engine, GatewayClass, Key("", "tidegate"), {"controllerName": "tidegate.dev/gateway"})
    listeners = [
        {"name": f"p{i}", "protocol": "HTTP", "port": port} for i, port in enumerate(ports)
    ]
    await put(
        engine,
        Gateway,
        Key("default", "gw"),
        {"gatewayClassName": "tidegate", "listeners": listeners},
    )


async def put_route(engine, *pools: str, parent: str = "gw") -> HTTPRoute:
    refs = [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": pool}
        for pool in pools
    ]
    spec = {"parentRefs": [{"name": parent}], "rules": [{"backendRefs": refs}]}
    return await put(engine, HTTPRoute, ROUTE, spec)


async def put_pool(engine, name: str) -> None:
    spec = {"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": 8000}]}
    await put(engine, InferencePool, Key("default", name), spec)


def holds(conditions) -> dict[str, str]:
    return {one.type: one.status for one in conditions}


async def eventually(engine, kind, key, check):
    """Return the object once `check(object)` holds."""
    found = []

    async def look() -> bool:
        found[:] = [await engine.get(kind, key)]
        return bool(check(found[0]))

    await wait_for(look, what=f"{kind.__name__} {key}")
    return found[0]


async def test_class_gateway_route_and_pool_are_told_that_they_are_accepted(engine, running):
    await put_gateway(engine, free_port())
    await put_pool(engine, "llm")
    route = await put_route(engine, "llm")
    told = await eventually(engine, HTTPRoute, ROUTE, lambda r: r.status.parents)
    (parent,) = told.status.parents
    assert holds(parent.conditions) == {"Accepted": "True", "ResolvedRefs": "True"}
    assert parent.controller_name == "tidegate.dev/gateway"
    assert {one.observed_generation for one in parent.conditions} == {route.metadata.generation}
    pool = await eventually(
        engine, InferencePool, Key("default", "llm"), lambda p: p.status.parents
    )
    assert holds(pool.status.parents[0].conditions)["Accepted"] == "True"
    gateway = await eventually(
        engine,
        Gateway,
        Key("default", "gw"),
        lambda g: g.status.listeners and g.status.listeners[0].attached_routes == 1,
    )
    assert holds(gateway.status.conditions) == {"Accepted": "True", "Programmed": "True"}
    assert [address.value for address in gateway.status.addresses] == ["10.1.2.3"]
    cls = await eventually(engine, GatewayClass, Key("", "tidegate"), lambda c: c.status.conditions)
    assert holds(cls.status.conditions)["Accepted"] == "True"


async def test_pools_of_both_groups_are_told_whether_their_metrics_are_fresh(engine, running):
    await put_gateway(engine, free_port())
    await put_pool(engine, "blind")
    await put_pool(engine, "new")
    old = {"selector": {"app": "x"}, "targetPortNumber": 8000, "extensionRef": {"name": "x"}}
    await put(engine, LegacyInferencePool, Key("default", "blind"), old)
    await put_route(engine, "blind", "new")
    for kind, name in ((InferencePool, "parents"), (LegacyInferencePool, "parent")):
        pool = await eventually(
            engine, kind, Key("default", "blind"), lambda p, name=name: getattr(p.status, name)
        )
        (parent,) = getattr(pool.status, name)
        told = parent.conditions[-1]
        assert (told.type, told.status, told.reason) == ("MetricsFresh", "Unknown", "NoMetrics")
        assert (told.message, told.observed_generation) == ("why", pool.metadata.generation)
    pool = await eventually(
        engine, InferencePool, Key("default", "new"), lambda p: p.status.parents
    )
    assert "MetricsFresh" not in holds(pool.status.parents[0].conditions)


async def test_times_move_only_with_the_status_and_generations_with_the_spec(
    engine, running, clock
):
    await put_gateway(engine, free_port())
    await put_route(engine, "missing")
    first = await eventually(engine, HTTPRoute, ROUTE, lambda r: r.status.parents)
    clock.at += 100
    await put_pool(engine, "llm")
    changed = await put_route(engine, "missing", "llm")
    told = await eventually(
        engine,
        HTTPRoute,
        ROUTE,
        lambda r: (
            r.status.parents[0].conditions[0].observed_generation == changed.metadata.generation
        ),
    )
    before, after = first.status.parents[0].conditions, told.status.parents[0].conditions
    assert [c.last_transition_time for c in after] == [c.last_transition_time for c in before]
    await put_route(engine, "llm")
    resolved = await eventually(
        engine,
        HTTPRoute,
        ROUTE,
        lambda r: holds(r.status.parents[0].conditions)["ResolvedRefs"] == "True",
    )
    times = {c.type: c.last_transition_time for c in resolved.status.parents[0].conditions}
    assert times == {"Accepted": "2023-11-14T22:13:20Z", "ResolvedRefs": "2023-11-14T22:15:00Z"}


async def test_other_controllers_parents_stay_and_ours_go_with_the_reference(engine, running):
    await put_gateway(engine, free_port())
    await put_route(engine, "llm", parent="theirs")
    theirs = {
        "parentRef": {"name": "theirs"},
        "controllerName": "example.com/other",
        "conditions": [
            {
                "type": "Accepted",
                "status": "True",
                "reason": "Accepted",
                "message": "",
                "lastTransitionTime": "2020-01-01T00:00:00Z",
            }
        ],
    }
    await engine.apply_status(HTTPRoute, ROUTE, {"parents": [theirs]}, manager="other")
    await put_route(engine, "llm")
    told = await eventually(engine, HTTPRoute, ROUTE, lambda r: len(r.status.parents) == 2)
    assert told.status.parents[0].controller_name == "example.com/other"
    assert told.status.parents[0].conditions[0].last_transition_time == "2020-01-01T00:00:00Z"
    await put_route(engine, "llm", parent="theirs")
    told = await eventually(engine, HTTPRoute, ROUTE, lambda r: len(r.status.parents) == 1)
    assert told.status.parents[0].controller_name == "example.com/other"


async def test_a_settled_status_is_not_written_again(engine, running):
    await put_gateway(engine, free_port())
    await put_route(engine, "llm")
    told = await eventually(engine, HTTPRoute, ROUTE, lambda r: r.status.parents)
    await put_pool(engine, "another")  # compiles anew
    await put(engine, InferenceObjective, Key("default", "o"), {"poolRef": {"name": "another"}})
    await eventually(engine, InferenceObjective, Key("default", "o"), lambda o: o.status.conditions)
    again = await engine.get(HTTPRoute, ROUTE)
    assert again.metadata.resource_version == told.metadata.resource_version


async def test_a_port_that_somebody_else_has_is_told_with_advice(engine, running, taken):
    good = free_port()
    await put_gateway(engine, good, taken)
    gateway = await eventually(
        engine, Gateway, Key("default", "gw"), lambda g: len(g.status.listeners) == 2
    )
    fine, bad = gateway.status.listeners
    assert holds(fine.conditions)["Programmed"] == "True"
    assert holds(bad.conditions)["Programmed"] == "False"
    accepted = next(c for c in bad.conditions if c.type == "Accepted")
    assert (accepted.status, accepted.reason) == ("False", "PortUnavailable")
    assert f"port {taken} on 127.0.0.1: Address already in use; end the program" in accepted.message
    assert holds(gateway.status.conditions) == {"Accepted": "True", "Programmed": "True"}
    await put_gateway(engine, taken)
    await eventually(
        engine,
        Gateway,
        Key("default", "gw"),
        lambda g: holds(g.status.conditions) == {"Accepted": "False", "Programmed": "False"},
    )


@pytest.mark.parametrize("kind", [InferenceObjective, LegacyInferenceObjective, InferenceModel])
async def test_what_refers_to_a_pool_is_told_whether_it_exists(engine, running, kind):
    key = Key("default", "one")
    spec = {"poolRef": {"name": "llm"}}
    if kind is InferenceModel:
        spec["modelName"] = "food-review"
    await put(engine, kind, key, spec)
    told = await eventually(
        engine, kind, key, lambda o: holds(o.status.conditions).get("Accepted") == "False"
    )
    accepted = next(c for c in told.status.conditions if c.type == "Accepted")
    assert accepted.reason == "PoolNotFound"
    assert "found 'llm'" in accepted.message
    await put_pool(engine, "llm")
    await eventually(
        engine, kind, key, lambda o: holds(o.status.conditions).get("Accepted") == "True"
    )
    assert by_model(kind).has_status


async def test_a_model_name_that_an_older_model_of_the_pool_has_is_refused(engine, running, clock):
    await put_pool(engine, "llm")
    spec = {"poolRef": {"name": "llm"}, "modelName": "food-review"}
    for name in ("a", "b"):
        await put(engine, InferenceModel, Key("default", name), spec)
        await eventually(
            engine, InferenceModel, Key("default", name), lambda o: o.status.conditions
        )
    first = await engine.get(InferenceModel, Key("default", "a"))
    second = await engine.get(InferenceModel, Key("default", "b"))
    assert holds(first.status.conditions) == {"Accepted": "True"}
    (refused,) = second.status.conditions
    assert (refused.status, refused.reason) == ("False", "ModelNameInUse")
    assert "'a'" in refused.message
    await engine.delete(InferenceModel, Key("default", "a"))
    await eventually(
        engine,
        InferenceModel,
        Key("default", "b"),
        lambda o: holds(o.status.conditions) == {"Accepted": "True"},
    )


async def test_a_rewrite_that_names_an_objective_is_told_if_it_is_not_there(engine, running):
    await put_pool(engine, "llm")
    key = Key("default", "w")
    spec = {"poolRef": {"name": "llm"}, "rules": []}
    noted = {"tidegate.dev/objective": "fast"}
    await put(engine, InferenceModelRewrite, key, spec, annotations=noted)
    told = await eventually(engine, InferenceModelRewrite, key, lambda o: o.status.conditions)
    assert "found 'fast'" in told.status.conditions[0].message
    await put(engine, InferenceObjective, Key("default", "fast"), {"poolRef": {"name": "llm"}})
    await eventually(
        engine, InferenceModelRewrite, key, lambda o: not o.status.conditions[0].message
    )
