"""The examples are good manifests, and the seed's are in them word for word."""

from pathlib import Path

import pytest
import yaml

from tidegate.api.scheme import by_kind
from tidegate.api.validate import admit

EXAMPLES = Path(__file__).parents[2] / "examples"
MANIFESTS = sorted([*EXAMPLES.glob("*/*.yaml"), *EXAMPLES.glob("*/rollouts/*.yaml")])
STEPS = sorted(EXAMPLES.glob("*/step/*.yaml"))


def admitted(path: Path) -> list[tuple[dict, tuple[str, ...]]]:
    results = []
    for document in yaml.safe_load_all(path.read_text()):
        group, _, version = document["apiVersion"].rpartition("/")
        document["metadata"].setdefault("namespace", "default")
        result = admit(by_kind(group, document["kind"]), version, document)
        results.append((document, result.warnings))
    return results


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_example_is_admitted_without_a_word_but_for_its_parent(path):
    assert admitted(path)
    for document, warnings in admitted(path):
        if document["kind"] != "HTTPRoute":
            assert not warnings


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.parts[-3])
def test_the_steps_are_admitted_and_say_what_they_leave_loose(path):
    ((_, warnings),) = admitted(path)
    assert any("rules" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("folder", "stable", "canary"),
    [("node", "llm", "llm-new"), ("base-model", "llm-pool", "llm-pool-version-2")],
)
def test_a_step_is_the_manifest_of_the_guide_word_for_word(folder, stable, canary):
    text = (EXAMPLES / folder / "step" / "routes-to-llm-90-10.yaml").read_text()
    assert text == (
        "apiVersion: gateway.networking.k8s.io/v1\n"
        "kind: HTTPRoute\n"
        "metadata:\n"
        "  name: routes-to-llm\n"
        "spec:\n"
        "  parentRefs:\n"
        "    - name: my-inference-gateway\n"
        "      group: inference.networking.k8s.io\n"
        "      kind: InferenceGateway\n"
        "  rules:\n"
        "    backendRefs:\n"
        f"    - name: {stable}\n"
        "      group: inference.networking.k8s.io\n"
        "      kind: InferencePool\n"
        "      weight: 90\n"
        f"    - name: {canary}\n"
        "      group: inference.networking.k8s.io\n"
        "      kind: InferencePool\n"
        "      weight: 10\n"
    )


@pytest.mark.parametrize("folder", ["node", "base-model", "adapter", "bad-canary", "demo"])
def test_every_pool_of_a_route_has_model_servers(folder):
    objects = [document for path in MANIFESTS if path.parent.name == folder
               for document, _ in admitted(path)]  # fmt: skip
    labels = [one["metadata"]["labels"] for one in objects if one["kind"] == "ModelServer"]
    pools = {one["metadata"]["name"]: one["spec"]["selector"]["matchLabels"]
             for one in objects if one["kind"] == "InferencePool"}  # fmt: skip
    (route,) = (one for one in objects if one["kind"] == "HTTPRoute")
    backends = [ref["name"] for ref in route["spec"]["rules"][0]["backendRefs"]]
    assert sorted(backends) == sorted(pools)
    for selector in pools.values():
        assert sum(selector.items() <= one.items() for one in labels) == 1
