"""Which priority a request has, by what it says and by what it asks for."""

from tidegate.routing.compile import compile as compile_snapshot
from tidegate.routing.table import Objectives
from tidegate.testing.tables import GATEWAY, snapshot, split

SPLIT = split({"blue": 9, "green": 1})


def objective(name: str, priority: int | None, pool: str = "blue", models: str = "") -> str:
    spec = f"{{priority: {priority}, poolRef: {{name: {pool}}}}}" if priority is not None else (
        f"{{poolRef: {{name: {pool}}}}}"
    )  # fmt: skip
    noted = f'annotations: {{tidegate.dev/models: "{models}"}}' if models else "labels: {}"
    return f"""
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {{name: {name}, {noted}}}
spec: {spec}
"""


def objectives(*texts: str) -> dict[str, Objectives | None]:
    table = compile_snapshot(snapshot(GATEWAY, SPLIT, *texts)).table
    return {one.name: one.objectives for one in table.backends}


def test_a_pool_without_objectives_has_none():
    assert objectives() == {"blue": None, "green": None}


def test_an_objective_is_known_by_name_to_its_own_pool():
    found = objectives(objective("fast", 5), objective("plain", None))
    assert found["blue"] is not None
    assert found["blue"].by_name == {"fast": 5, "plain": 0}
    assert found["green"] is None


def test_models_may_be_named_by_the_objective_whole_or_by_their_beginning():
    found = objectives(
        objective("fast", 5, models="chat, sql-*"), objective("slow", -1, models="*")
    )
    blue = found["blue"]
    assert blue is not None
    assert [blue.of_model(name) for name in ("chat", "sql-7", "chat-2", None)] == [5, 5, -1, 0]


def test_a_rewrite_may_name_the_objective_of_its_models():
    rewrite = """
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {name: w, annotations: {tidegate.dev/objective: fast}}
spec:
  poolRef: {name: blue}
  rules:
  - matches: [{model: {value: chat}}]
    targets: [{modelRewrite: chat-1}]
"""
    blue = objectives(objective("fast", 5), rewrite)["blue"]
    assert blue is not None
    assert (blue.of_model("chat"), blue.of_model("other")) == (5, 0)
    assert objectives(rewrite)["blue"] is None, "no such objective"


def test_the_legacy_models_criticality_is_its_priority():
    model = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: m}
spec:
  modelName: batch
  criticality: Sheddable
  poolRef: {group: inference.networking.x-k8s.io, name: blue}
"""
    blue = objectives(model)["blue"]
    assert blue is not None
    assert blue.of_model("batch") < 0


def test_an_objective_holds_for_both_pools_of_a_rollout_and_the_own_one_first():
    rollout = """
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout
metadata: {name: move, uid: "uid-1"}
spec: {stable: blue, canary: green}
status: {phase: Progressing, target: HTTPRoute/r/chat, weights: {desired: 0, effective: 0},
         joined: [blue, green]}
"""
    alone = objectives(objective("fast", 5))
    both = objectives(objective("fast", 5), rollout)
    assert alone["green"] is None
    assert both["green"] == both["blue"]
    own = objectives(
        objective("fast", 5, models="chat"), objective("mine", 7, "green", models="chat"), rollout
    )
    assert own["green"] is not None
    assert own["green"].of_model("chat") == 7
    assert own["green"].by_name == {"mine": 7, "fast": 5}
