"""The benchmark's own parts: its numbers can only be as right as its counting."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    command = [sys.executable, "-m", "bench.backend", "1"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())[0]
        process.communicate()


def load(mode: str, *ports: int, **flags: float) -> dict[str, Any]:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    command = [sys.executable, "-m", "bench.client", mode, *map(str, ports), *options]
    return json.loads(subprocess.check_output(command, cwd=ROOT))


def test_closed_connections_are_kept_busy_for_the_time_asked(backend: int):
    told = load("closed", backend, seconds=0.2, connections=4)
    assert told["answers"] > 4
    assert told["errors"] == {}
    assert 0.2 <= told["seconds"] < 1


def test_every_event_of_every_stream_is_counted(backend: int):
    told = load("stream", backend, connections=3, events=7, pace_ms=2, answers=2)
    assert (told["answers"], told["events"], told["errors"]) == (6, 42, {})


def test_the_open_loop_sends_to_all_ports_as_often_as_asked(backend: int):
    told = load("open", backend, backend, rate=100, seconds=0.3)
    assert [each["answers"] for each in told["targets"]] == [30, 30]
    assert all(each["errors"] == {} for each in told["targets"])


def test_answers_that_are_no_success_are_errors(tmp_path: Path):
    serve = (
        "import http.server,socketserver\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version='HTTP/1.1'\n"
        "    def do_POST(s):\n"
        "        s.rfile.read(int(s.headers['content-length'])); s.send_response(503)\n"
        "        s.send_header('content-length','0'); s.end_headers()\n"
        "    def log_message(s,*a): pass\n"
        "v=socketserver.ThreadingTCPServer(('127.0.0.1',0),H); v.daemon_threads=True\n"
        "print(v.server_address[1],flush=True); v.serve_forever()\n"
    )
    with subprocess.Popen([sys.executable, "-c", serve], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = load("closed", int(process.stdout.readline()), seconds=0.1, connections=1)
        process.kill()
    assert told["answers"] == 0
    assert list(told["errors"]) == ["HTTP/1.1 503 Service Unavailable"]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import report

    return report


def test_ratios_are_taken_within_rounds(report: ModuleType):
    from bench.measure import Plan, Series
    from bench.setup import Variant

    ours = Series(cpu_us_per_request=[10.0, 20.0, 40.0])
    peer = Series(cpu_us_per_request=[20.0, 40.0, 50.0])
    dear = Series(cpu_us_per_request=[90.0, 90.0, 90.0])
    variants = tuple(
        Variant(name, name, start=_never, package="tidegate", peer=name != "tidegate")
        for name in ("tidegate", "peer", "dear")
    )
    results = report.Results(Plan(), variants, {"tidegate": ours, "peer": peer, "dear": dear}, {})
    ratio = results.ratio("peer", "cpu_us_per_request")
    assert (ratio.min, ratio.median, ratio.max) == (0.5, 0.5, 0.8)
    assert results.best_peer("cpu_us_per_request") == "peer"
    assert report.data(results)["variants"]["peer"]["cpu_us_per_request"] == {
        "min": 20.0, "median": 40.0, "max": 50.0
    }  # fmt: skip


def _never(*_args: Any) -> Any:
    raise AssertionError
