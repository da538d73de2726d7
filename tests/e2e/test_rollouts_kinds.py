"""Base-model and adapter rollouts run themselves, under live traffic."""

import json
from pathlib import Path
from urllib.request import Request, urlopen

from tidegate.testing.deployment import EXAMPLES, Deployment, deployed
from tidegate.testing.moving import start, until, weights
from tidegate.testing.regulars import crossings, regulars
from tidegate.testing.traffic import traffic


def objectives(up: Deployment) -> dict[str, str]:
    found = up.kubectl.json("inferenceobjective")["items"]
    return {each["metadata"]["name"]: each["spec"]["poolRef"]["name"] for each in found}


def adapters(up: Deployment) -> list[set[str]]:
    """Return the adapters that each server lists."""
    served = []
    for server in up.kubectl.json("modelserver")["items"]:
        for each in server["status"]["endpoints"]:
            with urlopen(f"http://{each['address']}/v1/models", timeout=5) as answer:
                listed = json.load(answer)["data"]
            served.append({model["id"] for model in listed if model["parent"]})
    return served


def named(up: Deployment) -> str:
    """Return the model that an answer names."""
    body = json.dumps({"model": "food-review", "prompt": "x", "max_tokens": 1}).encode()
    headers = {"content-type": "application/json"}
    with urlopen(Request(f"{up.url}/v1/completions", body, headers), timeout=5) as answer:
        return json.load(answer)["model"]


def test_a_base_model_rollout_carries_priorities_over(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "base-model"], "--workers", "2") as up:
        before = objectives(up)
        with traffic(up.url, 30, "chat") as load, regulars(up.url, "chat") as known:
            start(up, type="BaseModel", stable="llm-pool", canary="llm-pool-version-2")
            until(up, "Progressing")
            assert objectives(up) == before
            until(up, "Completed")
            late = load.more(50)
            known.again()
        assert {each.pool for each in late} == {"llm-pool-version-2"}
        assert load.failures == []
        assert [crossings(each.pools) for each in known.sessions] == [(1, 0)] * len(known.sessions)
        assert weights(up) == (0, 100)
        until(up, lambda _: set(objectives(up).values()) == {"llm-pool-version-2"})


def test_an_adapter_rollout_loads_moves_and_unloads(tmp_path: Path):
    files = {"canaryPath": "/adapters/v2", "stablePath": "/adapters/v1", "unload": True}
    sides = {"stable": "food-review-v1", "canary": "food-review-v2"}
    with deployed(tmp_path, [EXAMPLES / "adapter"], "--workers", "2") as up:
        with traffic(up.url, 30, "food-review") as load, regulars(up.url, "food-review") as known:
            start(up, type="Adapter", **sides, adapters=files)
            until(up, "Progressing")
            assert adapters(up) == [{"food-review-v1", "food-review-v2"}] * 2
            until(up, "Completed")
            known.again()
            until(up, lambda _: adapters(up) == [{"food-review-v2"}] * 2)
            load.more(50)
            assert named(up) == "food-review"
        assert load.failures == []
        assert [crossings(each.words) for each in known.sessions] == [(1, 0)] * len(known.sessions)
        rewrite = up.kubectl.json("inferencemodelrewrite", "food-review")
        assert rewrite["spec"]["rules"][0]["targets"] == [
            {"modelRewrite": "food-review-v2", "weight": 100}
        ]


LEGACY = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: food-review}
spec:
  modelName: food-review
  poolRef: {group: inference.networking.k8s.io, name: llm}
  targetModels: [{name: food-review-v1, weight: 100}]
"""


def test_an_adapter_rollout_moves_a_legacy_inference_model(tmp_path: Path):
    (tmp_path / "model.yaml").write_text(LEGACY)
    names = ("model-servers.yaml", "pools.yaml", "route.yaml")
    manifests = [*(EXAMPLES / "adapter" / name for name in names), tmp_path / "model.yaml"]
    sides = {"stable": "food-review-v1", "canary": "food-review-v2"}
    files = {"canaryPath": "/adapters/v2"}
    with deployed(tmp_path, manifests, "--workers", "1") as up:
        with traffic(up.url, 30, "food-review") as load:
            start(up, type="Adapter", **sides, adapters=files)
            seen = until(up, "Completed")
            load.more(20)
        assert load.failures == []
        assert seen["target"] == "InferenceModel/food-review"
        model = up.kubectl.json("inferencemodel", "food-review")
        assert model["spec"]["targetModels"] == [{"name": "food-review-v2", "weight": 100}]


def test_an_adapter_that_the_servers_refuse_stops_before_any_request(tmp_path: Path):
    sides = {"stable": "food-review-v1", "canary": "food-review-v2"}
    with deployed(tmp_path, [EXAMPLES / "adapter"], "--workers", "1") as up:
        for server in up.kubectl.json("modelserver")["items"]:
            for each in server["status"]["endpoints"]:
                body = json.dumps({"missing_adapters": ["food-review-v2"]}).encode()
                headers = {"content-type": "application/json"}
                url = f"http://{each['address']}/admin/faults"
                with urlopen(Request(url, body, headers), timeout=5):
                    pass
        with traffic(up.url, 20, "food-review") as load:
            start(up, type="Adapter", **sides, adapters={"canaryPath": "/adapters/v2"})
            seen = until(up, lambda seen: "load_lora_adapter" in seen["message"])
            assert "The adapter food-review-v2 is not loaded" in seen["message"]
            assert seen["phase"] == "Preflight"
        assert load.failures == []
