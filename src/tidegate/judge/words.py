"""Evidence as a person would say it: one sentence a metric, with its numbers."""

import math
from typing import TYPE_CHECKING

from tidegate.judge.metrics import Quantile
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
        return f"not measured yet ({allowed})"
    low, high = _change(ratio.low), _change(ratio.high)
    return (
        f"{_value(finding.canary, metric.unit)} against {_value(finding.stable, metric.unit)}:"
        f" {_change(ratio.value)} ({low} to {high}), {allowed}"
    )


def _tell_rate(test: RobustTest) -> str:
    totals, allowed = test.totals, test.allowed
    if not totals.canary or not totals.stable:
        return f"not measured yet ({_allowed(allowed)})"
    return (
        f"{_count(totals.canary_bad, totals.canary)} of the canary against"
        f" {_count(totals.stable_bad, totals.stable)}, {_allowed(allowed)}"
    )


def _count(bad: float, among: float) -> str:
    return f"{bad:,.0f} of {among:,.0f} ({_percent(bad / among)})"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def _allowed(allowed: Allowed) -> str:
    times = f"{allowed.times:g} times that" if allowed.times != 1 else "that"
    return f"allowed is {times}" + (f" + {_percent(allowed.plus)}" if allowed.plus else "")


def _change(ratio: float) -> str:
    if ratio == 0 or math.isinf(ratio):
        return "anything"
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
