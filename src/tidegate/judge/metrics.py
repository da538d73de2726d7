"""What is compared, and how much worse the canary may be.

A metric turns a block into counts of bad requests among those that it concerns. A rate counts
them as they are; a quantile counts requests beyond the stable's own recent quantile (for the
canary, times the margin), so one test decides them all. Each has a margin with a meaning, and
maybe a gross one: what no step may exceed, shown in minutes where the margin takes an hour.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from tidegate.api.errors import FieldError
from tidegate.judge.pairs import Paired
from tidegate.judge.role import Role
from tidegate.judge.sequential import Allowed

Ripens = Literal["first", "end"]
"""When a block's counts are final: past the deadline of first bytes, or of whole answers."""


class Rate(msgspec.Struct, frozen=True, kw_only=True, tag="rate"):
    """A share of requests."""

    name: str
    label: str
    """As people say it."""
    bad: str
    """The field of `Block` that is counted."""
    among: str = "requests"
    """The field of `Block` that it is a share of."""
    allowed: Allowed = Allowed(1.25, 0.01)
    """At the end of the rollout: a quarter more than the stable's, plus one percent point."""
    gross: Allowed | None = Allowed(1.5, 0.1)
    """At every step: half more than the stable's, plus ten percent points. None: not asked
    before the last step."""
    budget: float | None = None
    """The most that the canary's rate may be, whatever the stable's."""
    role: Role = "required"
    ripens: Ripens = "first"


class Quantile(msgspec.Struct, frozen=True, kw_only=True, tag="quantile"):
    """A quantile of a histogram."""

    name: str
    label: str
    histogram: str
    """The field of `Block`."""
    q: float
    """Which quantile, 0..1."""
    margin: float
    """How much worse it may be: 0.2 is 20 % more (where `less_is_worse`, 1/1.2 of it)."""
    gross: float | None = None
    """The same for every step. None: not asked before the last step."""
    longer_than: str = ""
    """The field of `Block` with values of which it is only known that they were greater."""
    less_is_worse: bool = False
    unit: str = "s"
    role: Role = "required"
    ripens: Ripens = "first"


Metric = Rate | Quantile

