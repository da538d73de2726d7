"""`tidegate rollout` against a real API."""

import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import yaml
from click.testing import CliRunner

from tidegate.cli import main
from tidegate.testing.api import ApiProcess
from tidegate.testing.rollouts import World
from tidegate.testing.waiting import wait_until

MANIFEST = {
    "apiVersion": "tidegate.dev/v1alpha1",
    "kind": "InferenceRollout",
    "metadata": {"name": "given"},
    "spec": {"stable": "llm", "canary": "llm-new"},
}


def ended(world: World, *, well: bool) -> World:
    if well:
        world.quality = "pass"
        for _ in range(6):
            world.wait(60)
    else:
        world.spec["abort"] = True
        world.look()
    return world


def manifest(folder, **changes) -> str:
    path = folder / "rollout.yaml"
    path.write_text(yaml.safe_dump({**MANIFEST, **changes}))
    return str(path)


# start


def test_start_makes_a_rollout_of_options_and_says_what_to_type_next(desk):
    ran = desk("start", "made", "--stable", "a", "--canary", "b", "--steps", "5,50",
               "--analysis", "1m", "--min-requests", "7", "--target", "route/2")  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "`tidegate rollout get made -w`" in ran.stdout
    spec = desk.get("made").spec
    assert [step.set_weight for step in spec.steps] == [5, 50]
    assert (spec.analysis.duration, spec.analysis.min_requests) == ("1m", 7)
    assert (spec.target.name, spec.target.rule) == ("route", "2")


def test_start_applies_a_manifest_as_kubectl_would(desk, tmp_path):
    assert desk("start", "-f", manifest(tmp_path)).exit_code == 0
    annotations = desk.get("given").metadata.annotations
    assert "kubectl.kubernetes.io/last-applied-configuration" in annotations


def test_start_tells_all_that_is_wrong_with_a_spec_and_applies_nothing(desk, tmp_path):
    spec = {"stable": "a", "canary": "b", "drain": "later", "bake": "soon"}
    path = manifest(tmp_path, metadata={"name": "wrong"}, spec=spec)
    ran = desk("start", "-f", path)
    assert ran.exit_code == 1
    assert "spec.bake" in ran.stderr
    assert "spec.drain" in ran.stderr
    assert desk("get", "wrong").exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["start"],
        ["start", "x", "--stable", "a"],
        ["start", "x", "--stable", "a", "--canary", "b", "--steps", "ten"],
        ["start", "-f", "rollout.yaml", "--bake", "1m"],
        ["start", "x", "--wait", "--timeout", "soon"],
        ["get"],
        ["get", "x", "-w", "-o", "json"],
        ["report", "x"],
        ["plan"],
    ],
)
def test_misuse_exits_with_2(desk, arguments):
    assert desk(*arguments).exit_code == 2


def test_an_ended_rollout_only_starts_again_when_told_so(desk, world, tmp_path):
    desk.put("again", ended(world, well=False))
    arguments = ["start", "again", "--stable", "llm", "--canary", "llm-new", "--steps", "10,50"]
    refused = desk(*arguments)
    assert refused.exit_code == 1
    assert "--again" in refused.stderr
    before = desk.get("again").metadata.uid
    assert desk(*arguments, "--again").exit_code == 0
    fresh = desk.get("again")
    assert fresh.metadata.uid != before
    assert not fresh.spec.abort


@pytest.mark.parametrize(("well", "code"), [(True, 0), (False, 3)])
def test_watching_ends_with_the_rollout_and_its_exit_code(desk, world, well, code):
    desk.put("over", ended(world, well=well))
    ran = desk("get", "over", "-w")
    assert ran.exit_code == code, ran.output
    assert ("Completed" if well else "Aborted") in ran.stdout


def test_waiting_ends_after_its_timeout_and_says_where_the_rollout_is(desk, world):
    desk.put("slow", world)
    ran = desk("start", "slow", "--stable", "llm", "--canary", "llm-new", "--steps", "10,50",
               "--analysis", "30s", "--bake", "60s", "--drain", "60s", "--wait", "--timeout",
               "300ms", "--force-conflicts")  # fmt: skip
    assert ran.exit_code == 1
    assert "Progressing 2/6" in ran.stderr
    assert "`tidegate rollout get slow -w`" in ran.stderr


# look


def test_list_is_kubectls_table_and_every_other_output_has_the_whole(desk, world):
    desk.put("listed", world)
    head, *rows = desk("list").stdout.splitlines()
    assert head.split() == [
        "NAME", "PHASE", "STEP", "DESIRED", "EFFECTIVE", "OBSERVED", "MESSAGE", "AGE",
    ]  # fmt: skip
    assert any(row.startswith("listed ") and "2/6" in row for row in rows)
    assert "STABLE" in desk("list", "-A", "-o", "wide").stdout
    assert "inferencerollout.tidegate.dev/listed" in desk("list", "-o", "name").stdout
    items = json.loads(desk("list", "-o", "json").stdout)["items"]
    assert "listed" in [item["metadata"]["name"] for item in items]
    one = yaml.safe_load(desk("get", "listed", "-o", "yaml").stdout)
    assert one["spec"]["maxDuration"] == "24h"
    assert one["status"]["phase"] == "Progressing"


