"""The rollouts controller over a store in memory: whatever dies, the end is the same."""

from pathlib import Path

import pytest

from tidegate.api.errors import NotFoundError
from tidegate.api.event import Event
from tidegate.api.gateway import HTTPRoute
from tidegate.api.inference import InferencePool
from tidegate.api.meta import Key
from tidegate.api.rollout import InferenceRollout
from tidegate.api.scheme import by_model
from tidegate.testing.steered import KEY, ROUTE, Steered, steered

SPEC = {
    "steps": [{"setWeight": 20}],
    "analysis": {"duration": "4s", "minRequests": 5, "advanceWhen": "NotWorse"},
    "bake": "3s",
    "drain": "5s",
}

QUICK = {
    **SPEC,
    "analysis": {**SPEC["analysis"], "duration": "1s", "minRequests": 2},
    "bake": "1s",
    "drain": "1s",
}
"""For tests that live through it again and again."""


@pytest.fixture
async def world(tmp_path: Path):
    async with steered(tmp_path, **SPEC) as made:
        yield made


async def finished(world: Steered, *phases: str) -> InferenceRollout:
    """Go on to an end, and some seconds more: nothing happens after it."""
    await world.until(*phases)
    for _ in range(3):
        await world.second()
    return await world.rollout()


async def test_it_completes_and_lets_everything_go(world: Steered):
    rollout = await finished(world, "Completed")
    assert await world.weights() == (0, 100)
    assert world.reach == [(100, 0), (80, 20), (0, 100)]
    assert rollout.metadata.finalizers == ()


async def test_each_change_is_an_event_once(world: Steered):
    rollout = await finished(world, "Completed")
    events, _ = await world.engine.list(Event)
    told = sorted(events, key=lambda event: int(event.metadata.name.rpartition("-")[2]))
    assert [each.message for each in told] == [each.message for each in rollout.status.history]
    assert {each.involved_object.uid for each in told} == {rollout.metadata.uid}
    assert {each.type for each in told} == {"Normal"}


async def test_a_bad_canary_is_rolled_back_with_the_reason(world: Steered):
    world.errors = 20
    rollout = await finished(world, "RolledBack")
    assert await world.weights() == (100, 0)
    assert "of the canary's last" in rollout.status.message


async def count_writes(tmp_path: Path) -> int:
    async with steered(tmp_path, **QUICK) as world:
        await finished(world, "Completed")
        return world.store.writes


async def test_wherever_it_dies_it_completes_without_overshooting(tmp_path: Path):
    writes = await count_writes(tmp_path / "first")
    assert writes > 10
    # After each write: to die before the next one is the same to all who are left.
    for done in range(1, writes):
        async with steered(tmp_path / str(done), **QUICK) as world:
            world.store.dies_at = done + 0.5
            await finished(world, "Completed")
            assert world.reach == [(100, 0), (80, 20), (0, 100)], done


async def test_an_abort_is_effective_at_once_wherever_it_dies(tmp_path: Path):
    for half in range(2, 12):
        async with steered(tmp_path / str(half), **QUICK) as world:
            await world.until("Progressing")
            await world.second()
            await world.intend(abort=True)
            world.store.dies_at = world.store.writes + half / 2
            await world.look()
            assert await world.weights() == (100, 0)
            rollout = await finished(world, "Aborted")
            assert rollout.status.weights.effective == 0


async def route(world: Steered) -> dict:
    return await world.engine.read(by_model(HTTPRoute), ROUTE)


async def edit_route(world: Steered, **changes: object) -> None:
    kind = by_model(HTTPRoute)
    operations = [{"op": "add", "path": path, "value": value} for path, value in changes.items()]
    await world.engine.patch(kind, ROUTE, operations, patch_type="json", manager="kubectl-edit")


STABLE, CANARY = (f"/spec/rules/0/backendRefs/{i}/weight" for i in (0, 1))


async def test_only_the_two_weights_are_ever_written(world: Steered):
    await edit_route(
        world,
        **{
            "/metadata/annotations": {"note": "keep"},
            "/spec/rules/-": {"name": "other", "backendRefs": [{"name": "x", "port": 80}]},
        },
    )
    before = (await route(world))["spec"]
    await finished(world, "Completed")
    after = await route(world)
    for index, weight in ((0, 0), (1, 100)):
        before["rules"][0]["backendRefs"][index]["weight"] = weight
    assert after["spec"] == before
    assert after["metadata"]["annotations"] == {"note": "keep"}


async def test_a_foreign_edit_pauses_and_is_not_put_over(world: Steered):
    await world.until("Progressing")
    await world.second()
    await edit_route(world, **{STABLE: 60, CANARY: 40})
    rollout = await world.until("Paused")
    assert "kubectl-edit set the weights to 60/40" in rollout.status.message
    for _ in range(5):
        await world.second()
    assert await world.weights() == (60, 40)
    await world.intend(promote="1")
    await finished(world, "Completed")
    assert await world.weights() == (0, 100)


