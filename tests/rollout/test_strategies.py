"""Which fields are the weights, and that nothing else is written."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.errors import InvalidError
from tidegate.api.gateway import HTTPRoute
from tidegate.api.inference import (
    GROUP,
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
)
from tidegate.api.rollout import InferenceRollout
from tidegate.api.validate import admit
from tidegate.api.versions import decode, kind_of
from tidegate.rollout.observed import Binding
from tidegate.rollout.plan import Plan, plan_of
from tidegate.rollout.strategies import adapter, base_model, node
from tidegate.rollout.strategies.weights import Found, Problem, target_seen
from tidegate.store.patches import apply_json
from tidegate.testing.rollouts import admitted, rewrite, route


def plan(**spec: object) -> Plan:
    return plan_of(admitted({"stable": "llm", "canary": "llm-new", **spec}))


def typed_route(obj: dict) -> HTTPRoute:
    found = decode(obj)
    assert isinstance(found, HTTPRoute)
    return found


def read(obj: dict, **spec: object) -> Found | Problem:
    return node.read(plan(**spec), "default", [typed_route(obj)])


def pool(name: str, **more: object) -> dict:
    return {"group": GROUP, "kind": "InferencePool", "name": name, **more}


def test_the_rule_is_found_by_its_pools():
    assert read(route((90, 10))) == Found("HTTPRoute/routes/chat", 90, 10)


def test_a_missing_weight_is_one_and_the_total_grows_to_percents():
    obj = route((0, 0))
    for ref in obj["spec"]["rules"][1]["backendRefs"]:
        del ref["weight"]
    found = read(obj)
    assert isinstance(found, Found)
    assert (found.stable, found.canary, found.total, found.coarse) == (1, 1, 100, False)


def test_others_in_the_rule_keep_their_share():
    obj = route((3, 1))
    obj["spec"]["rules"][1]["backendRefs"].append(pool("third", weight=4))
    found = read(obj)
    assert isinstance(found, Found)
    assert (found.total, found.others, found.coarse) == (4, 4, True)


def two_rules() -> dict:
    obj = route((100, 0))
    obj["spec"]["rules"].append(copy.deepcopy(obj["spec"]["rules"][1]))
    del obj["spec"]["rules"][3]["name"]
    return obj


@pytest.mark.parametrize(
    ("obj", "spec", "words", "gone"),
    [
        (route((1, 0), ("a", "b")), {}, "no HTTPRoute sends to the pool llm", True),
        (route((1, 0), ("llm", "b")), {}, "add llm-new to its backendRefs with weight 0", True),
        (two_rules(), {}, "name one in spec.target", False),
        (two_rules(), {"target": {"name": "routes"}}, "name one in spec.target.rule", False),
        (two_rules(), {"target": {"name": "x"}}, "there is no HTTPRoute x", True),
        (two_rules(), {"target": {"name": "routes", "rule": "y"}}, "has no rule y", True),
        (two_rules(), {"target": {"name": "routes", "rule": "1"}}, "has no rule 1", True),
        (two_rules(), {"target": {"name": "routes", "rule": "0"}}, "must have llm once", False),
    ],
)
def test_what_cannot_be_moved_is_said_with_what_to_mend(obj, spec, words, gone):
    found = read(obj, **spec)
    assert isinstance(found, Problem)
    assert words in found.sentence
    assert found.canary_gone == gone
    assert target_seen(found).problem == found.sentence


@pytest.mark.parametrize(("rule", "index"), [("chat", 1), ("3", 3)])
def test_a_rule_can_be_named_or_counted(rule: str, index: int):
    spec = {"target": {"name": "routes", "rule": rule}}
    found = node.find(plan(**spec), "default", [typed_route(two_rules())])
    assert isinstance(found, tuple)
    assert found[1] == index


def test_a_service_or_a_pool_elsewhere_of_the_same_name_is_not_meant():
    obj = route((100, 0))
    refs = obj["spec"]["rules"][1]["backendRefs"]
    refs.insert(0, {"name": "llm", "port": 80, "weight": 7})
    refs.append(pool("llm-new", namespace="elsewhere", weight=5))
    found = read(obj)
    assert isinstance(found, Found)
    assert (found.stable, found.canary, found.others) == (100, 0, 12)


def test_routes_of_other_namespaces_are_left_alone():
    assert isinstance(node.read(plan(), "other", [typed_route(route((9, 1)))]), Problem)


@given(
    weights=st.tuples(st.integers(0, 1000), st.integers(0, 1000)),
    percent=st.integers(0, 100),
)
def test_a_write_changes_both_weights_and_nothing_else(weights, percent):
    obj = route(weights)
    edits = node.patch(plan(), typed_route(obj), 1, stable=100 - percent, canary=percent)
    patched = apply_json(json.loads(json.dumps(obj)), edits)
    found = read(patched)
    assert isinstance(found, Found)
    assert (found.stable, found.canary) == (100 - percent, percent)
    for each in (obj, patched):
        for ref in each["spec"]["rules"][1]["backendRefs"]:
            del ref["weight"]
    assert patched == obj


def test_an_edit_in_between_makes_the_write_fail():
    obj = route((100, 0))
    edits = node.patch(plan(), typed_route(obj), 1, stable=90, canary=10)
    obj["spec"]["rules"][1]["backendRefs"].reverse()
    with pytest.raises(InvalidError):
        apply_json(obj, edits)


def model_rewrite(*targets: tuple[str, int | None], obj: dict | None = None) -> dict:
    obj = obj or rewrite("v1")
    obj["spec"]["rules"][0]["targets"] = [
        {"modelRewrite": name} if weight is None else {"modelRewrite": name, "weight": weight}
        for name, weight in targets
    ]
    return obj


ADAPTER = plan(type="Adapter", stable="v1", canary="v2")


def place(obj: dict) -> adapter.Place:
    holder = decode(obj)
    assert isinstance(holder, InferenceModelRewrite | InferenceModel)
    found = adapter.find(ADAPTER, "default", [holder])
    assert isinstance(found, adapter.Place)
    return found


def read_adapter(obj: dict) -> Found:
    holder = decode(obj)
    assert isinstance(holder, InferenceModelRewrite | InferenceModel)
    found = adapter.read(ADAPTER, "default", [holder])
    assert isinstance(found, Found)
    return found


@given(percent=st.integers(0, 100), third=st.booleans())
def test_zero_percent_is_no_target_and_others_stay(percent: int, third: bool):
    more = [("other", 50)] if third else []
    obj = model_rewrite(("v1", 100), *more)
    edits = adapter.patch(ADAPTER, place(obj), stable=100 - percent, canary=percent)
    patched = apply_json(obj, edits)
    admit(kind_of(patched), "v1alpha2", patched)
    found = read_adapter(patched)
    assert (found.stable, found.canary, found.others) == (100 - percent, percent, 50 * third)
    names = [each["modelRewrite"] for each in patched["spec"]["rules"][0]["targets"]]
    assert len(names) == (percent < 100) + (percent > 0) + third


def test_a_lone_target_without_a_weight_is_all():
    assert read_adapter(rewrite("v1")).total == 100


def test_a_legacy_model_has_the_same_list():
    obj = {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "kind": "InferenceModel",
        "metadata": {"name": "food", "namespace": "default"},
        "spec": {
            "modelName": "food-review",
            "poolRef": {"name": "llm"},
            "targetModels": [{"name": "v1"}],
        },
    }
    assert read_adapter(obj).name == "InferenceModel/food"
    patched = apply_json(obj, adapter.patch(ADAPTER, place(obj), stable=90, canary=10))
    assert patched["spec"]["targetModels"] == [
        {"name": "v1", "weight": 90},
        {"name": "v2", "weight": 10},
    ]


def test_an_adapter_that_nobody_asks_for_is_a_problem():
    holder = decode(rewrite("else"))
    assert isinstance(holder, InferenceModelRewrite)
    found = adapter.read(ADAPTER, "default", [holder])
    assert isinstance(found, Problem)
    assert "add a rule" in found.sentence


def test_a_target_that_stands_there_twice_is_a_problem():
    holder = decode(model_rewrite(("v1", 1), ("v1", 2)))
    assert isinstance(holder, InferenceModelRewrite)
    found = adapter.read(ADAPTER, "default", [holder])
    assert isinstance(found, Problem)
    assert "twice" in found.sentence


def rollout(name: str, *joined: str) -> InferenceRollout:
    found = decode(
        {
            "apiVersion": "tidegate.dev/v1alpha1",
            "kind": "InferenceRollout",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"stable": "llm", "canary": "llm-new"},
            "status": {"joined": list(joined)},
        }
    )
    assert isinstance(found, InferenceRollout)
    return found


def test_pools_that_rollouts_join_stand_for_each_other():
    joined = base_model.joined([rollout("a", "llm", "llm-new"), rollout("b")])
    both = frozenset({"llm", "llm-new"})
    assert joined == {("default", "llm"): both, ("default", "llm-new"): both}


def test_what_is_bound_to_the_pools_is_found():
    objective = decode(
        {
            "apiVersion": "llm-d.ai/v1alpha2",
            "kind": "InferenceObjective",
            "metadata": {"name": "chat", "namespace": "default"},
            "spec": {"priority": 3, "poolRef": {"name": "llm"}},
        }
    )
    alias = decode(rewrite("v1"))
    assert isinstance(objective, InferenceObjective)
    assert isinstance(alias, InferenceModelRewrite)
    assert base_model.bindings(["llm", "llm-new"], "default", [objective], [alias]) == (
        Binding("InferenceModelRewrite", "food-review", "llm"),
        Binding("InferenceObjective", "chat", "llm"),
    )
    assert base_model.bindings(["other"], "default", [objective], [alias]) == ()
    patched = apply_json(rewrite("v1"), base_model.rebind("llm", "llm-new"))
    assert patched["spec"]["poolRef"]["name"] == "llm-new"
