"""A rollout as one HTML page that needs nothing else: what it did over time, and why.

Weights come from the status, what the data plane did from the counts that the controller keeps
on its disk. Without these the page has what the status has.
"""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Final

from tidegate.api.rollout import HistoryEntry, InferenceRollout
from tidegate.cli.rollout.explain import explain
from tidegate.cli.rollout.progress import ENDS, FAILED, progress
from tidegate.cli.rollout.series import Series, Span, series
from tidegate.judge.block import Block
from tidegate.load.charts import Chart, Dots, Line, Stack, draw
from tidegate.load.page import STYLE
from tidegate.rollout.plan import brief

Arm = dict[float, Span]

MORE_STYLE: Final = """
td.left,th.left{text-align:left}
.pass{color:var(--c2)}.fail,.Block{color:var(--bad)}.inconclusive,.Warn{color:var(--c1)}
ol.steps{margin:0;padding-left:24px;columns:2}
ol.steps li.done::marker{color:var(--c2)}
ol.steps li.now{font-weight:600}
ol.steps li.next{color:var(--dim)}
ol.steps li.stopped{color:var(--bad)}
section p{margin:0 0 6px}
"""


def report(rollout: InferenceRollout, now: float, blocks: Iterable[Block] = ()) -> str:
    """Return the page of a rollout.

    Args:
        rollout: Which.
        now: Seconds since the epoch.
        blocks: What the data plane did for it; none where nobody kept it.

    """
    metadata, spec = rollout.metadata, rollout.spec
    title = f"Rollout {metadata.name}"
    subtitle = f"{spec.type} · {spec.stable} → {spec.canary} · namespace {metadata.namespace}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{MORE_STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"
        f'<div class="cards">{"".join(_cards(rollout, now))}</div>'
        f'<div class="charts">{"".join(draw(chart) for chart in _charts(rollout, now, blocks))}'
        f"{_steps(rollout, now)}</div>"
        f"{_words(rollout, now)}{_evidence(rollout)}{_findings(rollout)}{_history(rollout)}"
        "</main></body></html>"
    )


def _cards(rollout: InferenceRollout, now: float) -> Iterator[str]:
    status, weights = rollout.status, rollout.status.weights
    yield _card(status.phase, status.step and f"step {status.step}", bad=status.phase in FAILED)
    yield _card(f"{weights.effective} %", f"of the traffic, {weights.desired} % wanted")
    observed = "—" if weights.observed is None else f"{weights.observed:g} %"
    yield _card(observed, "counted by the gateway")
    times = _times(status.history)
    if times:
        over = status.phase in ENDS
        took = brief(round((times[-1] if over else now) - times[0]))
        yield _card(took, "from its first change to its end" if over else "since its first change")
    if status.evidence:
        requests = max(each.requests for each in status.evidence)
        yield _card(f"{requests:,}", "requests of the canary in the last verdict")


def _card(value: str, text: str, *, bad: bool = False) -> str:
    style = " bad" if bad else ""
    return f'<div class="card{style}"><b>{escape(value)}</b><span>{escape(text)}</span></div>'


def _times(history: Sequence[HistoryEntry]) -> list[float]:
    return [dt.datetime.fromisoformat(entry.time).timestamp() for entry in history]


def _charts(rollout: InferenceRollout, now: float, blocks: Iterable[Block]) -> Iterator[Chart]:
    history = rollout.status.history
    if not history:
        return
    times = _times(history)
    end = times[-1] if rollout.status.phase in ENDS else max(now, times[-1])
    span_s = max(1.0, end - times[0])
    spec = rollout.spec
    seen = series(blocks, stable=spec.stable, canary=spec.canary, begin=times[0], span_s=span_s)
    yield _weight_chart(history, times, span_s, seen)
    if seen.times:
        yield _ttft_chart(rollout, span_s, seen)
        yield _itl_chart(rollout, span_s, seen)
        yield _failure_chart(rollout, span_s, seen)


def _weight_chart(
    history: Sequence[HistoryEntry], times: Sequence[float], span_s: float, seen: Series
) -> Chart:
    effective = [float(entry.weight) for entry in history]
    desired = [float(entry.desired) for entry in history]
    return Chart(
        title="The canary's weight",
        note=f"Since {history[0].time}. Dots: pauses, failures and what people did.",
        marks=[
            Line("effective: allowed and set", _stairs(effective, times, span_s), 0, filled=True),
            Line("desired", _stairs(desired, times, span_s), 3, dashed=True),
            Line("observed: share of requests", seen.shares(), 1),
            Dots("", _marked(history, times), 4),
        ],
        y_format=lambda value: f"{value:g} %",
        x_format=brief,
        x_range=(0.0, span_s),
        y_top=100.0,
    )


