import asyncio
import http.client
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from tidegate.api.inference import InferencePool
from tidegate.process.clock import now
from tidegate.store.sqlite import Engine
from tidegate.testing.kubectl import Kubectl
from tidegate.testing.tiny_server import tiny
from tidegate.testing.up import Up
from tidegate.testing.waiting import wait_until


def server(name: str = "llm", spec: dict | None = None) -> dict:
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "ModelServer",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": spec or tiny(),
    }


def pool(name: str = "llm") -> dict:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": 1}]},
    }


def route(*weights: int, names: tuple[str, ...] = ("llm", "other")) -> dict:
    refs = [
        {
            "group": "inference.networking.k8s.io",
            "kind": "InferencePool",
            "name": name,
            "weight": weight,
        }
        for name, weight in zip(names, weights, strict=False)
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "route"},
        "spec": {"parentRefs": [{"name": "tidegate"}], "rules": [{"backendRefs": refs}]},
    }


def manifests(folder: Path, *objects: dict) -> str:
    path = folder / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    return str(path)


def kubectl(up: Up) -> Kubectl:
    return Kubectl(Path(sys.executable).with_name("kubectl"), up.data.root, up.data.kubeconfig)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def server_pids(up: Up) -> set[int]:
    items = up.model_servers().values()
    return {e.get("pid") for item in items for e in item.get("status", {}).get("endpoints", [])}


def serves(up: Up) -> bool:
    try:
        return up.get("/v1/models")[0] == 200
    except OSError:
        return False


def test_it_serves_what_it_was_given_and_resumes_where_it_ended(up: Up, tmp_path: Path):
    path = manifests(tmp_path, server(), pool(), route(1))
    up.start("-f", path)
    first, kube = up.settings, kubectl(up)
    assert f"http://localhost:{first.port}" in up.output
    assert f"https://127.0.0.1:{first.api_port}" in up.output
    assert f"export KUBECONFIG={up.data.kubeconfig}" in up.output
    assert up.get("/health") == (200, b"vllm:num_requests_running 0\n")
    assert up.get("/metrics", first.metrics_port)[0] == 200
    gateway = kube.json("gateway", "tidegate")
    assert {c["type"]: c["status"] for c in gateway["status"]["conditions"]} == {
        "Accepted": "True",
        "Programmed": "True",
    }
    kube("wait", "--for=condition=Ready", "modelserver/llm", "--timeout=5s")
    kube("apply", "-f", "-", stdin=yaml.safe_dump(pool("later")))
    patch = '[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 9}]'
    kube("patch", "httproute", "route", "--type=json", "-p", patch)
    pids = server_pids(up)
    children = up.children()
    assert up.stop() == 0
    assert all(gone(pid) for pid in (*children.values(), *pids))

    up.start("-f", path, resume=True)  # which moves no traffic: kubectl has the last word
    assert up.settings == first
    assert kube("get", "inferencepool", "-o", "name").split() == [
        "inferencepool.inference.networking.k8s.io/later",
        "inferencepool.inference.networking.k8s.io/llm",
    ]
    assert up.get("/health")[0] == 200
    assert kube.json("httproute", "route")["spec"]["rules"][0]["backendRefs"][0]["weight"] == 9
    assert "document 3 (HTTPRoute route): left as it is" in up.errors

    another = Up(tmp_path / "x")
    another.data = up.data
    (tmp_path / "x").mkdir()
    another.launch()
    assert another.wait() == 1
    assert another.errors.count("\n") == 1
    assert f"in use by another `tidegate up` (pid {up.pid})" in another.errors


def test_killing_control_or_a_worker_loses_nothing(up: Up, tmp_path: Path):
    up.start("-f", manifests(tmp_path, server(), pool(), route(1)))
    before, pids = up.children(), server_pids(up)
    assert up.get("/health")[0] == 200

    os.kill(before["control"], signal.SIGKILL)
    assert up.get("/health")[0] == 200  # the data plane doesn't need it
    wait_until(lambda: up.children().get("control") not in (None, before["control"]))
    kube = kubectl(up)
    wait_until(lambda: kube.run("get", "modelserver").code == 0, what="the API")
    kube("wait", "--for=condition=Ready", "modelserver/llm", "--timeout=5s")
    assert server_pids(up) == pids

    os.kill(before["worker-0"], signal.SIGKILL)
    wait_until(lambda: serves(up), what="a new worker")
    assert up.children()["worker-0"] != before["worker-0"]

    (pid,) = pids
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: serves(up) and server_pids(up) not in (pids, {None}), what="a new server")


def test_a_new_supervisor_takes_over_what_a_killed_one_left(up: Up, tmp_path: Path):
    up.start("-f", manifests(tmp_path, server(), pool(), route(1)))
    before, pids = up.children(), server_pids(up)
    up.signal(signal.SIGKILL)
    up.wait()
    assert up.get("/health")[0] == 200

    answered: list[int] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            # The kernel resets what waits in the queue of a listener that closes.
            with suppress(ConnectionError):
                answered.append(up.get("/health")[0])

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        up.start(resume=True)
        wait_until(lambda: gone(before["worker-0"]), what="the old worker's end")
    finally:
        done.set()
        asking.join()
    assert set(answered) == {200}
    assert gone(before["control"])
    assert set(up.children()) == {"control", "worker-1"}
    assert server_pids(up) == pids


