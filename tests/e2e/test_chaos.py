"""Any process may be killed at any time: only what was in flight on it fails, all recovers."""

import time
from pathlib import Path

import psutil
import pytest

from tidegate.testing.deployment import EXAMPLES, Deployment, deployed
from tidegate.testing.traffic import Traffic, traffic
from tidegate.testing.waiting import wait_until

MODEL = "example/chat-8b"


@pytest.fixture
def up(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as running:
        wait_until(lambda: ready(running) == {"llm": 2, "llm-new": 2}, 20, "model servers")
        yield running


def ready(up: Deployment) -> dict[str, int]:
    found = up.kubectl.json("modelserver")["items"]
    return {each["metadata"]["name"]: each["status"].get("readyReplicas", 0) for each in found}


def in_flight_at(load: Traffic, moment: float) -> int:
    """Requests that had begun at `moment` and had not ended: they alone may fail."""
    return sum(
        result.started_at <= moment <= result.started_at + result.duration_s + 0.05
        for result in load.results
    )


def test_a_killed_worker_takes_only_its_own_requests(up: Deployment):
    with traffic(up.url, 60, MODEL) as load:
        load.more(60)
        before = {worker.pid for worker in up.children("worker")}
        killed_at = time.perf_counter()
        victim = up.kill("worker")
        wait_until(
            lambda: len({worker.pid for worker in up.children("worker")} - before) == 1,
            10,
            "a new worker",
        )
        load.more(120)
    # New connections may reach the dead worker's socket until the kernel has closed it.
    assert all(abs(result.started_at - killed_at) < 1 for result in load.failures)
    assert len(load.failures) <= in_flight_at(load, killed_at)
    assert not victim.is_running()


def test_with_control_dead_traffic_goes_on_and_control_comes_back(up: Deployment):
    servers = {server.pid for server in up.children("model-server")}
    assert len(servers) == 4
    with traffic(up.url, 60, MODEL) as load:
        load.more(30)
        up.kill("control")
        load.more(120)
        wait_until(lambda: up.kubectl.run("get", "httproute").code == 0, 20, "the API")
        up.kubectl(
            "patch", "httproute", "routes-to-llm", "--type=json", "-p",
            '[{"op":"replace","path":"/spec/rules/0/backendRefs/1/weight","value":100},'
            '{"op":"replace","path":"/spec/rules/0/backendRefs/0/weight","value":0}]',
        )  # fmt: skip
        wait_until(lambda: {r.pool for r in load.more(10)} == {"llm-new"}, 10, "the new weight")
    assert load.failures == []
    # Adopted, not started again.
    assert {server.pid for server in up.children("model-server")} == servers


def test_a_killed_model_server_is_replaced_and_its_requests_alone_may_fail(up: Deployment):
    with traffic(up.url, 60, MODEL) as load:
        load.more(60)
        killed_at = time.perf_counter()
        victim = up.kill("model-server")
        load.more(120)
        wait_until(lambda: ready(up) == {"llm": 2, "llm-new": 2}, 30, "the new server")
        assert victim.pid not in {server.pid for server in up.children("model-server")}
        load.more(60)
    assert all(result.started_at <= killed_at + 0.05 for result in load.failures)
    assert len(load.failures) <= in_flight_at(load, killed_at)
    restarts = [
        endpoint.get("restarts", 0)
        for server in up.kubectl.json("modelserver")["items"]
        for endpoint in server["status"]["endpoints"]
    ]
    assert sum(restarts) == 1


def test_a_killed_supervisor_leaves_traffic_running_and_the_next_start_takes_over(
    up: Deployment, tmp_path: Path
):
    servers = {server.pid for server in up.children("model-server")}
    workers = {worker.pid for worker in up.children("worker")}
    with traffic(up.url, 40, MODEL) as load:
        load.more(20)
        up.process.kill()
        up.process.wait()
        load.more(60)
        with deployed(tmp_path, (), "--workers", "2", like=up) as again:
            load.more(60)
            wait_until(
                lambda: not any(psutil.pid_exists(pid) for pid in workers), 40, "old workers"
            )
            assert {server.pid for server in again.children("model-server")} == servers
            assert "llm=100" in again.kubectl("get", "httproute")
            load.more(60)
            load.stop()
            wait_until(lambda: load.ended, 10, "the load to end")
    assert load.failures == []


def test_a_second_start_resumes_with_what_was_applied(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "1") as first:
        first.kubectl(
            "patch", "httproute", "routes-to-llm", "--type=json", "-p",
            '[{"op":"replace","path":"/spec/rules/0/backendRefs/1/weight","value":7}]',
        )  # fmt: skip
        assert first.stop() == 0
    with deployed(tmp_path, (), "--workers", "1", like=first) as second:
        assert "llm=100 llm-new=7" in second.kubectl("get", "httproute")
        with traffic(second.url, 20, MODEL) as load:
            load.more(20)
        assert load.failures == []
