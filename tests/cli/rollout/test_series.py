"""What the gateway counted, as a report draws it."""

import msgspec
import pytest

from tidegate.api.meta import ObjectMeta
from tidegate.api.rollout import InferenceRollout, InferenceRolloutStatus
from tidegate.cli.rollout.report import report
from tidegate.cli.rollout.series import SPANS, series
from tidegate.judge.block import Block, Place
from tidegate.judge.histogram import bin_of
from tidegate.testing.rollouts import World, admitted

BEGIN = 1000.0


def block(at: float, arm: str, requests: int, *, failed: int = 0, ttft_s: float = 0.1) -> Block:
    made = Block(Place(BEGIN + at, "default/routes/chat", arm, 0), 1.0)
    made.requests = requests
    made.server_errors = failed
    made.ttft = {bin_of(ttft_s): requests - failed}
    return made


def seen(*blocks: Block, span_s: float = 10.0):
    return series(blocks, stable="llm", canary="llm-new", begin=BEGIN, span_s=span_s)


def test_a_share_is_the_canarys_part_of_a_spans_requests():
    found = seen(block(0, "llm", 30), block(0, "llm-new", 10), block(3, "llm", 5))
    assert found.shares() == [(0.5, 25.0), (3.5, 0.0)]


def test_an_arm_that_had_too_few_answers_has_no_point():
    found = seen(block(0, "llm-new", 4), block(1, "llm-new", 8, ttft_s=0.2))
    ((at, milliseconds),) = found.quantiles(found.canary, lambda span: span.ttft, 0.5)
    assert at == 1.5
    assert milliseconds == pytest.approx(200, rel=0.05)


def test_failures_are_counted_by_arm():
    found = seen(block(0, "llm", 5), block(2, "llm-new", 5, failed=3))
    assert found.failures(found.canary) == [0.0, 3.0]
    assert found.failures(found.stable) == [0.0, 0.0]
    assert found.failed == 3


def test_a_long_rollout_has_no_more_points_than_can_be_seen():
    blocks = [block(at, "llm", 1) for at in range(0, 7200, 5)]
    assert len(seen(*blocks, span_s=7200).times) <= SPANS + 1


def test_what_was_before_the_rollout_and_other_arms_are_left_out():
    assert seen(block(-1, "llm", 5), block(1, "other", 5)).times == []


def test_a_page_with_counts_has_a_chart_of_each():
    world = World({"stable": "llm", "canary": "llm-new", "steps": [{"setWeight": 30}]})
    world.look()
    rollout = InferenceRollout(
        metadata=ObjectMeta(name="move", namespace="default"),
        spec=admitted(world.spec),
        status=msgspec.json.decode(world.status, type=InferenceRolloutStatus),
    )
    plain = report(rollout, BEGIN + 60)
    page = report(rollout, BEGIN + 60, [block(1, "llm", 9), block(1, "llm-new", 9)])
    assert plain.count("<svg") == 1
    assert page.count("<svg") == 4
    assert "Time to first token" in page
    assert "observed: share of requests" in page