def test_get_shows_steps_weights_and_what_it_waits_for(desk, world):
    desk.put("seen", world)
    text = desk("get", "seen").stdout
    assert "✔ setWeight 10 %" in text
    assert "▸ analyze 30 s" in text
    assert "compares the canary with the stable at 10 %" in text


def test_a_missing_rollout_is_told_with_those_that_are_there(desk, world):
    desk.put("there", world)
    ran = desk("get", "nowhere")
    assert ran.exit_code == 1
    assert "no rollout nowhere" in ran.stderr
    assert "there" in ran.stderr


def test_without_a_kubeconfig_it_says_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    ran = CliRunner().invoke(main, ["rollout", "list"])
    assert ran.exit_code == 1
    assert str(tmp_path / "none") in ran.stderr


def test_a_dead_api_is_told_in_one_line_with_the_kubeconfig(desk, tmp_path):
    dead = ApiProcess(tmp_path)
    dead.start()
    dead.stop()
    ran = type(desk)(dead.kubeconfig)("list")
    assert ran.exit_code == 1
    assert str(dead.kubeconfig) in ran.stderr
    assert "Traceback" not in ran.stderr


def test_history_and_report_have_what_happened(desk, world, tmp_path):
    desk.put("past", ended(world, well=False))
    assert "Aborted" in desk("history", "past").stdout
    assert json.loads(desk("history", "past", "-o", "json").stdout)[0]["number"] == 1
    page = tmp_path / "page.html"
    assert desk("report", "past", "-o", str(page)).exit_code == 0
    text = page.read_text()
    assert "<svg" in text
    assert "aborted by spec.abort" in text
    assert "http" not in text.replace("http://www.w3.org", "")


# steer


def test_pause_resume_and_promote_write_their_field_and_no_other(desk, world):
    desk.put("steered", world)
    before = desk.get("steered").spec
    assert "resume" in desk("pause", "steered").stdout
    assert desk.get("steered").spec == msgspec.structs.replace(before, paused=True)
    desk("resume", "steered")
    assert desk.get("steered").spec == before
    desk("promote", "steered")
    first = desk.get("steered").spec.promote
    desk("promote", "--full", "steered")
    second = desk.get("steered").spec.promote
    assert first
    assert second.startswith("full")
    assert first != second


def test_an_intent_survives_the_next_one(desk, world):
    desk.put("both", world)
    desk("pause", "both")
    assert "resume" in desk("promote", "both").stdout
    assert desk.get("both").spec.paused


def test_abort_is_one_write_of_the_spec(desk, world):
    desk.put("aborted", world)
    before = desk.get("aborted").metadata.generation
    assert "goes back to llm" in desk("abort", "aborted").stdout
    after = desk.get("aborted")
    assert (after.spec.abort, after.metadata.generation) == (True, before + 1)


def test_what_has_ended_cannot_be_steered_but_undone(desk, world):
    desk.put("complete", ended(world, well=True))
    for command in ("pause", "resume", "promote", "abort"):
        ran = desk(command, "complete")
        assert ran.exit_code == 1, command
        assert "tidegate rollout" in ran.stderr
    assert desk("undo", "complete").exit_code == 0
    assert desk.get("complete").spec.undo


def test_undoing_what_is_back_already_is_done(desk, world):
    desk.put("back", ended(world, well=False))
    ran = desk("undo", "back", "--wait")
    assert ran.exit_code == 0
    assert "already" in ran.stdout


def test_waiting_for_an_undo_does_not_end_with_the_completion_before_it(desk, world):
    desk.put("forth", ended(world, well=True))
    ran = desk("undo", "forth", "--wait", "--timeout", "300ms")
    assert ran.exit_code == 1
    assert "hasn't ended" in ran.stderr


# explain


def test_explain_says_what_is_held_up_and_what_can_be_done(desk, world):
    world.spec["paused"] = True
    world.look()
    desk.put("held", world)
    text = desk("explain", "held").stdout
    assert "It is Paused (in Progressing)" in text
    assert "`tidegate rollout resume held` lets it go on" in text


def test_explain_says_that_nobody_has_looked_yet(desk):
    desk("start", "unseen", "--stable", "a", "--canary", "b")
    assert "No controller has looked at it yet" in desk("explain", "unseen").stdout


def test_waiting_ends_when_the_rollout_does(desk, world):
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(
            desk, "start", "run", "--stable", "llm", "--canary", "llm-new", "--wait",
            "--timeout", "20s",
        )  # fmt: skip
        wait_until(lambda: desk("get", "run", "-o", "name").exit_code == 0)
        desk.put("run", world)
        desk.put("run", ended(world, well=False))
        ran = waiting.result()
    assert ran.exit_code == 3, ran.output
    assert "`tidegate rollout explain run`" in ran.stderr