def _ttft_chart(rollout: InferenceRollout, span_s: float, seen: Series) -> Chart:
    marks = [
        Line(f"{name} p{100 * q:.0f}", seen.quantiles(arm, lambda each: each.ttft, q), colour, dash)
        for name, arm, colour in _arms(rollout, seen)
        for q, dash in ((0.5, False), (0.95, True))
    ]
    return _times_chart("Time to first token", marks, span_s)


def _itl_chart(rollout: InferenceRollout, span_s: float, seen: Series) -> Chart:
    marks = [
        Line(f"{name} p50", seen.quantiles(arm, lambda each: each.itl, 0.5), colour)
        for name, arm, colour in _arms(rollout, seen)
    ]
    return _times_chart("Time between tokens", marks, span_s)


def _times_chart(title: str, marks: Sequence[Line], span_s: float) -> Chart:
    return Chart(
        title=title,
        note="By when a request began. Where an arm had too few, its line has no point.",
        marks=marks,
        y_format=lambda value: f"{value:g} ms",
        x_format=brief,
        x_range=(0.0, span_s),
    )


def _arms(rollout: InferenceRollout, seen: Series) -> tuple[tuple[str, Arm, int], ...]:
    return (rollout.spec.stable, seen.stable, 0), (rollout.spec.canary, seen.canary, 1)


def _failure_chart(rollout: InferenceRollout, span_s: float, seen: Series) -> Chart:
    arms = _arms(rollout, seen)
    return Chart(
        title="Failed requests",
        note=f"In each {brief(seen.span_s)}; {seen.failed:,} in all.",
        marks=[Stack([a[0] for a in arms], seen.times, [seen.failures(a[1]) for a in arms], True)],
        x_format=brief,
        x_range=(0.0, span_s),
        y_top=None if seen.failed else 4.0,
    )


def _stairs(
    values: Sequence[float], times: Sequence[float], span_s: float
) -> list[tuple[float, float]]:
    """Return a weight as stairs: it stays what it is until it is changed."""
    points: list[tuple[float, float]] = []
    for value, at in zip(values, times, strict=True):
        x = at - times[0]
        if points:
            points.append((x, points[-1][1]))
        points.append((x, value))
    return [*points, (span_s, points[-1][1])]


_NOTED: Final = ("Paused", "RollingBack", "Aborting", "RolledBack", "Aborted")


def _marked(history: Sequence[HistoryEntry], times: Sequence[float]) -> list[tuple[float, float]]:
    return [
        (at - times[0], float(entry.weight))
        for entry, at in zip(history, times, strict=True)
        if entry.phase in _NOTED
    ]


def _steps(rollout: InferenceRollout, now: float) -> str:
    seen = progress(rollout, now)
    items = "".join(
        f'<li class="{line.mark}">{escape(line.text)}</li>' for line in (*seen.steps, *seen.after)
    )
    return f'<figure><figcaption><h2>Steps</h2></figcaption><ol class="steps">{items}</ol></figure>'


def _words(rollout: InferenceRollout, now: float) -> str:
    words = "".join(f"<p>{_code(escape(line))}</p>" for line in explain(rollout, now))
    return f"<section><h2>In words</h2>{words}</section>"


def _code(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", text)


def _evidence(rollout: InferenceRollout) -> str:
    rows = [
        [
            ("left", each.metric),
            (f"left {each.outcome}", each.outcome),
            ("", _number(each.stable)),
            ("", _number(each.canary)),
            ("", f"{each.requests:,}"),
            ("left text", each.message),
        ]
        for each in rollout.status.evidence
    ]
    return _table(("Last verdict", "", "stable", "canary", "requests", ""), rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _findings(rollout: InferenceRollout) -> str:
    rows = [
        [
            ("left", each.name),
            (f"left {each.severity}", "waived" if each.waived else each.severity.lower()),
            ("left text", f"{each.message} {each.mend}".strip()),
        ]
        for each in rollout.status.findings
    ]
    return _table(("Preflight", "", ""), rows)


def _history(rollout: InferenceRollout) -> str:
    rows = [
        [
            ("left", str(each.number)),
            ("left", each.time),
            ("left", each.phase),
            ("", f"{each.weight} %"),
            ("left", each.reason),
            ("left text", each.message),
        ]
        for each in rollout.status.history
    ]
    return _table(("History", "time", "phase", "weight", "reason", ""), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[tuple[str, str]]]) -> str:
    """Return a table with classed cells; nothing where there are no rows."""
    body = "".join(
        "<tr>"
        + "".join(f'<td class="{style}">{escape(text)}</td>' for style, text in row)
        + "</tr>"
        for row in rows
    )
    if not body:
        return ""
    numbers = ("weight", "stable", "canary", "requests")
    names = "".join(
        f'<th class="{"" if name in numbers else "left"}">{escape(name)}</th>' for name in head
    )
    return f"<section><table><tr>{names}</tr>{body}</table></section>"
