"""Whole compilations: `cases/x.in.yaml` → `x.table.yaml` and `x.status.yaml`.

`TIDEGATE_GOLDEN=1 pytest tests/routing` (`make golden`) rewrites the results: read the diff.
"""

import os
from pathlib import Path

import pytest
import yaml

from tidegate.routing.compile import compile as compile_snapshot
from tidegate.testing.tables import render_statuses, render_table, snapshot

CASES = sorted((Path(__file__).parent / "cases").glob("*.in.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name.removesuffix(".in.yaml"))
def test_resources_compile_to_their_golden_results(case: Path):
    compiled = compile_snapshot(snapshot(case.read_text()))
    check(case, "table", render_table(compiled.table))
    check(case, "status", render_statuses(compiled.statuses))


def test_there_are_cases():
    assert len(CASES) >= 10


def check(case: Path, what: str, rendered: object):
    golden = case.with_name(case.name.replace(".in.", f".{what}."))
    text = yaml.safe_dump(rendered, sort_keys=False, allow_unicode=True, width=96)
    if os.environ.get("TIDEGATE_GOLDEN"):
        golden.write_text(text)
    assert golden.exists(), f"{golden.name} is missing: make golden writes it"
    assert text == golden.read_text()
