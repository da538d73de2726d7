"""What a pool's status says of its picker config."""

import pytest

from tidegate.api.core import ConfigMap
from tidegate.api.inference import InferencePool
from tidegate.api.meta import Key
from tidegate.api.versions import decode
from tidegate.controllers.pickers import config_problem, with_picker
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.statuses import StatusUpdate

GOOD = "plugins: [{type: queue-scorer}]"
KEY = Key("default", "llm")


def pool(annotation=None):
    annotations = {} if annotation is None else {"tidegate.dev/picker-config": annotation}
    return decode(
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "llm", "namespace": "default", "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {"app": "llm"}},
                "targetPorts": [{"number": 8000}],
            },
        }
    )


def snapshot(**data):
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "picker", "namespace": "default"},
        "data": data,
    }
    return Snapshot.of([decode(config)])


@pytest.mark.parametrize(
    ("annotation", "data"),
    [
        ("picker", {"any.yaml": GOOD}),
        ("picker/mine", {"mine": GOOD, "other": "{"}),
        ("picker", {"default-plugins.yaml": GOOD, "other": "{"}),
    ],
)
def test_a_good_config_has_no_problem(annotation, data):
    assert config_problem(pool(annotation), snapshot(**data)) == ""


@pytest.mark.parametrize(
    ("annotation", "data", "words"),
    [
        ("missing", {"any.yaml": GOOD}, "there is no ConfigMap missing"),
        ("picker/other", {"any.yaml": GOOD}, "has no key other; it has any.yaml"),
        ("picker", {"a": GOOD, "b": GOOD}, "has no key default-plugins.yaml; it has a, b"),
        ("picker", {}, "it has none"),
        ("picker", {"any.yaml": "plugins: [{type: quue}]"}, "plugins[0].type: found"),
    ],
)
def test_what_is_wrong_is_said(annotation, data, words):
    assert words in config_problem(pool(annotation), snapshot(**data))


def conditions(of, resources):
    parents = [{"conditions": [{"type": "Accepted", "status": "True"}]}]
    update = StatusUpdate(InferencePool, KEY, {"parents": parents})
    (parent,) = with_picker(update, of, resources).status["parents"]
    return {one["type"]: (one["status"], one.get("reason")) for one in parent["conditions"]}


def test_the_status_says_whether_the_config_is_in_use():
    assert conditions(pool("picker"), snapshot(any=GOOD)) == {
        "Accepted": ("True", None),
        "PickerConfigured": ("True", "PickerConfigured"),
    }
    bad = conditions(pool("picker"), snapshot(any="{"))
    assert bad["PickerConfigured"] == ("False", "InvalidPickerConfig")
    assert bad["Accepted"] == ("True", None)


def test_a_pool_without_the_annotation_says_nothing():
    assert list(conditions(pool(), Snapshot())) == ["Accepted"]


def test_configs_are_read_from_the_pools_own_namespace():
    config = decode(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "picker", "namespace": "other"},
            "data": {"any": GOOD},
        }
    )
    assert isinstance(config, ConfigMap)
    assert "no ConfigMap" in config_problem(pool("picker"), Snapshot.of([config]))
