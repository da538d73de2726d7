"""`plan` and `lint`: nothing is moved, and much is found."""

from pathlib import Path

import pytest
import yaml

from tidegate.api.core import Namespace
from tidegate.api.gateway import HTTPRoute
from tidegate.api.inference import GROUP, InferencePool
from tidegate.api.meta import Key
from tidegate.api.tidegate import ModelServer
from tidegate.store.client import HttpStore

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


def pool(name: str) -> dict:
    return {"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": 8000}]}


async def a_route_with_two_pools(store: HttpStore, namespace: str) -> None:
    """Have all that a rollout needs; of the canary, no endpoint is ready."""
    await store.apply(Namespace, Key("", namespace), {}, manager="test")
    refs = [{"name": name, "group": GROUP, "kind": "InferencePool", "weight": weight}
            for name, weight in (("llm", 100), ("llm-new", 0))]  # fmt: skip
    spec = {"rules": [{"backendRefs": refs}]}
    await store.apply(HTTPRoute, Key(namespace, "route"), {"spec": spec}, manager="test")
    for name, state in (("llm", "Ready"), ("llm-new", "Starting")):
        key = Key(namespace, name)
        await store.apply(InferencePool, key, {"spec": pool(name)}, manager="test")
        server = {"metadata": {"labels": {"app": name}}, "spec": {"addresses": ["127.0.0.1:1"]}}
        await store.apply(ModelServer, key, server, manager="test")
        status = {"endpoints": [{"address": "127.0.0.1:1", "state": state}]}
        await store.apply_status(ModelServer, key, status, manager="test")


def test_what_is_there_is_found_and_what_is_not_ready_blocks(desk, tmp_path):
    desk.with_store(lambda store: a_route_with_two_pools(store, "lint"))
    ran = desk("lint", "-n", "lint", "-f", manifest(tmp_path))
    assert ran.exit_code == 1
    finding, verdict = ran.stdout.splitlines()
    assert finding.startswith("block  ReadyEndpoints: No endpoint of llm-new is ready.")
    assert verdict == "move would not start."
    waived = desk("lint", "-n", "lint", "-f", manifest(tmp_path, waivers=["ReadyEndpoints"]))
    assert waived.exit_code == 0
    assert "waived ReadyEndpoints" in waived.stdout
