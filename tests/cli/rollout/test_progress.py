"""How far a rollout is, from its status alone."""

from io import StringIO

import msgspec
import pytest
from rich.console import Console

from tidegate.api.meta import ObjectMeta
from tidegate.api.rollout import InferenceRollout, InferenceRolloutStatus
from tidegate.cli.rollout.endpoints import Busy
from tidegate.cli.rollout.explain import explain
from tidegate.cli.rollout.progress import progress
from tidegate.cli.rollout.report import report
from tidegate.cli.rollout.view import summary, tree
from tidegate.testing.rollouts import World, admitted

SPEC = {
    "stable": "llm",
    "canary": "llm-new",
    "steps": [{"setWeight": 10}, {"setWeight": 50}],
    "analysis": {"duration": "30s"},
    "bake": "60s",
    "drain": "60s",
}


def seen(world: World) -> InferenceRollout:
    """Return the rollout as the API has it."""
    status = msgspec.json.decode(world.status, type=InferenceRolloutStatus)
    metadata = ObjectMeta(name="move", namespace="default", generation=1)
    return InferenceRollout(metadata=metadata, spec=admitted(world.spec), status=status)


def begun(**spec: object) -> World:
    world = World({**SPEC, **spec})
    world.look()
    return world


def test_a_rollout_that_nobody_has_seen_has_all_steps_before_it():
    there = progress(seen(World(dict(SPEC))), 0.0)
    assert {line.mark for line in (*there.steps, *there.after)} == {"next"}
    assert there.since_s is None


def test_the_current_step_says_how_much_of_its_time_is_over():
    world = begun()
    world.wait(12)
    there = progress(seen(world), world.now)
    assert [line.mark for line in there.steps] == ["done", "now", *["next"] * 4]
    assert there.steps[1].share == pytest.approx(0.4)
    assert there.steps[1].left_s == pytest.approx(18)


def test_what_is_left_are_the_steps_to_come_and_the_bake():
    world = begun()
    world.wait(12)
    assert progress(seen(world), world.now).left_s == pytest.approx(18 + 30 + 30 + 60)


def test_nobody_knows_what_is_left_while_it_stands_still():
    world = begun()
    world.spec["paused"] = True
    world.look()
    there = progress(seen(world), world.now)
    assert (there.phase, there.stage, there.left_s) == ("Paused", "Progressing", None)


def test_clocks_of_steps_stand_still_in_a_pause():
    world = begun()
    world.wait(12)
    world.spec["paused"] = True
    world.look()
    assert progress(seen(world), world.now + 1000).steps[1].share == pytest.approx(0.4, abs=0.1)


def test_a_step_that_waits_for_people_is_told():
    steps = [{"setWeight": 10}, {"analyze": {}}, {"pause": {}}]
    assert progress(seen(begun(steps=steps)), 1000.0).waits


def test_what_was_stopped_is_marked_where_it_was():
    world = begun()
    world.spec["abort"] = True
    world.look()
    marks = [line.mark for line in progress(seen(world), world.now).steps]
    assert marks == ["done", "stopped", *["next"] * 4]


@pytest.mark.parametrize("seconds", range(0, 400, 20))
def test_every_moment_of_a_rollout_can_be_shown_explained_and_reported(seconds):
    world = begun()
    world.quality = "pass"
    world.wait(seconds)
    rollout = seen(world)
    assert rollout.status.phase in summary(rollout)
    assert tree(rollout, world.now).children
    assert all(line.endswith(".") for line in explain(rollout, world.now))
    assert rollout.status.phase in report(rollout, world.now)


def test_a_report_escapes_what_people_wrote():
    world = begun(stable="<script>alert(1)</script>")
    assert "<script>alert" not in report(seen(world), world.now)


def test_an_unreadable_memory_still_shows_the_plan():
    rollout = seen(begun())
    status = msgspec.structs.replace(rollout.status, memory={"run": "many"})
    broken = msgspec.structs.replace(rollout, status=status)
    assert progress(broken, 0.0).steps[0].text == "setWeight 10 %"


def test_endpoints_are_shown_with_their_load_and_their_state():
    busy = [
        Busy("llm", "10.0.0.1:8000", "Ready", running=7, waiting=2, kv_usage=0.25),
        Busy("llm-new", "10.0.0.2:8000", "Starting"),
    ]
    console = Console(width=100, file=StringIO())
    console.print(tree(seen(begun()), 1000.0, busy))
    text = console.file.getvalue()
    assert "7 running, 2 waiting, KV 25%" in text
    assert "10.0.0.2:8000  Starting" in text