METRICS: Final[tuple[Metric, ...]] = (
    Rate(name="errors", label="errors", bad="errors"),
    Rate(name="client_errors", label="requests refused as wrong (4xx)", bad="client_errors"),
    Rate(name="abandoned", label="clients that left before an answer", bad="abandoned"),
    Rate(name="broken", label="broken answers", bad="broken", among="finished", ripens="end"),
    Rate(name="empty", label="empty answers", bad="empty", among="completed", ripens="end"),
    Rate(
        name="invalid",
        label="answers that break their schema",
        bad="invalid",
        among="checked",
        ripens="end",
    ),
    Rate(
        name="refused",
        label="refusals",
        bad="refused",
        among="checked",
        allowed=Allowed(1.25, 0.02),
        ripens="end",
    ),
    Quantile(
        name="ttft_p50",
        label="TTFT p50",
        histogram="ttft",
        longer_than="left",
        q=0.5,
        margin=0.15,
        gross=0.5,
    ),
    Quantile(
        name="ttft_p95", label="TTFT p95", histogram="ttft", longer_than="left", q=0.95, margin=0.2
    ),
    Quantile(
        name="itl_p50",
        label="inter-token p50",
        histogram="itl",
        q=0.5,
        margin=0.1,
        gross=0.3,
        ripens="end",
    ),
    Quantile(
        name="itl_p95", label="inter-token p95", histogram="itl", q=0.95, margin=0.3, ripens="end"
    ),
    Quantile(
        name="per_token_p95",
        label="time per output token p95",
        histogram="per_token",
        q=0.95,
        margin=0.2,
        role="informative",
        ripens="end",
    ),
    Quantile(
        name="longer",
        label="output length p50 (longer)",
        histogram="output",
        q=0.5,
        margin=0.25,
        unit="tokens",
        role="informative",
        ripens="end",
    ),
    Quantile(
        name="shorter",
        label="output length p50 (shorter)",
        histogram="output",
        q=0.5,
        margin=0.25,
        less_is_worse=True,
        unit="tokens",
        role="informative",
        ripens="end",
    ),
    Rate(
        name="truncated",
        label="answers cut at their token limit",
        bad="truncated",
        among="completed",
        allowed=Allowed(1.25, 0.02),
        role="informative",
        ripens="end",
    ),
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to judge. All times in seconds."""

    metrics: tuple[Metric, ...] = METRICS
    paired: tuple[Paired, ...] = ()
    """What is compared in pairs: `pairs.SHADOW`, and values from outside."""
    alpha_fail: float = 0.05
    """The chance to fail a canary that is just within all margins, over the whole rollout.
    An equal one is much safer, for it is nowhere near them."""
    alpha_pass: float = 0.05
    """The chance to pass a step with a canary that is just beyond one margin."""
    deadline_s: float = 30.0
    """Without a first byte by then a request hangs; with it, blocks are final for `first`."""
    finish_s: float = 120.0
    """When a block is final for `end`: what runs longer is judged by its first byte only."""
    unit_s: float = 30.0
    """Blocks are summed to at least this before they count as one observation. Short units
    are quick, and believe that what happens in one says nothing of the next."""
    quick_unit_s: float = 10.0
    """The same for gross margins, where there is room for a mistake. Blocks that are shorter
    are put together to buckets of this before anything else is done."""
    least_units: int = 20
    """Units before a margin's test may decide."""
    least_quick_units: int = 12
    least_canary: int = 2
    """Canary requests in a unit: at low traffic units last longer."""
    longest_unit_s: float = 300.0
    least_share: float = 0.1
    """A metric that concerns fewer of the stable's requests is not waited for."""
    max_duration_s: float = 86_400.0
    """Without a verdict by then it is inconclusive."""
    threshold_memory_s: float = 600.0
    """How far back the stable's quantiles look (half-life)."""
    tripwires: bool = True


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants otherwise of one metric. None leaves it as it is."""

    margin: float | None = None
    """Of a quantile, how much worse (0.2: 20 %); of a rate, how much more (0.01: one point)."""
    gross: float | None = None
    """The same for every step; 0 doesn't ask before the last step."""
    budget: float | None = None
    """Of a rate: the most that it may be."""
    role: Role | None = None


def adjusted(metrics: Iterable[Metric], changes: Mapping[str, Change]) -> tuple[Metric, ...]:
    """Return the metrics with the changes by name.

    Raises:
        FieldError: There is no such metric, or it can't have what is wanted.

    """
    known = {metric.name: metric for metric in metrics}
    for name, change in changes.items():
        if name not in known:
            raise FieldError("metrics", name, f"one of {', '.join(known)}")
        known[name] = _adjusted(known[name], change)
    return tuple(known.values())


def _adjusted(metric: Metric, change: Change) -> Metric:
    role = metric.role if change.role is None else change.role
    if isinstance(metric, Quantile):
        if change.budget is not None:
            raise FieldError(f"metrics.{metric.name}.budget", change.budget, "a rate's; none here")
        margin = metric.margin if change.margin is None else change.margin
        gross = metric.gross if change.gross is None else change.gross or None
        return replace(metric, margin=margin, gross=gross, role=role)
    allowed, gross_allowed = metric.allowed, metric.gross
    if change.margin is not None:
        allowed = Allowed(allowed.times, change.margin)
    if change.gross is not None:
        times = gross_allowed.times if gross_allowed else allowed.times
        gross_allowed = Allowed(times, change.gross) if change.gross else None
    budget = metric.budget if change.budget is None else change.budget
    return replace(metric, allowed=allowed, gross=gross_allowed, budget=budget, role=role)


BRISK: Final = Settings(
    metrics=adjusted(
        METRICS,
        {
            name: Change(role="informative")
            for name in ("ttft_p95", "itl_p95", "abandoned", "client_errors", "empty")
        }
        | {
            "errors": Change(margin=0.05),
            "broken": Change(margin=0.05),
            "ttft_p50": Change(margin=0.5),
            "itl_p50": Change(margin=0.3),
        },
    ),
    deadline_s=10.0,
    finish_s=20.0,
    unit_s=1.0,
    quick_unit_s=1.0,
    threshold_memory_s=120.0,
)
"""For demos on steady servers at tens of requests a second: steps of half a minute. Not for
production: it takes each second for another draw."""
