"""Verdicts on made-up traffic: what is decided, and what is said."""

import math
from collections import deque
from itertools import chain
from random import Random

import msgspec
import pytest

from tidegate.judge.block import Block, Folder
from tidegate.judge.ledger import Ledger, Step
from tidegate.judge.metrics import BRISK, METRICS, Quantile, Rate, Settings
from tidegate.judge.record import Record
from tidegate.judge.verdict import Verdict, decide, judge
from tidegate.judge.words import explain
from tidegate.testing.records import Arm, folded, record, traffic

BEFORE_S = 600


def blocks_of(
    *, canary: Arm, seconds: int = 3600, rate: float = 4.0, weight: float = 0.3, seed: int = 1
) -> list[Block]:
    """Stable traffic alone, then both arms."""
    rng = Random(seed)
    before = traffic(rng, seconds=BEFORE_S, rate=rate, weight=0.0)
    after = traffic(rng, seconds=seconds, rate=rate, weight=weight, canary=canary, start=BEFORE_S)
    return folded(chain(before, after))


def verdict_of(blocks: list[Block], *, claim: str = "margin", seconds: int = 3600) -> Verdict:
    return judge(
        blocks,
        Settings(),
        BEFORE_S + seconds + 200.0,
        steps=[Step(BEFORE_S, 30, claim)],
        stable="stable",
        canary="canary",
    )


def failed(verdict: Verdict) -> set[str]:
    return {each.metric for each in verdict.findings if each.outcome == "fail"}


def blamed(verdict: Verdict) -> set[str]:
    required = {each.metric for each in verdict.findings if each.role == "required"}
    return failed(verdict) & required


def test_an_equal_canary_passes():
    verdict = verdict_of(blocks_of(canary=Arm()))
    assert verdict.outcome == "pass", explain(verdict)


@pytest.mark.parametrize(
    ("canary", "metric"),
    [
        (Arm(ttft_s=0.8), "ttft_p50"),
        (Arm(itl_s=0.026), "itl_p50"),
        (Arm(errors=0.05), "errors"),
    ],
)
def test_a_worse_canary_fails_by_what_is_worse(canary: Arm, metric: str):
    verdict = verdict_of(blocks_of(canary=canary))
    assert verdict.outcome == "fail", explain(verdict)
    assert metric in failed(verdict)
    kind = metric.split("_")[0]
    assert {each.split("_")[0] for each in blamed(verdict)} == {kind}


def test_a_better_canary_passes():
    verdict = verdict_of(blocks_of(canary=Arm(ttft_s=0.4, itl_s=0.015)))
    assert verdict.outcome == "pass", explain(verdict)


def test_a_verdict_that_fails_says_by_how_much():
    verdict = verdict_of(blocks_of(canary=Arm(ttft_s=0.8)))
    assert "TTFT p50" in verdict.message
    assert "+6" in verdict.message or "+5" in verdict.message
    ratio = next(each.ratio for each in verdict.findings if each.metric == "ttft_p50")
    assert ratio is not None
    assert 1.15 < ratio.low < 1.6 < ratio.high


def test_no_data_holds():
    nothing = judge(
        [], Settings(), 10_000.0, steps=[Step(0.0, 5, "gross")], stable="stable", canary="canary"
    )
    assert nothing.outcome == "continue"


def test_a_canary_without_requests_holds():
    verdict = verdict_of(blocks_of(canary=Arm(), weight=0.0))
    assert verdict.outcome == "continue"


def test_a_stable_without_requests_holds():
    verdict = verdict_of(folded(traffic(Random(2), seconds=3600, rate=2, weight=1.0)))
    assert verdict.outcome == "continue"


def test_too_little_time_says_what_it_waits_for():
    verdict = verdict_of(blocks_of(canary=Arm(), seconds=420), seconds=420)
    assert verdict.outcome == "continue"
    assert verdict.waits_for
    assert verdict.minutes_left is not None
    assert 1 < verdict.minutes_left < 120
    assert "minutes more for" in verdict.message


