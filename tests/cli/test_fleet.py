"""`tidegate fleet` from the outside."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from tidegate.cli import main

WORKLOAD = """
duration: 5s
warmup: 1s
servers: [{count: 2, profile: h100-8b}]
traffic: [{name: chat, rate: 10}, {name: batch, rate: 5, priority: -1}]
"""


def run(folder: Path, *args: str, text: str = WORKLOAD) -> Result:
    (folder / "w.yaml").write_text(text)
    return CliRunner().invoke(main, ["fleet", "simulate", str(folder / "w.yaml"), *args])


def test_contestants_stand_side_by_side_in_a_table_and_on_a_page(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("plugins: [{type: queue-scorer}]")
    page = tmp_path / "fleet.html"
    result = run(tmp_path, "-c", "default", "-c", str(tmp_path / "mine.yaml"), "--rival", "random",
                 "--plot", str(page))  # fmt: skip
    assert result.exit_code == 0, result.output
    for name in ("default", "mine", "random"):
        assert result.output.count(name) >= 3, "once for each kind, and once for all"
        assert name in page.read_text()
    assert page.read_text().count("<svg") == 2


def test_json_has_all_numbers(tmp_path: Path):
    result = run(tmp_path, "-o", "json", "--seed", "3", "--requests", "20")
    (report,) = json.loads(result.stdout)
    assert report["kinds"]["chat"]["requests"] + report["kinds"]["batch"]["requests"] <= 20
    assert report["all"]["ttft"]["p95"] > 0


def test_a_mistake_is_one_line_with_its_place(tmp_path: Path):
    result = run(tmp_path, text="traffic: [{name: a}]")
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].endswith(
        "w.yaml: traffic[0]: found nothing, expected either a rate or a trace"
    )


def test_a_configuration_that_makes_no_sense_is_named(tmp_path: Path):
    (tmp_path / "bad.yaml").write_text("plugins: [{type: tea-leaves}]")
    result = run(tmp_path, "-c", str(tmp_path / "bad.yaml"))
    assert result.exit_code == 1
    assert "bad.yaml: plugins[0].type" in result.output
