"""From evidence to a verdict, and from a verdict to a sentence.

Any required metric may fail the canary: the chance of a mistake is shared out among metrics,
tests and steps, so the whole rollout has it once. All must pass together, so each may use the
whole chance of its kind (Berger 1982, intersection-union). No data holds; it never fails.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from tidegate.api.rollout import Evidence
from tidegate.judge import words
from tidegate.judge.block import Block
from tidegate.judge.intervals import Ratio, quantile_ratio, rate_ratio
from tidegate.judge.ledger import Claim, Ledger, Step
from tidegate.judge.metrics import Quantile, Settings
from tidegate.judge.pairs import Count, Paired
from tidegate.judge.planner import Traffic, units_needed
from tidegate.judge.role import Role
from tidegate.judge.sequential import RobustTest, pair_evidence, rate_interval
from tidegate.judge.tracks import QuantileTrack, Track

Outcome = Literal["pass", "fail", "continue", "inconclusive"]
SUSPICION: Final = 5.0
"""Evidence for a fail at which no step passes, though it is not enough to fail."""
WATCHED: Final = 20
"""Requests of the canary that a step without a comparison must have seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one metric says."""

    metric: str
    label: str
    outcome: Outcome
    asked: bool
    """Whether the step waits for it."""
    role: Role
    message: str = ""
    canary: float | None = None
    """A rate, or for quantiles the stable's value times the ratio: for the same mix."""
    stable: float | None = None
    ratio: Ratio | None = None
    requests: int = 0
    """Of the canary, in this step's test."""
    suspect: bool = False
    """Its evidence leans towards a fail: no step passes meanwhile."""
    progress: float = 0.0
    """How far the evidence for a pass has come, 0..1."""
    minutes_left: float | None = None
    """Expected at today's traffic if the canary is like the stable; None: nobody can say."""

    def status(self) -> Evidence:
        """Return it as an InferenceRollout's status has it."""
        return Evidence(
            metric=self.metric,
            outcome=self.outcome,
            message=self.message,
            canary=None if self.canary is None else round(self.canary, 6),
            stable=None if self.stable is None else round(self.stable, 6),
            requests=self.requests,
            asked=self.asked,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be done, and why."""

    outcome: Outcome
    reason: str
    """CamelCase."""
    message: str
    """A sentence with numbers."""
    findings: tuple[Finding, ...] = ()
    waits_for: str = ""
    """The label of the metric that takes longest."""
    minutes_left: float | None = None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The findings as a status has them."""
        return tuple(each.status() for each in self.findings)


def judge(
    blocks: Iterable[Block],
    settings: Settings,
    now: float,
    *,
    steps: Sequence[Step],
    stable: str,
    canary: str,
    scope: str = "",
) -> Verdict:
    """Return the verdict on all blocks of a rollout at `now` (seconds since the epoch).

    Whoever judges again and again keeps a `Ledger` and calls `decide`: it gives the same.
    """
    ledger = Ledger(settings, stable, canary, scope)
    for step in steps:
        ledger.enter(step)
    ledger.absorb(blocks)
    ledger.advance(now)
    return decide(ledger, now)


def decide(ledger: Ledger, now: float, *, details: bool = True) -> Verdict:
    """Return the verdict at `now`, for which the ledger was advanced.

    Without `details`, only what failed has numbers and words: cheap enough for each second.
    """
    step = ledger.current
    if step is None:
        return Verdict(outcome="continue", reason="NotStarted", message="no step has begun")
    findings = tuple(_find(ledger, track, now, details=details) for track in ledger.tracks)
    findings += tuple(_find_pairs(ledger, paired) for paired in _paired(ledger))
    if ledger.tripwire.message:
        return Verdict(
            outcome="fail", reason="Tripwire", message=ledger.tripwire.message, findings=findings
        )
    failed = [each for each in findings if each.outcome == "fail" and each.role == "required"]
    if failed:
        message = "; ".join(each.message for each in failed)
        return Verdict(outcome="fail", reason="Worse", message=message, findings=findings)
    return _waiting(ledger, step, findings, now)


def _paired(ledger: Ledger) -> Iterator[Paired]:
    """Yield what is compared in pairs; those of shadows only where there are any."""
    paired = ledger.settings.paired
    shadowed = any(each.name in ledger.pairs.counts for each in paired if each.of == "requests")
    for each in paired:
        if each.of == "values" or shadowed or ledger.steps[-1].claim == "pairs":
            yield each


def _waiting(ledger: Ledger, step: Step, findings: tuple[Finding, ...], now: float) -> Verdict:
    if step.claim == "watch":
        return _watched(ledger, findings)
    open_ = [each for each in findings if (each.asked and each.outcome != "pass") or each.suspect]
    asked = [each for each in findings if each.asked]
    if asked and not open_:
        message = f"at {step.weight} % the canary is {_CLAIMS[step.claim]}, in {len(asked)} metrics"
        return Verdict(outcome="pass", reason="Passed", message=message, findings=findings)
    slowest = max(open_, key=_slowness, default=None)
    label = slowest.label if slowest else "requests"
    left = slowest.minutes_left if slowest else None
    waits = slowest.message or label if slowest else "requests of both arms"
    if now - _began(ledger) >= ledger.settings.max_duration_s:
        return Verdict(
            outcome="inconclusive",
            reason="MaxDuration",
            message=f"the time is over and nothing is proven either way; it waited for {waits}",
            findings=findings,
            waits_for=label,
        )
    return Verdict(
        outcome="continue",
        reason="NotYet",
        message=f"{words.spell_left(left)} for {waits}",
        findings=findings,
        waits_for=label,
        minutes_left=left,
    )


_CLAIMS: Final[dict[Claim, str]] = {
    "gross": "not grossly worse",
    "margin": "within the margins",
    "pairs": "as good in pairs",
    "watch": "no catastrophe",
}


def _slowness(finding: Finding) -> float:
    return math.inf if finding.minutes_left is None else finding.minutes_left


def _began(ledger: Ledger) -> float:
    return next((step.at for step in ledger.steps if step.weight > 0), ledger.steps[0].at)


def _watched(ledger: Ledger, findings: tuple[Finding, ...]) -> Verdict:
    seen = ledger.seen_in_step
    if seen < WATCHED:
        message = f"the canary has had {seen} requests, {WATCHED} are needed"
        return Verdict(outcome="continue", reason="TooFewRequests", message=message)
    message = f"{seen} requests of the canary and no tripwire; there is no stable to compare with"
    return Verdict(outcome="pass", reason="NoTripwire", message=message, findings=findings)


# one metric


def _find(ledger: Ledger, track: Track, now: float, *, details: bool) -> Finding:
    metric, step = track.metric, ledger.steps[-1]
    gross = step.claim == "gross"
    test = track.gross if gross else track.step
    outcome = _outcome(ledger, track, test)
    asked = (
        metric.role == "required"
        and step.claim in ("gross", "margin")
        and not (gross and metric.gross is None)
        and not track.is_rare()
    )
    finding = Finding(
        metric=metric.name,
        label=metric.label,
        outcome=outcome,
        asked=asked,
        role=metric.role,
        requests=round(test.totals.canary),
        suspect=metric.role == "required" and _leans(track),
        progress=min(1.0, max(0.0, -test.log_pass / math.log(ledger.settings.alpha_pass))),
    )
    if not details and outcome != "fail":
        return finding
    ratio = _ratio(track)
    canary, stable = _values(track, test, ratio)
    waiting = asked and outcome == "continue" and not finding.suspect
    left = _minutes_left(ledger, track, test, now) if waiting else None
    finding = replace(finding, canary=canary, stable=stable, ratio=ratio, minutes_left=left)
    return replace(finding, message=words.tell(finding, track, test, gross=gross))


def _find_pairs(ledger: Ledger, paired: Paired) -> Finding:
    settings, count = ledger.settings, ledger.pairs.counts.get(paired.name, Count())
    fail, passed = pair_evidence(count.worse, count.better, count.same, paired.margin)
    bar = -math.log(settings.alpha_pass)
    alpha_fail = settings.alpha_fail / _required(settings)
    outcome: Outcome = "pass" if passed >= bar else "continue"
    if fail >= -math.log(alpha_fail):
        outcome = "fail"
    canary, stable = ledger.latest.get(paired.name, (None, None))
    return Finding(
        metric=paired.name,
        label=paired.label,
        canary=canary,
        stable=stable,
        outcome=outcome,
        asked=paired.role == "required" and _is_asked(ledger, paired, count),
        role=paired.role,
        message=_told(ledger, paired, count),
        requests=count.total,
        progress=min(1.0, max(0.0, passed / bar)),
    )


def _told(ledger: Ledger, paired: Paired, count: Count) -> str:
    if paired.of == "requests":
        return words.tell_pairs(paired, count)
    return words.tell_values(
        paired, count, ledger.latest.get(paired.name), ledger.unknown.get(paired.name, "")
    )


def _is_asked(ledger: Ledger, paired: Paired, count: Count) -> bool:
    claim = ledger.steps[-1].claim
    if paired.of == "values":
        return claim in ("gross", "margin")
    # What nobody could compare, such as checks that are off, doesn't hold.
    known = any(
        each.name in ledger.pairs.counts for each in ledger.settings.paired if each.of == "requests"
    )
    return claim == "pairs" and (count.total > 0 or not known)


def _required(settings: Settings) -> int:
    """Return among how many metrics the chance of a false fail is shared."""
    each = [*settings.metrics, *settings.paired]
    return sum(metric.role == "required" for metric in each) or 1


def _outcome(ledger: Ledger, track: Track, test: RobustTest) -> Outcome:
    settings = ledger.settings
    if _has_failed(ledger, track):
        return "fail"
    if _leans(track):
        return "continue"
    return "pass" if test.log_pass >= -math.log(settings.alpha_pass) else "continue"


def _leans(track: Track) -> bool:
    return max(track.cumulative.leaning, track.step.leaning) >= math.log(SUSPICION)


def _has_failed(ledger: Ledger, track: Track) -> bool:
    """Whether any of its tests says so, each with its part of the chance.

    Half goes to the rollout as a whole, a quarter each to margin and gross margin at single
    steps, of which the k-th gets 1 / (k (k + 1)): all of them together the whole, however many.
    """
    settings = ledger.settings
    share = settings.alpha_fail / _required(settings)
    number = track.step_index + 1
    step = share / 4 / (number * (number + 1)) if number else share / 8
    if _over_budget(track, share):
        return True
    return (
        track.cumulative.log_fail >= -math.log(share / 2)
        or track.step.log_fail >= -math.log(step)
        or (track.metric.gross is not None and track.gross.log_fail >= -math.log(step))
    )


def _over_budget(track: Track, alpha: float) -> bool:
    metric, totals = track.metric, track.cumulative.totals
    if isinstance(metric, Quantile) or metric.budget is None or not totals.canary:
        return False
    return rate_interval(totals.canary_bad, totals.canary, alpha)[0] > metric.budget


def _ratio(track: Track) -> Ratio | None:
    """Return the ratio at this step's load; where the step is young, over the rollout."""
    young = track.step.units < track.step.least_units <= track.cumulative.units
    since = 0 if young else track.step_from
    units = track.units[since:]
    if isinstance(track, QuantileTrack):
        return quantile_ratio(units, track.relatives[since:])
    return rate_ratio(units)


def _values(
    track: Track, test: RobustTest, ratio: Ratio | None
) -> tuple[float | None, float | None]:
    """Return what people want to see of canary and stable."""
    if isinstance(track, QuantileTrack):
        stable = track.stable_value
        return None if stable is None or ratio is None else stable * ratio.value, stable
    totals = test.totals
    return (
        totals.canary_bad / totals.canary if totals.canary else None,
        totals.stable_bad / totals.stable if totals.stable else None,
    )


def _minutes_left(ledger: Ledger, track: Track, test: RobustTest, now: float) -> float | None:
    """Return how long an average canary that is like the stable would still take."""
    if not test.units:
        return None
    totals, units = test.totals, test.units
    stable_rate = totals.stable_bad / totals.stable
    traffic = Traffic(
        totals.canary / units,
        totals.stable / units,
        _equal_rate(track, stable_rate, gross=test is track.gross),
        stable_rate,
    )
    bar = -math.log(ledger.settings.alpha_pass)
    needed = units_needed(traffic, test.allowed, bar, to_fail=False, least=test.least_units)
    if needed is None:
        return None
    unit_s = max(1.0, now - ledger.steps[-1].at) / units
    # It may be behind the average: then what it still lacks counts, at the average pace.
    behind = max(0.0, bar - max(0.0, test.log_pass)) / bar * needed
    return max(needed - units, min(behind, needed), 1) * unit_s / 60


def _equal_rate(track: Track, stable_rate: float, *, gross: bool) -> float:
    """Return the canary's expected rate if it is like the stable."""
    if not isinstance(track, QuantileTrack):
        return stable_rate
    metric = track.metric
    return track.beyond(1 + ((metric.gross if gross else None) or metric.margin))
