"""`plan` and `lint`: nothing is moved, and much is found."""

from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[3] / "examples"
KINDS = ("node", "base-model", "adapter", "bad-canary")


def manifest(folder: Path, **spec: object) -> str:
    obj = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "InferenceRollout",
        "metadata": {"name": "move"},
        "spec": {"stable": "llm", "canary": "llm-new", **spec},
    }
    path = folder / "rollout.yaml"
    path.write_text(yaml.safe_dump(obj))
    return str(path)


def test_a_plan_spells_the_preset_out_with_its_times(desk, tmp_path):
    ran = desk("plan", "-f", manifest(tmp_path, preset="blueGreen"))
    lines = ran.stdout.splitlines()
    assert ran.exit_code == 0
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert "setWeight 100 %" in lines[3]
    assert "drain, 5 min at most" in lines[6]
    assert "Complete after 25 min" in lines[7]


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_may_start_and_says_what_production_takes(desk, kind):
    ran = desk("lint", "--offline", "-f", str(EXAMPLES / kind / "rollout.yaml"))
    assert ran.exit_code == 0, ran.output
    assert "Production takes 5m or more" in ran.stdout


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ({"steps": [{"setWeight": 80}]}, "FirstWeight"),
        ({"bake": "0s"}, "NoBake"),
        ({"maxDuration": "1m"}, "MaxDuration"),
        ({"steps": [{"setWeight": 10}, {"pause": {}}]}, "WaitsForPeople"),
    ],
)
def test_advice_is_given_and_blocks_nothing(desk, tmp_path, spec, advice):
    ran = desk("lint", "--offline", "-f", manifest(tmp_path, **spec))
    assert ran.exit_code == 0
    assert advice in ran.stdout


def test_a_plain_rollout_needs_no_advice(desk, tmp_path):
    ran = desk("lint", "--offline", "-f", manifest(tmp_path))
    assert ran.stdout == "move may start.\n"


def test_what_is_missing_in_the_api_blocks(desk, tmp_path):
    ran = desk("lint", "-f", manifest(tmp_path))
    assert ran.exit_code == 1
    assert "Target: No HTTPRoute sends to the pool llm." in ran.stdout
    assert "There is no InferencePool llm-new." in ran.stdout
    assert "move would not start." in ran.stdout


def test_a_file_without_rollouts_is_told(desk):
    ran = desk("plan", "-f", str(EXAMPLES / "node" / "pools.yaml"))
    assert ran.exit_code == 1
    assert "no InferenceRollout" in ran.stderr


def test_a_rollout_that_is_not_in_the_file_is_told(desk, tmp_path):
    ran = desk("plan", "other", "-f", manifest(tmp_path))
    assert ran.exit_code == 1
    assert "found move" in ran.stderr
