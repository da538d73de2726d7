"""Rollouts on a whole gateway: brisk manifests, waiting for their ends, what sessions met."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from tidegate.load.result import Result
from tidegate.testing.deployment import Deployment
from tidegate.testing.waiting import wait_until

BRISK: dict[str, Any] = {
    "stable": "llm",
    "canary": "llm-new",
    "steps": [{"setWeight": 10}, {"setWeight": 50}],
    "analysis": {"duration": "2s", "minRequests": 10, "advanceWhen": "NotWorse"},
    "bake": "2s",
    "drain": "10s",
}
"""A node rollout of the node example in some ten seconds: too short to show anything."""


def rollout(name: str = "move", **spec: Any) -> str:
    """Return a manifest of a brisk rollout; `spec` replaces its fields, None drops one."""
    fields = {key: value for key, value in {**BRISK, **spec}.items() if value is not None}
    manifest = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "InferenceRollout",
        "metadata": {"name": name},
        "spec": fields,
    }
    return msgspec.json.encode(manifest).decode()


def start(up: Deployment, name: str = "move", **spec: Any) -> None:
    """Apply a brisk rollout with kubectl."""
    up.kubectl("apply", "-f", "-", stdin=rollout(name, **spec))


def intend(up: Deployment, name: str = "move", **spec: Any) -> float:
    """Change a rollout's spec with kubectl; return when it had returned (perf_counter)."""
    body = msgspec.json.encode({"spec": spec}).decode()
    up.kubectl("patch", "inferencerollout", name, "--type=merge", "-p", body)
    return time.perf_counter()


def status(up: Deployment, name: str = "move") -> dict[str, Any]:
    """Return a rollout's status; an empty one while the API is away."""
    ran = up.kubectl.run("get", "inferencerollout", name, "-o", "json")
    found: dict[str, Any] = msgspec.json.decode(ran.out).get("status", {}) if not ran.code else {}
    return found


def until(
    up: Deployment,
    condition: str | Callable[[dict[str, Any]], object],
    name: str = "move",
    timeout_s: float = 90.0,
) -> dict[str, Any]:
    """Wait for a phase, or for a status that fulfils `condition`; return the status."""
    seen: dict[str, Any] = {}

    def reached() -> bool:
        seen.clear()
        seen.update(status(up, name))
        if isinstance(condition, str):
            return seen.get("phase") == condition
        return bool(seen and condition(seen))

    try:
        wait_until(reached, timeout_s, f"{name} to be {condition}")
    except AssertionError as error:
        raise AssertionError(f"{error}; it is: {told(seen)}\n{up.log()[-4000:]}") from None
    return dict(seen)


def told(seen: dict[str, Any]) -> str:
    """Return a status in some lines."""
    lines = [f"{seen.get('phase')} {seen.get('step')}: {seen.get('message')}"]
    lines += [f"  {e['number']} {e['phase']}: {e['message']}" for e in seen.get("history", [])]
    lines += [f"  finding {each['name']}: {each['message']}" for each in seen.get("findings", [])]
    return "\n".join(lines)


def condition(seen: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return a status's condition."""
    found: dict[str, Any] = next(each for each in seen["conditions"] if each["type"] == kind)
    return found


def moves(results: Sequence[Result]) -> dict[int, int]:
    """Return how often each session changed its pool."""
    pools: defaultdict[int, list[str]] = defaultdict(list)
    for result in sorted(results, key=lambda each: each.started_at):
        if not result.failed:
            pools[result.session].append(result.pool)
    return {
        session: sum(before != after for before, after in pairwise(seen))
        for session, seen in pools.items()
    }


def weights(up: Deployment, route: str = "routes-to-llm") -> tuple[int, int]:
    """Return the first rule's weights: stable, canary."""
    refs = up.kubectl.json("httproute", route)["spec"]["rules"][0]["backendRefs"]
    return refs[0]["weight"], refs[1]["weight"]
