"""An operator sees in a pool's status that servers' metrics fail, while requests are served."""

import json
from pathlib import Path
from urllib.request import Request, urlopen

from tidegate.testing.deployment import Deployment, deployed
from tidegate.testing.traffic import traffic
from tidegate.testing.waiting import wait_until

MODEL = "example/chat-8b"
MANIFESTS = """
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {name: late, labels: {app: llm}}
spec: {replicas: 2, simulator: {models: [example/chat-8b]}}
---
# Its metrics are vLLM's: the gateway finds none that it looks for.
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {name: misnamed, labels: {app: llm}}
spec: {engine: sglang, simulator: {models: [example/chat-8b]}}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm}
spec: {selector: {matchLabels: {app: llm}}, targetPorts: [{number: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: llm}
spec:
  parentRefs: [{name: tidegate}]
  rules:
  - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: llm}]
"""
TIMEOUT_S = 60.0


def metrics_fresh(up: Deployment) -> dict[str, str]:
    status = up.kubectl.json("infpool", "llm").get("status", {})
    (parent,) = status.get("parents") or [{"conditions": []}]
    return next((one for one in parent["conditions"] if one["type"] == "MetricsFresh"), {})


def until(up: Deployment, status: str, reason: str) -> dict[str, str]:
    """Return the condition once it says this."""
    seen: list[dict[str, str]] = []

    def said() -> bool:
        seen[:] = [metrics_fresh(up)]
        return (seen[0].get("status"), seen[0].get("reason")) == (status, reason)

    wait_until(said, TIMEOUT_S, f"MetricsFresh to be {status}, {reason}")
    return seen[0]


def addresses(up: Deployment, server: str) -> list[str]:
    found = up.kubectl.json("modelserver", server)["status"]["endpoints"]
    return [each["address"] for each in found]


def fault(address: str, method: str, **faults: object) -> None:
    headers = {"content-type": "application/json"}
    body = json.dumps(faults).encode() if faults else None
    request = Request(f"http://{address}/admin/faults", body, headers, method=method)
    with urlopen(request, timeout=10):
        pass


def servers(up: Deployment) -> list[object]:
    """Return what ModelServers say of themselves."""
    return [each["status"] for each in up.kubectl.json("modelserver")["items"]]


def test_a_pools_status_says_whose_metrics_are_stale_until_they_are_back(tmp_path: Path):
    (tmp_path / "all.yaml").write_text(MANIFESTS)
    with deployed(tmp_path, [tmp_path / "all.yaml"], "--workers", "2") as up:
        told = until(up, "True", "SomeWithoutMetrics")
        assert "1 of 3 endpoints" in told["message"]
        assert addresses(up, "misnamed")[0] in told["message"]
        before, (hanging, good) = servers(up), addresses(up, "late")

        fault(hanging, "POST", metrics_delay_s=600)
        told = until(up, "False", "MetricsStale")
        assert (
            f"1 of 3 endpoints, whose metrics are older than 5 s: {hanging} (since 20"
            in (told["message"])
        )
        assert good not in told["message"]
        described = up.kubectl("describe", "infpool", "llm")
        assert "MetricsStale" in described
        assert "picked by the gateway's own counts alone" in described
        version = up.kubectl.json("infpool", "llm")["metadata"]["resourceVersion"]
        with traffic(up.url, 40, MODEL) as load:
            load.more(20)
        assert load.failures == []

        # The servers are well: that is another question, and nothing of it changed.
        assert servers(up) == before
        assert up.kubectl.json("infpool", "llm")["metadata"]["resourceVersion"] == version
        assert metrics_fresh(up) == told
        fault(hanging, "DELETE")
        until(up, "True", "SomeWithoutMetrics")