async def test_an_edit_in_the_same_moment_is_not_put_over(world: Steered):
    await world.until("Progressing")
    await world.second()
    await world.intend(abort=True)
    # The controller's cache is from before this edit: its own write must not undo it.
    await world.cache.refresh()
    await edit_route(world, **{"/spec/hostnames": ["a.test"]})
    await world.controller.reconcile(KEY)
    await world.look()
    assert await world.weights() == (100, 0)
    assert (await route(world))["spec"]["hostnames"] == ["a.test"]


async def test_a_deleted_rollout_gives_the_traffic_back_first(world: Steered):
    await world.until("Progressing")
    await world.second()
    assert await world.weights() == (80, 20)
    kind = by_model(InferenceRollout)
    await world.engine.remove(kind, KEY)
    await world.look()
    assert await world.weights() == (100, 0)
    await world.second()
    with pytest.raises(NotFoundError):
        await world.rollout()


@pytest.mark.parametrize(("pool", "end"), [("llm-new", "RolledBack"), ("llm", "Paused")])
async def test_a_pool_in_use_is_held_and_the_reason_said(world: Steered, pool: str, end: str):
    await world.until("Progressing")
    await world.second()
    await world.engine.remove(by_model(InferencePool), Key("default", pool))
    rollout = await world.until(end)
    assert f"the pool {pool} is being deleted" in rollout.status.message
    if end == "Paused":
        held = await world.engine.get(InferencePool, Key("default", pool))
        assert held.metadata.finalizers
        await world.intend(abort=True)
        await finished(world, "Aborted")
    with pytest.raises(NotFoundError):
        await world.engine.get(InferencePool, Key("default", pool))
    assert await world.weights() == (100, 0)


async def test_undo_after_completion_brings_everything_back(world: Steered):
    await finished(world, "Completed")
    await world.intend(undo=True)
    await finished(world, "RolledBack")
    assert await world.weights() == (100, 0)


async def test_a_second_rollout_of_a_rule_waits_for_the_first(world: Steered):
    await world.until("Progressing")
    other = Key("default", "other")
    await world.create_rollout("other", **SPEC)
    await world.controller.reconcile(other)
    for _ in range(3):
        await world.second()
        await world.controller.reconcile(other)
    waiting = await world.engine.get(InferenceRollout, other)
    assert waiting.status.phase == "Pending"
    assert "waits for the rollout move" in waiting.status.message


async def test_a_paused_rollout_stands_still_and_goes_on(world: Steered):
    await world.until("Progressing")
    await world.intend(paused=True)
    for _ in range(20):
        await world.second()
    assert (await world.rollout()).status.phase == "Paused"
    assert await world.weights() == (80, 20)
    await world.intend(paused=False)
    await finished(world, "Completed")


async def test_a_stable_with_requests_drains_before_completion(world: Steered):
    world.in_flight = 3
    await world.until("Draining")
    await world.second()
    assert (await world.rollout()).status.phase == "Draining"
    world.in_flight = 0
    await finished(world, "Completed")


@pytest.mark.parametrize("phase", ["Progressing", "Baking", "Draining"])
async def test_an_abort_at_any_phase_is_one_write_of_weights(world: Steered, phase: str):
    world.in_flight = 1 if phase == "Draining" else 0
    await world.until(phase)
    await world.intend(abort=True)
    await world.look()
    assert await world.weights() == (100, 0)
    assert world.reach[-1] == (100, 0)
    world.in_flight = 0
    await finished(world, "Aborted")


async def test_weights_that_are_not_honoured_pause_it(world: Steered):
    await world.until("Progressing")
    world.honoured = False
    rollout = await world.until("Paused")
    assert "the data plane doesn't honour the weights" in rollout.status.message
    flags = {each.type: each.status for each in rollout.status.conditions}
    assert flags["WeightsNotHonoured"] == "True"


async def test_the_old_pool_is_scaled_down_at_the_end_and_up_again_by_an_undo(tmp_path: Path):
    async with steered(tmp_path, **SPEC, onCompletion="ScaleDown") as world:
        await world.scalable("llm", replicas=3)
        await finished(world, "Completed")
        assert await world.replicas("llm") == 0
        await world.intend(undo=True)
        await world.look()
        assert await world.replicas("llm") == 3


async def test_what_was_bound_to_the_old_pool_is_bound_to_the_new_one(tmp_path: Path):
    async with steered(tmp_path, **SPEC, type="BaseModel") as world:
        await world.objective("fast", "llm")
        await world.until("Progressing")
        assert await world.bound("fast") == "llm"
        rollout = await world.rollout()
        assert rollout.status.joined == ("llm", "llm-new")
        await finished(world, "Completed")
        assert await world.bound("fast") == "llm-new"
        assert (await world.rollout()).status.joined == ()