def test_stopping_lets_requests_finish_and_a_second_signal_does_not(up: Up, tmp_path: Path):
    up.start("-f", manifests(tmp_path, server(spec=tiny()), pool(), route(1)))
    connection = http.client.HTTPConnection("127.0.0.1", up.settings.port, timeout=10)
    connection.request("GET", "/slow")
    answer = connection.getresponse()
    pids = server_pids(up)
    up.signal(signal.SIGINT)
    wait_until(lambda: "may finish" in up.errors)
    assert answer.read() == b"first\nlast\n"
    connection.close()
    assert up.wait() == 0
    assert all(gone(pid) for pid in pids)

    up.start(resume=True)
    connection = http.client.HTTPConnection("127.0.0.1", up.settings.port, timeout=10)
    connection.request("GET", "/endless")
    connection.getresponse()
    pids = server_pids(up)
    up.signal(signal.SIGINT)
    wait_until(lambda: "may finish" in up.errors)
    assert not up.ended
    up.signal(signal.SIGINT)
    assert up.wait() == 0
    connection.close()
    assert all(gone(pid) for pid in pids)


def test_a_bad_manifest_is_told_with_its_place_and_nothing_is_applied(up: Up, tmp_path: Path):
    bad = route(1)
    bad["spec"]["rules"][0]["backendRefs"][0]["weight"] = -1
    path = manifests(tmp_path, pool(), bad, server(spec={"replicas": 1}))
    up.launch("-f", path)
    assert up.wait() == 1
    assert "the manifests were refused, none was applied" in up.errors
    assert f"{path}, document 2 (HTTPRoute route): " in up.errors
    assert "spec.rules[0].backendRefs[0].weight" in up.errors
    assert f"{path}, document 3 (ModelServer llm): " in up.errors
    assert up.output == ""
    assert up.children() == {}
    engine = Engine.open(up.data.database, now=now)
    pools, _ = asyncio.run(engine.list(InferencePool))
    engine.close()
    assert pools == []


def test_manifests_bring_their_namespace_come_from_stdin_and_logs_are_json(up: Up):
    namespaced = pool()
    namespaced["metadata"]["namespace"] = "team"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    given = yaml.safe_dump_all([namespaced, namespace]).encode()
    up.start("-f", "-", "--log-format", "json", "--access-log", stdin=given)
    assert kubectl(up)("get", "inferencepool", "-n", "team", "-o", "name") != ""
    up.get("/nothing")
    wait_until(lambda: "404" in up.errors, what="the access log")
    assert all(isinstance(yaml.safe_load(line), dict) for line in up.errors.splitlines())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not YAML"),
        ("just text", "document 1: expected a mapping of fields"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}", "kind: found"),
        ("apiVersion: v1\nkind: Secret", "metadata.name: expected a name"),
    ],
)
def test_what_is_no_manifest_is_refused_before_anything_starts(up: Up, tmp_path, text, complaint):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    up.launch("-f", str(path))
    assert up.wait() == 1
    assert f"{path}" in up.errors
    assert complaint in up.errors
    assert "Traceback" not in up.errors
    assert not up.data.root.exists()


def test_a_taken_port_is_told_with_the_option_that_chooses_another(up: Up):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        up.launch("--port", str(port))
        assert up.wait() == 1
    assert f"port {port}: address already in use by" in up.errors
    assert f"(pid {os.getpid()}); choose another with --port N" in up.errors


def test_a_host_that_is_not_ours_is_told(up: Up):
    up.launch("--host", "192.0.2.1")
    assert up.wait() == 1
    assert "--host 192.0.2.1: cannot assign requested address" in up.errors


def test_a_control_that_cannot_start_is_told_with_its_reason(up: Up):
    up.data.root.mkdir()
    up.data.database.write_text("this is no database, whatever its name says")
    up.launch()
    assert up.wait() == 1
    assert "control doesn't start" in up.errors.splitlines()[-1]
    assert "is damaged" in up.errors.splitlines()[-1]
    assert up.children() == {}


def test_a_signal_before_it_is_ready_leaves_nothing_behind(up: Up):
    up.launch()
    wait_until(up.children, what="a child")
    up.signal(signal.SIGTERM)
    up.wait()
    assert up.children() == {}


def test_a_port_that_another_gateway_shares_among_its_workers_is_taken(
    up: Up, tmp_path_factory: pytest.TempPathFactory
):
    port = up.start().settings.port
    # A short name: a path to a Unix socket has about 100 bytes.
    other = Up(tmp_path_factory.mktemp("o"))
    try:
        other.launch("--port", str(port))
        assert other.wait() == 1
        assert f"port {port}: address already in use" in other.errors
    finally:
        other.clear()
