"""Evidence as a person would say it: one sentence a metric, with its numbers."""

import math
from typing import TYPE_CHECKING

from tidegate.judge.metrics import Quantile
from tidegate.judge.pairs import Count, Paired
from tidegate.judge.planner import SLOW, Exposure, Plan
from tidegate.judge.sequential import Allowed, RobustTest
from tidegate.judge.tracks import Track

if TYPE_CHECKING:
    from tidegate.judge.verdict import Finding, Verdict


def tell(finding: "Finding", track: Track, test: RobustTest, *, gross: bool) -> str:
    """Return what the metric's test has seen, and what is allowed."""
    metric = track.metric
    if not track.concerned:
        told = "no request has it yet"
    elif isinstance(metric, Quantile):
        told = _tell_quantile(finding, metric, gross=gross)
    else:
        told = _tell_rate(test)
    if track.concerned and track.is_rare():
        told += "; too few requests have it to wait for"
    if finding.suspect and finding.outcome != "fail":
        told += "; it looks worse, so no step passes yet"
    return f"{metric.label}: {told}"


def _tell_quantile(finding: "Finding", metric: Quantile, *, gross: bool) -> str:
    margin = (metric.gross if gross else None) or metric.margin
    allowed = f"at most {100 * margin:.0f} % {'less' if metric.less_is_worse else 'more'} allowed"
    ratio = finding.ratio
    if ratio is None or finding.stable is None or finding.canary is None:
        if finding.outcome == "fail" and finding.stable is not None:
            return f"far beyond the stable's {_value(finding.stable, metric.unit)}, {allowed}"
        return f"not measured yet ({allowed})"
    low, high = _change(ratio.low), _change(ratio.high)
    between = f" ({low} to {high})" if {low, high} != {_ANYTHING} else ""
    return (
        f"{_value(finding.canary, metric.unit)} against {_value(finding.stable, metric.unit)}:"
        f" {_change(ratio.value)}{between}, {allowed}"
    )


def _tell_rate(test: RobustTest) -> str:
    totals, allowed = test.totals, test.allowed
    if not totals.canary or not totals.stable:
        return f"not measured yet ({_allowed(allowed)})"
    return (
        f"{_count(totals.canary_bad, totals.canary)} of the canary against"
        f" {_count(totals.stable_bad, totals.stable)}, {_allowed(allowed)}"
    )


def tell_pairs(paired: Paired, count: Count) -> str:
    """Return how the pairs came out."""
    if not count.total:
        return f"{paired.label}: no pairs yet"
    told = f"worse in {count.worse:,}, better in {count.better:,} of {count.total:,} pairs"
    if paired.factor != 1:
        return (
            f"{paired.label}: beyond {paired.factor:g} times in {count.worse:,} of {count.total:,}"
        )
    return f"{paired.label}: {told}, allowed are {_percent(paired.margin)} more"


def tell_values(
    paired: Paired, count: Count, latest: tuple[float, float] | None, unknown: str
) -> str:
    """Return how values from outside came out."""
    if latest is None:
        return f"{paired.label}: no value yet" + (f" ({unknown})" if unknown else "")
    times = f"{paired.factor:.3g} times " if paired.bound is None else ""
    other = "that" if paired.bound is None else "the budget"
    told = f"{latest[0]:.4g} against {latest[1]:.4g}"
    beyond = "below" if paired.less_is_worse else "above"
    told += f", {beyond} {times}{other} in {count.worse:,} of {count.total:,} looks"
    return f"{paired.label}: {told}" + (f"; now unknown ({unknown})" if unknown else "")


def _count(bad: float, among: float) -> str:
    return f"{bad:,.0f} of {among:,.0f} ({_percent(bad / among)})"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def _allowed(allowed: Allowed) -> str:
    times = f"{allowed.times:g} times that" if allowed.times != 1 else "that"
    return f"allowed is {times}" + (f" + {_percent(allowed.plus)}" if allowed.plus else "")


_ANYTHING = "anything"


def _change(ratio: float) -> str:
    if ratio == 0 or math.isinf(ratio):
        return _ANYTHING
    percent = 100 * (ratio - 1)
    return f"{percent:+.0f} %" if percent < 400 else f"{ratio:.0f} times"


def _value(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} {unit}"


def spell_left(minutes: float | None) -> str:
    """Return how long it will take, as people say it."""
    if minutes is None:
        return "waits"
    if minutes < 1.5:
        return "about a minute more"
    if minutes < 90:
        return f"about {minutes:.0f} minutes more"
    return f"about {minutes / 60:.1f} hours more"


_HEAD = {
    "pass": "Good",
    "fail": "Bad",
    "continue": "Not yet",
    "inconclusive": "Nobody can tell",
}


def explain(verdict: "Verdict") -> str:
    """Return the verdict with all that it rests on, a line a metric."""
    lines = [f"{_HEAD[verdict.outcome]}: {verdict.message}."]
    marked = [(_mark(each), each.message or each.label) for each in verdict.findings]
    marked.sort(key=lambda line: _ORDER.index(line[0].split()[0]))
    return "\n".join(lines + [f"  {mark:<10}{message}" for mark, message in marked])


_ORDER = ("FAIL", "suspect", "open", "ok", "later", "info")


def _mark(finding: "Finding") -> str:
    if finding.role == "informative":
        return "info"
    if finding.outcome == "fail":
        return "FAIL"
    if finding.suspect:
        return "suspect"
    if finding.outcome == "pass":
        return "ok"
    return f"open {100 * finding.progress:.0f} %" if finding.asked else "later"


def tell_plan(plan: Plan) -> str:
    """Return a plan as a person would say it."""
    lines = [f"At {plan.rate:.3g} requests a second, if the canary is as good as the stable:"]
    for step in plan.steps:
        took = "never" if step.minutes is None else f"{step.minutes:.0f} min"
        asks = "nothing gross" if step.claim == "gross" else "the margins"
        lines.append(f"  {step.weight:>3} %  {took:>8}  to show {asks}; slowest: {step.slowest}")
    total = plan.minutes
    if total is not None:
        slow = total * SLOW
        lines.append(f"  all    {total:.0f} min on average; nine of ten need less than {slow:.0f}")
    lines.append(f"If it is worse, at {plan.steps[0].weight} %:" if plan.steps else "")
    lines += [f"  {each.harm:<16} {_exposure(each)}" for each in plan.exposures]
    return "\n".join(lines + [f"Advice: {each}." for each in plan.advice])


def _exposure(exposure: Exposure) -> str:
    if exposure.within:
        return "is within the margins, and passes"
    if exposure.minutes is None:
        return "is not found at this weight; the rollout waits"
    return (
        f"is found in {exposure.minutes:.0f} min, after {exposure.requests:,} requests,"
        f" by {exposure.by}"
    )
