import pytest

from tidegate.api.errors import InvalidError
from tidegate.api.gateway import HTTPRoute, ReferenceGrant
from tidegate.api.inference import (
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    TargetModel,
)
from tidegate.api.versions import decode, kind_of, upgrade

LEGACY = "inference.networking.x-k8s.io"
GROUP = "inference.networking.k8s.io"
METADATA = {
    "name": "food",
    "namespace": "web",
    "labels": {"team": "ml"},
    "uid": "1-2-3",
    "creationTimestamp": "2026-11-24T05:00:00Z",
}


def legacy(kind: str, spec: dict) -> dict:
    return {"apiVersion": f"{LEGACY}/v1alpha2", "kind": kind, "metadata": METADATA, "spec": spec}


def model(**spec: object) -> dict:
    pool = {"name": "llm", "group": LEGACY}
    return legacy("InferenceModel", {"modelName": "food", "poolRef": pool, **spec})


# decode


def test_unknown_fields_are_passed_over():
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "later": 1}
    decoded = decode({**route, "spec": {"hostnames": ["a.com"], "later": [1]}})
    assert isinstance(decoded, HTTPRoute)
    assert decoded.spec.hostnames == ("a.com",)


def test_nulls_are_missing_fields():
    metadata = {"name": "r", "creationTimestamp": None, "labels": None}
    route = {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "HTTPRoute"}
    decoded = decode({**route, "metadata": metadata, "spec": {"rules": [{"filters": None}]}})
    assert decoded.metadata.creation_timestamp == ""


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        ({}, "apiVersion"),
        ({"apiVersion": 1, "kind": "HTTPRoute"}, "apiVersion"),
        ({"apiVersion": "v1"}, "kind"),
        ({"apiVersion": "v1", "kind": "Pod"}, "kind"),
        ({"apiVersion": "gateway.networking.k8s.io/v2", "kind": "HTTPRoute"}, "apiVersion"),
    ],
)
def test_what_is_not_served_is_refused_by_field(obj: dict, path: str):
    with pytest.raises(InvalidError) as refused:
        kind_of(obj)
    assert [error.path for error in refused.value.errors] == [path]


def test_every_misfit_has_its_path():
    spec = {"modelName": 3, "targetModels": [{"name": "a", "weight": 0}, {}], "poolRef": {}}
    with pytest.raises(InvalidError) as refused:
        decode(legacy("InferenceModel", spec))
    assert [error.path for error in refused.value.errors] == [
        "spec.modelName",
        "spec.targetModels[0].weight",
        "spec.targetModels[1].name",
        "spec.poolRef.name",
    ]


def test_misfits_in_metadata_have_their_path_too():
    with pytest.raises(InvalidError) as refused:
        decode({**model(), "metadata": {"name": "a", "labels": {"b": 1}}})
    (error,) = refused.value.errors
    assert error.path.startswith("metadata.labels")
    assert "$" not in str(error)


# upgrade


def test_a_pool_of_the_older_group_becomes_a_pool():
    spec = {
        "selector": {"app": "llm"},
        "targetPortNumber": 8000,
        "extensionRef": {"name": "epp", "failureMode": "FailOpen"},
    }
    (pool,) = upgrade(decode(legacy("InferencePool", spec)))
    assert isinstance(pool, InferencePool)
    assert (pool.api_version, pool.kind) == (f"{GROUP}/v1", "InferencePool")
    assert pool.spec.selector.match_labels == {"app": "llm"}
    assert [port.number for port in pool.spec.target_ports] == [8000]
    picker = pool.spec.endpoint_picker_ref
    assert picker is not None
    assert (picker.name, picker.failure_mode) == ("epp", "FailOpen")
    assert picker.port is not None
    assert picker.port.number == 9002  # what a missing portNumber meant


def test_a_pool_without_a_picker_stays_without():
    spec = {"selector": {"app": "llm"}, "targetPortNumber": 8000}
    (pool,) = upgrade(decode(legacy("InferencePool", spec)))
    assert isinstance(pool, InferencePool)
    assert pool.spec.endpoint_picker_ref is None


@pytest.mark.parametrize(
    ("criticality", "priority"), [("Critical", 1), ("Standard", 0), ("Sheddable", -1)]
)
def test_a_criticality_becomes_a_priority(criticality: str, priority: int):
    (objective,) = upgrade(decode(model(criticality=criticality)))
    assert isinstance(objective, InferenceObjective)
    assert objective.spec.priority == priority
    assert objective.spec.pool_ref.group == GROUP


def test_no_criticality_is_no_priority():
    (objective,) = upgrade(decode(model()))
    assert isinstance(objective, InferenceObjective)
    assert objective.spec.priority is None


def test_target_models_become_a_rewrite_of_exactly_that_name():
    targets = [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]
    _, rewrite = upgrade(decode(model(targetModels=targets)))
    assert isinstance(rewrite, InferenceModelRewrite)
    assert rewrite.api_version == "llm-d.ai/v1alpha2"
    (rule,) = rewrite.spec.rules
    assert [match.model.value for match in rule.matches] == ["food"]
    assert rule.targets == (
        TargetModel(model_rewrite="v1", weight=90),
        TargetModel(model_rewrite="v2", weight=10),
    )


@pytest.mark.parametrize(
    ("kind", "spec", "newest"),
    [
        ("InferenceObjective", {"priority": 3}, InferenceObjective),
        ("InferenceModelRewrite", {"rules": []}, InferenceModelRewrite),
    ],
)
def test_the_older_groups_other_kinds_keep_their_shape(kind: str, spec: dict, newest: type):
    pool = {"name": "llm", "group": LEGACY}
    (made,) = upgrade(decode(legacy(kind, {**spec, "poolRef": pool})))
    assert type(made) is newest
    assert made.api_version == "llm-d.ai/v1alpha2"
    assert made.spec.pool_ref.group == GROUP


def test_what_is_made_keeps_the_metadata():
    origin = decode(model(targetModels=[{"name": "v1"}]))
    assert [made.metadata for made in upgrade(origin)] == [origin.metadata, origin.metadata]


def test_references_to_the_older_group_point_to_the_newest():
    old, other = {"name": "llm", "group": LEGACY}, {"name": "web", "port": 80}
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": old}}
    rule = {"backendRefs": [old, other], "filters": [mirror]}
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"}
    (made,) = upgrade(decode({**route, "spec": {"rules": [rule]}}))
    assert isinstance(made, HTTPRoute)
    (rule_made,) = made.spec.rules
    assert [ref.group for ref in rule_made.backend_refs] == [GROUP, ""]
    assert rule_made.filters[0].request_mirror is not None
    assert rule_made.filters[0].request_mirror.backend_ref.group == GROUP


def test_a_grant_for_the_older_group_is_one_for_the_newest():
    spec = {
        "from": [{"group": "a", "kind": "HTTPRoute", "namespace": "b"}],
        "to": [{"group": LEGACY, "kind": "InferencePool"}, {"group": "", "kind": "Service"}],
    }
    grant = {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant"}
    (made,) = upgrade(decode({**grant, "spec": spec}))
    assert isinstance(made, ReferenceGrant)
    assert [to.group for to in made.spec.to] == [GROUP, ""]


def test_the_newest_stays_the_very_same():
    route = decode({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {}})
    (made,) = upgrade(route)
    assert made is route
