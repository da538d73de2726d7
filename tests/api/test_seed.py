"""The two manifests that people copy from rollout guides are admitted as they are."""

from pathlib import Path

import pytest
import yaml

from tidegate.api.validate import admit
from tidegate.api.versions import decode, kind_of

SEED = Path(__file__).parent / "seed"


def manifest(name: str) -> dict:
    return yaml.safe_load((SEED / f"{name}.yaml").read_text())


@pytest.mark.parametrize(
    ("name", "backends"),
    [
        ("node", [("llm", 90), ("llm-new", 10)]),
        ("base-model", [("llm-pool", 90), ("llm-pool-version-2", 10)]),
    ],
)
def test_the_manifest_splits_between_its_pools(name: str, backends: list[tuple[str, int]]):
    given = manifest(name)
    admitted = admit(kind_of(given), "v1", given)
    (rule,) = decode(admitted.obj).spec.rules
    assert [(ref.name, ref.weight) for ref in rule.backend_refs] == backends
    assert {(ref.group, ref.kind) for ref in rule.backend_refs} == {
        ("inference.networking.k8s.io", "InferencePool")
    }


def test_a_warning_names_each_leniency_and_its_fix():
    given = manifest("node")
    rules, parent = admit(kind_of(given), "v1", given).warnings
    assert rules.startswith("spec.rules: ")
    assert 'write "- "' in rules
    assert parent.startswith("spec.parentRefs[0]: kind InferenceGateway")
    assert '"my-inference-gateway"' in parent
    assert "write group: gateway.networking.k8s.io, kind: Gateway" in parent


def test_the_parent_stays_as_it_was_written():
    given = manifest("node")
    admitted = admit(kind_of(given), "v1", given)
    assert admitted.obj["spec"]["parentRefs"] == given["spec"]["parentRefs"]


def test_writes_that_leave_the_spec_alone_do_not_warn_again():
    given = manifest("node")
    kind = kind_of(given)
    stored = admit(kind, "v1", given).obj
    labelled = {**stored, "metadata": {**stored["metadata"], "labels": {"team": "ml"}}}
    assert admit(kind, "v1", labelled, old=stored).warnings == ()
    assert admit(kind, "v1", given, old={**stored, "spec": {}}).warnings != ()


def test_the_manifest_that_was_given_is_not_changed():
    given = manifest("node")
    admit(kind_of(given), "v1", given)
    assert given == manifest("node")
