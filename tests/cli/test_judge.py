"""`tidegate judge replay` as people run it."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tidegate.judge.recorded import write
from tidegate.testing.records import Arm, traffic


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tidegate", "judge", "replay", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty minutes at two requests a second, in two workers' files."""
    folder = tmp_path_factory.mktemp("records")
    made = list(traffic(Random(1), seconds=2400, rate=2, weight=0.0, stable=Arm(errors=0.002)))
    for each in made:
        each.endpoint = "10.0.0.1:8000"
    for name, part in (("one", made[::2]), ("two", made[1::2])):
        (folder / f"{name}.jsonl").write_bytes(b"".join(write(each) for each in part))
    return folder


MEDIAN = ("--informative", "ttft_p95", "--informative", "itl_p95", "--margin", "ttft_p50=0.4")


def test_the_same_traffic_on_both_arms_is_no_alarm(records: Path):
    done = run(records, "--split", 40, "--trials", 2, "--seed", 1, *MEDIAN)
    assert done.returncode == 0, done.stderr
    assert "false aborts: 0.0%" in done.stdout
    assert "completed    100.0%" in done.stdout
    assert "2 replays, the canary being the stable" in done.stdout
    assert "sessions in 40 minutes" in done.stderr


def test_a_harm_is_found_and_timed(records: Path):
    done = run(records, "--split", 40, "--trials", 2, "--ttft", 2.5, "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["shares"]["aborted"] == 1
    assert told["mistakes"] == 0
    assert all(0 < each["minutes"] < 30 for each in told["trials"])
    assert all(each["exposed"] > 0 for each in told["trials"])


def test_the_same_seed_says_the_same(records: Path):
    arguments = (records, "--split", 40, "--trials", 1, "--errors", 0.3, "-o", "json")
    one, two = (run(*arguments, "--seed", 5).stdout for _ in range(2))
    assert one == two


def test_a_rollout_climbs_its_steps(records: Path):
    done = run(records / "one.jsonl", "--steps", "20,50", "--trials", 1, "-o", "json")
    assert json.loads(done.stdout)["trials"][0]["weight"] in (20, 50)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--split", 10, "--steps", "5,50"), "name one of them"),
        (("--steps", "50,5"), "percents that rise"),
        (("--steps", "5,100"), "less than 100"),
        (("--margin", "speed=1"), "expected errors, client_errors"),
        (("--margin", "errors"), "NAME=NUMBER"),
    ],
)
def test_what_cannot_be_is_refused(records: Path, arguments: tuple[object, ...], words: str):
    done = run(records, *arguments)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_a_file_of_something_else_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"started_at": 1, "duration_s": 1}\n{"time": 3}\n')
    done = run(path)
    assert done.returncode == 1
    assert "line 2" in done.stderr
    assert "started_at" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_requests_are_no_replay(tmp_path: Path):
    (tmp_path / "empty.jsonl").write_text("")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "nothing to replay" in done.stderr
