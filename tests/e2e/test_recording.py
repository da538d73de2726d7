"""What the gateway and the load generator record is what a replay reads."""

import subprocess
import sys
from pathlib import Path

from tidegate.judge.recorded import read
from tidegate.testing.deployment import EXAMPLES, deployed

MODEL = "example/chat-8b"


def tidegate(*arguments: object) -> str:
    command = [sys.executable, "-m", "tidegate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


def test_traffic_is_recorded_on_both_ends_without_a_prompt(tmp_path: Path):
    ours, theirs = tmp_path / "records", tmp_path / "load.jsonl"
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "1", "--record", str(ours)) as up:
        load = ("--rate", 20, "--duration", 3, "--turns", 2, "--record", theirs)
        tidegate("load", "--url", up.url, "--model", MODEL, *load)
    (path,) = ours.glob("*.jsonl")
    text = path.read_text()
    assert '"messages"' not in text
    assert MODEL not in text
    inside = [each for each in read(path.read_bytes().splitlines(True), "a") if each.events]
    outside = list(read(theirs.read_bytes().splitlines(True), "b"))
    assert len(inside) == len(outside) > 20
    assert len({each.session for each in inside}) == len({each.session for each in outside})
    assert all(each.ttft_s for each in (*inside, *outside))
    assert "replays, the canary being the stable" in tidegate(
        "judge", "replay", path, theirs, "--trials", 1
    )