def test_when_the_time_is_over_nothing_is_promoted():
    blocks = blocks_of(canary=Arm(), seconds=420)
    verdict = judge(
        blocks,
        Settings(max_duration_s=600),
        BEFORE_S + 700.0,
        steps=[Step(BEFORE_S, 30)],
        stable="stable",
        canary="canary",
    )
    assert verdict.outcome == "inconclusive"
    assert "waited for" in verdict.message


def test_gross_claims_pass_sooner_than_margins():
    blocks = blocks_of(canary=Arm(), seconds=600)
    assert verdict_of(blocks, claim="gross", seconds=600).outcome == "pass"
    assert verdict_of(blocks, claim="margin", seconds=600).outcome == "continue"


def test_what_is_just_informative_never_decides():
    only = (
        Rate(name="errors", label="errors", bad="errors"),
        Quantile(
            name="ttft", label="TTFT", histogram="ttft", q=0.5, margin=0.1, role="informative"
        ),
    )
    verdict = judge(
        blocks_of(canary=Arm(ttft_s=2.0)),
        Settings(metrics=only),
        BEFORE_S + 3800.0,
        steps=[Step(BEFORE_S, 30)],
        stable="stable",
        canary="canary",
    )
    assert failed(verdict) == {"ttft"}
    assert verdict.outcome == "pass"


def test_a_budget_is_absolute():
    errors = Rate(name="errors", label="errors", bad="errors", budget=0.02)
    verdict = judge(
        folded(
            traffic(
                Random(4),
                seconds=3600,
                rate=4,
                weight=0.3,
                canary=Arm(errors=0.05),
                stable=Arm(errors=0.05),
            )
        ),
        Settings(metrics=(errors,)),
        4000.0,
        steps=[Step(0.0, 30)],
        stable="stable",
        canary="canary",
    )
    assert verdict.outcome == "fail"


# the order of things


def ledger_of(blocks: list[Block]) -> Ledger:
    ledger = Ledger(Settings(), "stable", "canary")
    ledger.enter(Step(BEFORE_S, 30))
    ledger.absorb(blocks)
    return ledger


def test_looking_often_gives_what_looking_once_gives():
    blocks = blocks_of(canary=Arm(), seconds=1200)
    often = Ledger(Settings(), "stable", "canary")
    often.enter(Step(BEFORE_S, 30))
    waiting = sorted(blocks, key=lambda block: block.place.start)
    for now in range(0, BEFORE_S + 1400, 10):
        often.absorb(each for each in waiting if now - 10 <= each.place.start < now)
        often.advance(float(now))
        decide(often, float(now), details=False)
    once = ledger_of(blocks)
    once.advance(BEFORE_S + 1400.0)
    assert decide(often, 2000.0) == decide(once, 2000.0)


def test_the_order_in_which_blocks_come_does_not_matter():
    blocks = blocks_of(canary=Arm(), seconds=600)
    shuffled = Random(3).sample(blocks, len(blocks))
    assert verdict_of(blocks, seconds=600) == verdict_of(shuffled, seconds=600)


def test_parts_of_blocks_may_come_one_by_one():
    rng = Random(5)
    records = list(traffic(rng, seconds=900, rate=4, weight=0.3))
    whole = verdict_of(folded(iter(records)), seconds=300)
    parts = [block for each in records for block in folded(iter([fresh(each)]))]
    assert verdict_of(parts, seconds=300) == whole


def fresh(each: Record) -> Record:
    each.noted = 0
    return each


def test_names_of_arms_and_other_scopes_mean_nothing():
    blocks = blocks_of(canary=Arm(ttft_s=0.8), seconds=900)
    renamed = [msgspec.structs.replace(b) for b in blocks]
    for block in renamed:
        name = {"stable": "canary", "canary": "zebra"}[block.place.arm]
        block.place = msgspec.structs.replace(block.place, arm=name)
    other = [msgspec.structs.replace(b) for b in blocks[:50]]
    for block in other:
        block.place = msgspec.structs.replace(block.place, scope="other")
    steps = [Step(BEFORE_S, 30)]
    one = judge(
        blocks, Settings(), 2000.0, steps=steps, stable="stable", canary="canary", scope="ns/r/"
    )
    two = judge(
        renamed + other,
        Settings(),
        2000.0,
        steps=steps,
        stable="canary",
        canary="zebra",
        scope="ns/r/",
    )
    assert one == two


