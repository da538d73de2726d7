"""Metrics as people want them, and settings for demos."""

from itertools import chain
from random import Random

import msgspec
import pytest

from tidegate.api.errors import FieldError
from tidegate.judge.block import Block
from tidegate.judge.ledger import Step, claim_of
from tidegate.judge.metrics import BRISK, METRICS, Change, Quantile, Rate, Settings, adjusted
from tidegate.judge.sequential import Allowed
from tidegate.judge.verdict import judge
from tidegate.judge.words import explain
from tidegate.testing.records import Arm, folded, traffic


def test_every_metric_counts_fields_that_blocks_have():
    for metric in METRICS:
        names = (metric.histogram,) if isinstance(metric, Quantile) else (metric.bad, metric.among)
        for name in names:
            assert hasattr(Block, name), name
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_settings_survive_the_wire():
    assert msgspec.json.decode(msgspec.json.encode(BRISK), type=Settings) == BRISK


def test_changes_apply_by_name_and_leave_the_rest():
    changed = adjusted(
        METRICS,
        {
            "ttft_p95": Change(margin=0.5, role="informative"),
            "ttft_p50": Change(gross=0),
            "errors": Change(margin=0.02, gross=0.2, budget=0.05),
        },
    )
    found = {metric.name: metric for metric in changed}
    assert (found["ttft_p95"].margin, found["ttft_p95"].role) == (0.5, "informative")
    assert found["ttft_p50"].gross is None
    errors = found["errors"]
    assert isinstance(errors, Rate)
    assert errors.allowed == Allowed(1.25, 0.02)
    assert errors.gross == Allowed(1.5, 0.2)
    assert errors.budget == 0.05
    assert found["itl_p95"] == next(each for each in METRICS if each.name == "itl_p95")


@pytest.mark.parametrize("changes", [{"p95": Change()}, {"ttft_p95": Change(budget=0.1)}])
def test_what_makes_no_sense_is_refused(changes: dict[str, Change]):
    with pytest.raises(FieldError):
        adjusted(METRICS, changes)


def test_claims_follow_the_weights_to_come():
    assert claim_of(5, [5, 10, 100]) == "gross"
    assert claim_of(10, [5, 10, 100]) == "margin"
    assert claim_of(100, [5, 10, 100]) == "watch"


@pytest.mark.parametrize(
    ("canary", "outcome"), [(Arm(), "pass"), (Arm(ttft_s=1.5), "fail"), (Arm(errors=0.3), "fail")]
)
def test_a_demo_is_decided_within_forty_seconds(canary: Arm, outcome: str):
    rng = Random(11)
    records = chain(
        traffic(rng, seconds=20, rate=40, weight=0.0),
        traffic(rng, seconds=40, rate=40, weight=0.25, canary=canary, start=20.0),
    )
    verdict = judge(
        folded(records, span_s=1.0),
        BRISK,
        70.0,
        steps=[Step(20.0, 25)],
        stable="stable",
        canary="canary",
    )
    assert verdict.outcome == outcome, explain(verdict)
