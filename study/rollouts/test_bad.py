"""Bad canaries of each kind: rolled back, held or limited, with a sentence that names the cause."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest

from tidegate.testing.deployment import EXAMPLES, Deployment, deployed
from tidegate.testing.moving import condition, intend, start, until, weights
from tidegate.testing.traffic import traffic
from tidegate.testing.waiting import wait_until

MODEL = "example/chat-8b"
HALF = {"steps": [{"setWeight": 50}], "analysis": {"duration": "20s", "minRequests": 20}}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("bad")
    with deployed(folder, [EXAMPLES / "node"], "--workers", "2") as running:
        yield running


def post(url: str, body: object, method: str = "POST") -> object:
    headers = {"content-type": "application/json"}
    request = Request(url, json.dumps(body).encode(), headers, method=method)
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


def addresses(up: Deployment, server: str) -> list[str]:
    endpoints = up.kubectl.json("modelserver", server)["status"]["endpoints"]
    return [each["address"] for each in endpoints]


@contextmanager
def broken(up: Deployment, server: str, **faults: object) -> Iterator[None]:
    """Switch faults on at all endpoints of a ModelServer."""
    urls = [f"http://{each}/admin/faults" for each in addresses(up, server)]
    for url in urls:
        post(url, faults)
    try:
        yield
    finally:
        for url in urls:
            post(url, {}, "DELETE")


@pytest.fixture(autouse=True)
def clean(up: Deployment) -> Iterator[None]:
    """Leave no rollout behind, and all weight at the stable."""
    yield
    up.kubectl("delete", "inferencerollout", "--all", "--wait=false")
    up.kubectl("apply", "-f", EXAMPLES / "node" / "route.yaml")


def is_back(up: Deployment) -> bool:
    return weights(up) == (100, 0)


def test_errors_are_rolled_back_within_some_requests(up: Deployment):
    with traffic(up.url, 60, MODEL) as load, broken(up, "llm-new", error_rate=0.5):
        start(up, "errors", **HALF)
        seen = until(up, "RolledBack", "errors")
        assert "failed" in seen["message"]
        assert condition(seen, "RolledBack")["status"] == "True"
    assert is_back(up)
    assert {each.pool for each in load.failures} == {"llm-new"}
    assert len(load.failures) < 60


@pytest.mark.parametrize(
    ("fault", "words"), [("ttft_factor", "TTFT p50"), ("itl_factor", "inter-token p50")]
)
def test_slowness_is_rolled_back_and_no_request_fails(up: Deployment, fault: str, words: str):
    name = words.split()[0].lower()
    with traffic(up.url, 60, MODEL) as load, broken(up, "llm-new", **{fault: 20.0}):
        start(up, name, **HALF)
        seen = until(up, "RolledBack", name)
        assert words in seen["message"]
    assert is_back(up)
    assert load.failures == []


def test_a_canary_that_hangs_before_the_start_gets_no_request(up: Deployment):
    with traffic(up.url, 20, MODEL) as load, broken(up, "llm-new", hang=True):
        start(up, "hung")
        seen = until(up, lambda seen: "can't be asked" in seen["message"], "hung")
        assert seen["phase"] == "Preflight"
        assert "no answer within 5 s" in seen["message"]
        assert condition(seen, "PreflightPassed")["status"] == "False"
        intend(up, "hung", abort=True)
        until(up, "Aborted", "hung")
    assert {each.pool for each in load.results} == {"llm"}
    assert load.failures == []


@pytest.mark.timeout(240)
def test_a_canary_that_hangs_once_it_has_traffic_is_rolled_back(up: Deployment):
    # Longer than the 30 s after which a request without a first byte counts as hung.
    with traffic(up.url, 20, MODEL, timeout_s=60.0) as load:
        start(up, "hangs", steps=[{"setWeight": 50}, {"pause": {"duration": "5m"}}])
        until(up, "Progressing", "hangs")
        load.more(20)
        with broken(up, "llm-new", hang=True):
            seen = until(up, "RolledBack", "hangs")
            assert is_back(up)
        # Whichever is first: past the demo's deadline as slow, or past the worker's as failed.
        assert any(words in seen["message"] for words in ("TTFT p50", "of the canary failed"))
    # Who never began an answer has no header to be known by.
    assert {each.pool for each in load.failures} <= {"", "llm-new"}


def test_a_canary_that_hangs_is_rolled_back_soon_after_its_clients_gave_up(up: Deployment):
    with traffic(up.url, 20, MODEL, timeout_s=5.0) as load:
        start(up, "impatient", steps=[{"setWeight": 50}, {"pause": {"duration": "5m"}}])
        until(up, "Progressing", "impatient")
        load.more(20)
        with broken(up, "llm-new", hang=True):
            seen = until(up, "RolledBack", "impatient", timeout_s=30.0)
            assert is_back(up)
        assert "without a first byte" in seen["message"]
    assert {each.pool for each in load.failures} <= {"", "llm-new"}


def test_wrong_answers_are_found_in_the_shadow(up: Deployment):
    stop = threading.Event()

    def ask() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            content = f"Question {number} of a test."
            body = {
                "model": MODEL,
                "temperature": 0,
                "max_tokens": 8,
                "messages": [{"role": "user", "content": content}],
            }
            post(f"{up.url}/v1/chat/completions", body)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with broken(up, "llm-new", wrong_rate=0.5):
            step = {"shadow": {"percent": 100, "duration": "60s"}}
            start(up, "wrong", steps=[step])
            seen = until(up, "RolledBack", "wrong")
    finally:
        stop.set()
        asking.join()
    assert "answers that differ" in seen["message"]
    assert [entry["weight"] for entry in seen["history"] if "weight" in entry] == []


def test_a_pool_that_is_too_small_is_not_flooded(up: Deployment):
    with traffic(up.url, 60, MODEL) as load:
        wait_until(lambda: load.more(10))
        up.kubectl("scale", "modelserver", "llm-new", "--replicas=1")
        wait_until(lambda: len(addresses(up, "llm-new")) == 1, what="one endpoint")
        with broken(up, "llm-new", itl_factor=60.0, ttft_factor=60.0):
            start(up, "small", steps=[{"setWeight": 20}, {"pause": {"duration": "5m"}}])
            seen = until(
                up, lambda seen: condition(seen, "CapacityLimited")["status"] == "True", "small"
            )
            assert "add endpoints to its pool" in condition(seen, "CapacityLimited")["message"]
            intend(up, "small", abort=True)
            until(up, "Aborted", "small")
        up.kubectl("scale", "modelserver", "llm-new", "--replicas=2")
    assert load.failures == []