def test_a_step_forgets_what_came_before_but_the_rollout_does_not():
    blocks = blocks_of(canary=Arm(), seconds=3600)
    ledger = Ledger(Settings(), "stable", "canary")
    ledger.enter(Step(BEFORE_S, 30))
    ledger.enter(Step(BEFORE_S + 3000, 30))
    ledger.absorb(blocks)
    ledger.advance(BEFORE_S + 4000.0)
    track = ledger.tracks[0]
    assert 15 <= track.step.units <= 20
    assert track.cumulative.units > 100


# tripwires


def watch_live(canary: Arm, *, weight: float = 0.1, sessions: int = 0) -> tuple[int, str]:
    """Judge each second as a controller does; return the canary's requests at the verdict."""
    rng = Random(8)
    records = list(
        traffic(rng, seconds=900, rate=4, weight=weight, canary=canary, stable=Arm(errors=0.01))
    )
    if sessions:
        few(records, sessions)
    at, verdict = watch(records, Settings(), Step(0.0, 10, "gross"))
    if verdict.outcome != "fail":
        return 0, verdict.reason
    return sum(r.arm == "canary" and r.started_at <= at for r in records), verdict.reason


def few(records: list[Record], sessions: int) -> None:
    """Have the canary's requests come from so few sessions."""
    for each in records:
        if each.arm == "canary":
            each.session = 1 + each.session % sessions


def watch(
    records: list[Record], settings: Settings, step: Step, *, span_s: float = 10.0
) -> tuple[float, Verdict]:
    """Judge each second as a controller does; return when it failed, or the end, and the last."""
    folder, ledger = Folder(span_s=span_s), Ledger(settings, "stable", "canary")
    ledger.enter(step)
    coming, running = deque(records), list[Record]()
    for now in range(1, math.ceil(records[-1].started_at)):
        while coming and coming[0].started_at <= now:
            running.append(coming.popleft())
        for each in running:
            if each.started_at + each.duration_s <= now:
                folder.fold(each)
        running = [r for r in running if r.started_at + r.duration_s > now]
        folder.look(running, float(now))
        ledger.absorb(folder.take())
        ledger.advance(float(now))
        verdict = decide(ledger, float(now), details=False)
        if verdict.outcome == "fail":
            break
    return float(now), verdict


def test_a_canary_that_fails_half_its_requests_is_caught_within_twenty():
    requests, reason = watch_live(Arm(errors=0.5))
    assert reason == "Tripwire"
    assert requests <= 20


def test_a_canary_that_hangs_is_caught():
    requests, reason = watch_live(Arm(hang=True))
    assert reason == "Tripwire"
    assert requests <= 40


def test_a_usual_number_of_errors_trips_nothing():
    assert watch_live(Arm(errors=0.01))[1] != "Tripwire"


def test_two_sessions_that_always_fail_trip_nothing():
    assert watch_live(Arm(errors=0.5), weight=0.02, sessions=2)[1] != "Tripwire"


def test_what_hits_both_arms_is_not_the_canary_s():
    rng = Random(6)
    bad = Arm(errors=0.5)
    verdict = verdict_of(
        folded(traffic(rng, seconds=1500, rate=4, weight=0.3, canary=bad, stable=bad)), seconds=900
    )
    assert verdict.outcome != "fail", explain(verdict)


# clients that leave before the first byte

SILENT = Arm(hang=True, patience_s=5.0)


def beside(
    canary: Arm,
    stable: Arm,
    *,
    seconds: int = 120,
    rate: float = 4.0,
    weight: float = 0.5,
    seed: int = 12,
) -> list[Record]:
    """Stable traffic alone for a minute, then both arms."""
    rng = Random(seed)
    after = traffic(
        rng, seconds=seconds, rate=rate, weight=weight, canary=canary, stable=stable, start=60.0
    )
    return [*traffic(rng, seconds=60, rate=rate, weight=0.0), *after]


