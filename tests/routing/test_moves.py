"""Rollouts in the table: salt, order, copies, what is bound to either pool."""

from random import Random

from tidegate.api.meta import Key
from tidegate.routing.compile import compile as compile_snapshot
from tidegate.routing.match import Request, match
from tidegate.routing.references import World
from tidegate.routing.split import choose_arm
from tidegate.testing.tables import GATEWAY, snapshot, split


def route(old: int, new: int, other: int = 0) -> str:
    return split({"a-old": old, "m-other": other, "z-new": new})


def rollout(phase: str = "Progressing", target: str = "HTTPRoute/r/chat", **status: object) -> str:
    shown = {"phase": phase, "target": target, "weights": {"desired": 0, "effective": 0}, **status}
    return f"""
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout
metadata: {{name: move, uid: "uid-1"}}
spec: {{stable: a-old, canary: z-new}}
status: {shown}
"""


def rule_of(*texts: str):
    table = compile_snapshot(snapshot(GATEWAY, *texts)).table
    found = match(table, 80, Request("x", "POST", "/"))
    assert found is not None
    return found.rule


def test_a_rollout_has_its_own_salt_while_it_moves():
    resting, moving = rule_of(route(100, 0)), rule_of(route(100, 0), rollout())
    assert resting.salt != moving.salt
    assert rule_of(route(0, 100), rollout("Completed")).salt == resting.salt
    assert rule_of(route(100, 0), rollout("Pending")).salt == resting.salt
    assert rule_of(route(100, 0), rollout(target="HTTPRoute/r/0")).salt == resting.salt


def test_where_another_backend_has_traffic_nobody_is_drawn_anew():
    assert rule_of(route(90, 0, 10), rollout()).salt == rule_of(route(90, 0, 10)).salt


def test_a_raised_canary_takes_from_the_stable_alone():
    rng = Random(1)
    points = [rng.getrandbits(64) for _ in range(2000)]

    def drawn(rule):
        return [choose_arm(rule, point).name for point in points]

    low, high = (
        drawn(
            rule_of(route(80 - new, new, 20), rollout(weights={"desired": new, "effective": new}))
        )
        for new in (10, 40)
    )
    changed = {(a, b) for a, b in zip(low, high, strict=True) if a != b}
    assert changed == {("a-old", "z-new")}


def test_copies_go_from_the_stable_to_the_canary():
    rule = rule_of(route(90, 10), rollout(mirror={"percent": 20, "purpose": "Warm"}))
    by_name = {arm.name: arm for arm in rule.arms}
    (copy,) = by_name["a-old"].filters.mirrors
    assert (copy.backend.name, copy.share, copy.purpose) == ("z-new", 0.2, "Warm")
    assert by_name["z-new"].filters.mirrors == ()
    assert rule.filters.mirrors == ()


REWRITE = """
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: w}
spec:
  poolRef: {name: a-old}
  rules:
  - matches: [{model: {value: chat}}]
    targets: [{modelRewrite: chat-1, weight: 9}, {modelRewrite: chat-2, weight: 1}]
"""


def rewrites(*texts: str):
    table = compile_snapshot(snapshot(GATEWAY, *texts)).table
    return {each.name: each.rewrites for each in table.backends}


def test_a_rewrite_holds_for_both_pools_while_they_are_joined():
    alone = rewrites(route(100, 0), REWRITE)
    assert alone["z-new"] is None
    both = rewrites(route(100, 0), REWRITE, rollout(joined=["a-old", "z-new"]))
    assert both["z-new"] == both["a-old"]
    assert both["z-new"].find("chat") is not None
    assert both["z-new"].find("other") is None


def test_an_adapter_rollout_salts_its_rewrite():
    plain = rewrites(route(100, 0), REWRITE)["a-old"].find("chat")
    target = "InferenceModelRewrite/w/0"
    salted = rewrites(route(100, 0), REWRITE, rollout(target=target))["a-old"].find("chat")
    assert salted.scope == plain.scope == "default/InferenceModelRewrite/w/0"
    assert salted.salt != plain.salt
    assert salted.targets == plain.targets


def test_the_legacy_model_is_a_rewrite_too():
    model = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: m}
spec:
  modelName: chat
  poolRef: {group: inference.networking.x-k8s.io, name: a-old}
  targetModels: [{name: chat-1, weight: 1}]
"""
    split = rewrites(route(100, 0), model)["a-old"].find("chat")
    assert (split.scope, split.choose(0)) == ("default/InferenceModel/m", "chat-1")


def test_pools_are_joined_in_their_namespace():
    snapshot_ = snapshot(GATEWAY, route(100, 0), rollout(joined=["a-old", "z-new"]))

    assert World(snapshot_).moves.joined(Key("default", "a-old")) == (Key("default", "z-new"),)
    assert World(snapshot_).moves.joined(Key("other", "a-old")) == ()
