"""`rollout plan` says how long steps take, and what a bad canary would cost."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tidegate.cli.rollout.client import Access
from tidegate.cli.rollout.timing import Counter, counter
from tidegate.judge.recorded import write
from tidegate.process.settings import DataDir, Settings
from tidegate.rollout.plan import plan_of
from tidegate.testing.records import Arm, traffic
from tidegate.testing.rollouts import admitted

THREE_LINES = """
apiVersion: tidegate.dev/v1alpha1
kind: InferenceRollout
metadata: {name: move}
spec: {stable: llm, canary: llm-new}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "rollout.yaml"
    path.write_text(THREE_LINES)
    return str(path)


def test_each_step_has_its_minutes_and_harms_their_price(desk, manifest):
    ran = desk("plan", "-f", manifest, "--rate", "4")
    assert ran.exit_code == 0, ran.output
    assert "At 4 requests a second" in ran.stdout
    assert "    5 %     5 min  to show nothing gross" in ran.stdout
    assert "to show the margins; slowest: TTFT p95" in ran.stdout
    assert "ttft x1.1        is within the margins" in ran.stdout
    assert "errors +50 %     is found in 1 min" in ran.stdout


def test_thin_traffic_begins_higher(desk, manifest):
    told = desk("plan", "-f", manifest, "--rate", "1").stdout
    assert "   10 % " in told
    assert "    5 % " not in told


def test_recorded_traffic_says_its_own_rate_and_spread(desk, manifest, tmp_path):
    steady = traffic(Random(1), seconds=1200, rate=3, weight=0.0, stable=Arm(sigma=0.1))
    path = tmp_path / "own.jsonl"
    path.write_bytes(b"".join(write(each) for each in steady))
    told = desk("plan", "-f", manifest, "--recorded", str(path)).stdout
    assert "At 3" in told or "At 2.9" in told
    assert "to spread as usual" not in told
    assert "ttft x1.2        is found" in told


def test_without_a_rate_it_says_what_is_missing(desk, manifest):
    ran = desk("plan", "-f", manifest)
    assert ran.exit_code == 0
    assert "--rate N" in ran.stdout


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("analysis: {advanceWhen: NotWorse}", "nothing is shown"),
        ("preset: blueGreen", "nothing to compare with"),
        ("analysis: {duration: 10s}", "a demo's"),
    ],
)
def test_what_shows_little_is_told(desk, tmp_path, spec, words):
    path = tmp_path / "rollout.yaml"
    path.write_text(THREE_LINES.replace("canary: llm-new}", f"canary: llm-new, {spec}}}"))
    assert words in desk("plan", "-f", str(path), "--rate", "20").stdout


METRICS = b"""# TYPE tidegate_requests_total counter
tidegate_requests_total{route="d/r",rule="0",arm="llm",pool="default/llm",code="200"} 40
tidegate_requests_total{route="d/r",rule="0",arm="llm-new",pool="default/llm-new",code="200"} 2
tidegate_requests_total{route="d/r",rule="0",arm="x",pool="default/x",code="200"} 100
"""


@pytest.fixture
def metrics() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(METRICS)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_gateways_own_counters_say_the_rate_of_both_pools(metrics: int, tmp_path: Path):
    data = DataDir.open(tmp_path)
    data.write(Settings(metrics_port=metrics))
    plan = plan_of(admitted({"stable": "llm", "canary": "llm-new"}))
    found = counter(Access(tmp_path / "kubeconfig"), plan, "default")
    assert found is not None
    assert found.read() == 42
    assert Counter(f"http://127.0.0.1:{metrics}/none", frozenset()).read() is None


def test_an_adapter_has_no_counter_of_its_own(tmp_path: Path):
    plan = plan_of(admitted({"type": "Adapter", "stable": "v1", "canary": "v2"}))
    assert counter(Access(tmp_path / "kubeconfig"), plan, "default") is None