@pytest.mark.parametrize("weight", [0.1, 0.5])
@pytest.mark.parametrize("settings", [Settings(), BRISK], ids=["production", "demo"])
def test_a_canary_that_hangs_is_found_soon_after_its_clients_gave_up(
    settings: Settings, weight: float
):
    records = beside(SILENT, Arm(), weight=weight)
    at, verdict = watch(records, settings, Step(60.0, 50, "gross"), span_s=1.0)
    assert verdict.reason == "Tripwire", explain(verdict)
    assert "without a first byte" in verdict.message
    assert at - 60.0 < (20.0 if weight == 0.5 else 40.0)


def test_requests_without_a_session_hang_too():
    records = beside(SILENT, Arm())
    for each in records:
        each.session = 0
    assert watch(records, BRISK, Step(60.0, 50), span_s=1.0)[1].reason == "Tripwire"


def test_two_clients_whose_requests_hang_trip_nothing():
    records = beside(SILENT, Arm(), weight=0.05)
    few(records, 2)
    assert watch(records, BRISK, Step(60.0, 5, "gross"), span_s=1.0)[1].outcome != "fail"


@pytest.mark.parametrize(
    ("patience_s", "words"),
    [(5.0, "5.11 s against 502 ms: 10 times"), (20.0, "far beyond the stable's 502 ms")],
)
def test_without_a_tripwire_the_time_to_the_first_byte_tells(patience_s: float, words: str):
    settings = msgspec.structs.replace(BRISK, tripwires=False)
    canary = Arm(hang=True, patience_s=patience_s)
    at, verdict = watch(beside(canary, Arm(), rate=20), settings, Step(60.0, 50), span_s=1.0)
    assert failed(verdict) >= {"ttft_p50"}
    assert verdict.message.startswith(f"TTFT p50: {words}"), verdict.message
    assert at - 60.0 < 30.0


def test_half_of_the_requests_that_hang_are_enough_for_the_margins():
    """What is answered is as quick as the stable's: only the waits tell."""
    rng = Random(13)
    records = beside(SILENT, Arm(), rate=8, seconds=900)
    for index, each in enumerate(records):
        if each.arm == "canary" and rng.random() < 0.5:
            records[index] = record(rng, Arm(), "canary", each.started_at)
    settings = Settings(
        metrics=tuple(each for each in METRICS if each.name.startswith("ttft")), tripwires=False
    )
    verdict = judge(
        folded(iter(records)),
        settings,
        1200.0,
        steps=[Step(60.0, 50)],
        stable="stable",
        canary="canary",
    )
    assert failed(verdict) == {"ttft_p50", "ttft_p95"}, explain(verdict)


@pytest.mark.parametrize("patience_s", [0.3, 0.6, 1.0, 2.5])
@pytest.mark.parametrize("settings", [Settings(), BRISK], ids=["production", "demo"])
def test_clients_that_leave_both_arms_alike_fail_nobody(settings: Settings, patience_s: float):
    arm = Arm(patience_s=patience_s)
    for seed in range(2):
        records = beside(arm, arm, seconds=400, seed=seed)
        _, verdict = watch(records, settings, Step(60.0, 50), span_s=1.0)
        assert verdict.outcome != "fail", explain(verdict)


def test_clients_that_leave_before_the_stable_answers_say_nothing_of_the_canary():
    records = beside(Arm(hang=True, patience_s=0.4), Arm(), seconds=200)
    settings = Settings(metrics=tuple(m for m in METRICS if m.name != "abandoned"))
    _, verdict = watch(records, settings, Step(60.0, 50), span_s=1.0)
    assert verdict.outcome == "continue", explain(verdict)


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("settings", [Settings(), BRISK], ids=["production", "demo"])
def test_where_both_arms_hang_at_once_it_is_not_the_canary_s(settings: Settings, weight: float):
    for seed in range(3):
        records = beside(Arm(), Arm(), seconds=60, weight=weight, rate=10, seed=seed)
        rng = Random(seed)
        for index, each in enumerate(records):
            if each.started_at > 90.0:
                records[index] = record(rng, SILENT, each.arm, each.started_at)
        _, verdict = watch(records, settings, Step(60.0, 50), span_s=1.0)
        assert verdict.outcome != "fail", explain(verdict)


