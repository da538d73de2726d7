"""Pairs of the same request, and values from outside, decide by counts alone."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.judge.ledger import Ledger, Step
from tidegate.judge.metrics import Settings
from tidegate.judge.pairs import SHADOW, Count, Paired, Pairs, merge_pairs
from tidegate.judge.record import Check
from tidegate.judge.verdict import Verdict, decide
from tidegate.judge.words import explain
from tidegate.testing.records import Arm, record

counts = st.dictionaries(
    st.sampled_from("abc"),
    st.builds(Count, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
)
pairs = st.builds(Pairs, counts)


def shadow(canary: Arm, number: int = 400) -> Verdict:
    ledger, rng = Ledger(Settings(metrics=(), paired=SHADOW), "stable", "canary"), Random(3)
    ledger.enter(Step(0.0, 0, "pairs"))
    for _ in range(number):
        ledger.pairs.compare(record(rng, canary, "canary", 0.0), record(rng, Arm(), "stable", 0.0))
    return decide(ledger, 100.0)


@given(pairs, pairs, pairs)
def test_pairs_merge_in_any_order(a: Pairs, b: Pairs, c: Pairs):
    assert merge_pairs(merge_pairs(a, b), c) == merge_pairs(a, merge_pairs(b, c))
    assert merge_pairs(a, b) == merge_pairs(b, a)


def test_an_equal_shadow_passes():
    verdict = shadow(Arm())
    assert verdict.outcome == "pass", explain(verdict)


@pytest.mark.parametrize(
    ("canary", "blamed"),
    [(Arm(ttft_s=0.9), "TTFT"), (Arm(itl_s=0.03), "inter-token"), (Arm(errors=0.1), "failed")],
)
def test_a_worse_shadow_fails(canary: Arm, blamed: str):
    verdict = shadow(canary)
    assert verdict.outcome == "fail", explain(verdict)
    assert verdict.message.startswith(blamed)


def test_an_answer_that_came_in_one_piece_says_nothing_of_the_pace():
    pairs, rng = Pairs(), Random(3)
    whole = record(rng, Arm(itl_s=1e-5), "stable", 0.0)
    pairs.compare(record(rng, Arm(), "canary", 0.0), whole)
    assert "itl" not in pairs.counts
    assert pairs.counts["ttft"].total == 1


SILENT = Arm(hang=True, patience_s=5.0)


@pytest.mark.parametrize(
    ("canary", "stable", "counted"),
    [
        (SILENT, Arm(), Count(1, 0, 0)),
        (Arm(), SILENT, Count(0, 1, 0)),
        (SILENT, SILENT, None),
        (SILENT, Arm(ttft_s=9.0, sigma=0.0), None),
        (Arm(ttft_s=9.0, sigma=0.0), SILENT, None),
        (Arm(hang=True), Arm(), Count(1, 0, 0)),
        (Arm(errors=1.0), Arm(), None),
    ],
)
def test_a_first_byte_that_nobody_waited_for_counts_where_it_is_certain(
    canary: Arm, stable: Arm, counted: Count | None
):
    pairs, rng = Pairs(), Random(3)
    pairs.compare(record(rng, canary, "canary", 0.0), record(rng, stable, "stable", 0.0))
    assert pairs.counts.get("ttft") == counted


def test_without_pairs_it_waits():
    assert shadow(Arm(), number=0).outcome == "continue"


def test_checks_count_where_both_answers_were_checked():
    made, rng = Pairs(), Random(1)
    canary, stable = (record(rng, Arm(), arm, 0.0) for arm in ("canary", "stable"))
    made.compare(canary, stable)
    assert "invalid" not in made.counts
    canary.checked = stable.checked = True
    canary.failed_checks = int(Check.INVALID)
    made.compare(canary, stable)
    assert made.counts["invalid"] == Count(1, 0, 0)
    assert made.counts["refused"] == Count(0, 0, 1)


def test_values_from_outside_are_held_against_the_other_arm_or_a_bound():
    cost = Paired(name="cost", label="cost per token", factor=1.1)
    rate = Paired(name="hits", label="cache hits", factor=0.9, less_is_worse=True)
    ledger = Ledger(Settings(metrics=(), paired=(cost, rate)), "stable", "canary")
    ledger.enter(Step(0.0, 10))
    for _ in range(20):
        ledger.pairs.hold(cost, canary=1.05, stable=1.0)
        ledger.pairs.hold(rate, canary=0.5, stable=0.8)
    verdict = decide(ledger, 100.0)
    assert verdict.outcome == "fail"
    assert {each.metric: each.outcome for each in verdict.findings} == {
        "cost": "pass",
        "hits": "fail",
    }
