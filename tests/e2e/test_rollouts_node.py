"""A node rollout runs itself, under live traffic, from kubectl apply to Completed."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from tidegate.load.result import Result
from tidegate.testing.deployment import EXAMPLES, Deployment, deployed
from tidegate.testing.traffic import traffic

MODEL = "example/chat-8b"


def rollout(name: str, **spec: object) -> str:
    """Return the manifest of a brisk rollout; a real one would take longer at each step."""
    defaults = {
        "stable": "llm",
        "canary": "llm-new",
        "steps": [{"setWeight": 10}, {"setWeight": 50}],
        "analysis": {"duration": "3s", "minRequests": 10},
        "bake": "3s",
        "drain": "10s",
    }
    manifest = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "InferenceRollout",
        "metadata": {"name": name},
        "spec": {**defaults, **spec},
    }
    return msgspec.json.encode(manifest).decode()


def moves(results: Sequence[Result]) -> dict[int, int]:
    """Return how often each session changed its pool."""
    pools = defaultdict(list)
    for result in sorted(results, key=lambda each: each.started_at):
        if not result.failed:
            pools[result.session].append(result.pool)
    return {
        session: sum(a != b for a, b in pairwise(seen))
        for session, seen in pools.items()
    }


def wait_for(up: Deployment, condition: str, name: str, timeout_s: int = 120) -> None:
    ran = up.kubectl.run(
        "wait", f"--for=condition={condition}", f"inferencerollout/{name}", f"--timeout={timeout_s}s"
    )
    assert ran.code == 0, ran.err + up.kubectl("get", "inferencerollouts", "-o", "yaml") + up.log()


def test_a_node_rollout_completes_by_itself_and_loses_no_request(tmp_path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        with traffic(up.url, 40, MODEL) as load:
            up.kubectl("apply", "-f", "-", stdin=rollout("move"))
            wait_for(up, "Completed", "move")
            late = load.more(50)
        assert {each.pool for each in late} == {"llm-new"}
        assert load.failures == []
        assert max(moves(load.results).values()) <= 1