def test_at_full_weight_clients_that_left_trip_it_too():
    records = beside(Arm(), Arm(), weight=1.0, seconds=120)
    rng = Random(1)
    for index, each in enumerate(records):
        if each.started_at > 120.0:
            records[index] = record(rng, SILENT, each.arm, each.started_at)
    at, verdict = watch(records, Settings(), Step(60.0, 100, "watch"), span_s=1.0)
    assert verdict.reason == "Tripwire"
    assert at < 160.0


def test_in_a_demo_requests_under_way_at_the_deadline_count_as_slow():
    """The worker's own deadline is longer: it has counted nothing of them by then."""
    settings = msgspec.structs.replace(BRISK, tripwires=False)
    records = beside(Arm(hang=True), Arm(), rate=20)
    at, verdict = watch(records, settings, Step(60.0, 50), span_s=1.0)
    assert failed(verdict) >= {"ttft_p50"}
    assert at - 60.0 < 30.0


# steps without a stable, rare metrics, quick settings


def test_at_full_weight_only_tripwires_look():
    watch = [Step(BEFORE_S, 100, "watch")]
    few = folded(traffic(Random(1), seconds=10, rate=1, weight=1.0, start=BEFORE_S))
    many = folded(traffic(Random(1), seconds=60, rate=1, weight=1.0, start=BEFORE_S))
    names = {"stable": "stable", "canary": "canary"}
    assert judge(few, Settings(), 700.0, steps=watch, **names).outcome == "continue"
    assert judge(many, Settings(), 700.0, steps=watch, **names).outcome == "pass"


def test_a_metric_that_few_requests_have_is_not_waited_for():
    rng = Random(9)
    records = list(traffic(rng, seconds=3600, rate=4, weight=0.3, canary=Arm(ttft_s=0.5)))
    for index, each in enumerate(records):
        if index % 50:
            each.streamed, each.ttft_s, each.output_tokens = False, each.duration_s, 50
    verdict = verdict_of(folded(iter(records)), seconds=3000)
    ttft = next(each for each in verdict.findings if each.metric == "ttft_p95")
    assert not ttft.asked
    assert "too few requests" in ttft.message
    assert verdict.outcome == "pass", explain(verdict)


def test_short_units_decide_in_half_a_minute():
    quick = Settings(
        unit_s=1,
        quick_unit_s=1,
        metrics=tuple(m for m in METRICS if m.name in ("errors", "ttft_p50")),
    )
    rng = Random(10)
    records = chain(
        traffic(rng, seconds=20, rate=40, weight=0.0),
        traffic(rng, seconds=40, rate=40, weight=0.3, start=20.0),
    )
    verdict = judge(
        folded(records, span_s=1.0),
        quick,
        70.0,
        steps=[Step(20.0, 30, "gross")],
        stable="stable",
        canary="canary",
    )
    assert verdict.outcome == "pass", explain(verdict)


# words


def test_an_explanation_has_a_line_for_each_metric():
    verdict = verdict_of(blocks_of(canary=Arm(ttft_s=0.8), seconds=1200), seconds=1200)
    text = explain(verdict)
    assert text.splitlines()[0].startswith("Bad: TTFT p50")
    for each in METRICS:
        assert each.label in text
    assert "FAIL" in text


def test_evidence_fits_a_status():
    verdict = verdict_of(blocks_of(canary=Arm(), seconds=900), seconds=900)
    told = {each.metric: each for each in verdict.evidence}
    assert told["errors"].requests > 0
    assert told["ttft_p50"].canary == pytest.approx(0.5, rel=0.2)
    assert told["ttft_p50"].stable == pytest.approx(0.5, rel=0.2)


def test_a_late_block_is_counted_as_late():
    ledger = ledger_of(blocks_of(canary=Arm(), seconds=300))
    ledger.advance(BEFORE_S + 2000.0)
    ledger.absorb(folded(iter([record(Random(1), Arm(), "canary", 650.0)])))
    assert ledger.late == 1
