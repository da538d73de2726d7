"""The report of a run as one HTML page: figures, charts and tables, nothing from elsewhere."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from tidegate.load.charts import Chart, Dots, Line, Stack, draw
from tidegate.load.report import Percentiles, Report
from tidegate.load.result import Result
from tidegate.load.timeline import Slice, slices

MOST_DOTS: Final = 2500

STYLE: Final = """
:root{--ink:#16222e;--dim:#64748b;--line:#e3e8ee;--page:#f4f6f9;--card:#fff;--bad:#c8324a;
--c0:#1f6feb;--c1:#e8833a;--c2:#13a07f;--c3:#8a5cd6;--c4:#d6457e;--c5:#7a8699}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#8b98a8;--line:#273140;
--page:#0d1219;--card:#151c26;--bad:#ff6b81;--c0:#58a6ff;--c1:#f0a35e;--c2:#3fcf9f;--c3:#b08cff;
--c4:#ff7eb0;--c5:#98a4b5}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1200px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:22px;margin:0 0 2px;letter-spacing:-.01em}
header p{margin:0 0 20px;color:var(--dim)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.card,figure,section{background:var(--card);border:1px solid var(--line);border-radius:10px}
.card{padding:12px 14px}
.card b{display:block;font-size:21px;font-variant-numeric:tabular-nums;letter-spacing:-.02em}
.card span{color:var(--dim);font-size:12px}
.card.bad b{color:var(--bad)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(480px,100%),1fr));gap:12px;
margin:12px 0}
figure{margin:0;padding:12px 14px 8px}
figcaption{display:flex;justify-content:space-between;align-items:baseline;gap:12px}
h2{font-size:14px;margin:0 0 6px;font-weight:600}
figure p{margin:0;color:var(--dim);font-size:12px}
.legend{display:flex;flex-wrap:wrap;gap:4px 12px;font-size:12px;color:var(--dim);
justify-content:flex-end}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:5px;
background:var(--c);vertical-align:-1px}
svg{width:100%;height:auto;display:block}
.grid{stroke:var(--line);stroke-width:1}
.tick{fill:var(--dim);font-size:11px;font-variant-numeric:tabular-nums}
.c0{--c:var(--c0)}.c1{--c:var(--c1)}.c2{--c:var(--c2)}.c3{--c:var(--c3)}.c4{--c:var(--c4)}
.c5{--c:var(--c5)}
.line{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.dashed{stroke-dasharray:5 4}
.area{fill:var(--c);fill-opacity:.78}
.area.faint{fill-opacity:.14}
.dots{fill:var(--c);fill-opacity:.3}
section{padding:14px;margin-top:12px;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
tr:last-child td{border-bottom:0}
th{color:var(--dim);font-weight:500;font-size:12px}
td.text{text-align:left;white-space:normal;color:var(--dim)}
"""


def page(report: Report, results: Sequence[Result], title: str, subtitle: str) -> str:
    """Return the whole page.

    Args:
        report: What the run came to.
        results: Its requests.
        title: What was loaded.
        subtitle: With what.

    """
    charts = "".join(draw(chart) for chart in _charts(report, results))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"
        f'<div class="cards">{_cards(report)}</div><div class="charts">{charts}</div>'
        f"{_latency_table(report)}{_pool_table(report)}{_error_table(report)}</main></body></html>"
    )


def _cards(report: Report) -> str:
    failed = report.failed / max(1, report.requests)
    cards = [
        (f"{report.requests:,}", f"requests of {report.sessions:,} sessions", False),
        (f"{report.requests_per_s:,.1f}/s", f"over {report.duration_s:,.1f} s", False),
        (f"{report.output_tokens_per_s:,.0f}/s", "output tokens", False),
        (f"{report.cached_share:.0%}", "of prompt tokens cached", False),
        (_ms(report.ttft.p50), f"first token, p99 {_ms(report.ttft.p99)}", False),
        (_ms(report.itl.p50), f"between tokens, p99 {_ms(report.itl.p99)}", False),
        (f"{report.failed:,}", f"failed ({failed:.2%})", report.failed > 0),
    ]
    return "".join(
        f'<div class="card{" bad" if bad else ""}"><b>{value}</b><span>{text}</span></div>'
        for value, text, bad in cards
    )


def _charts(report: Report, results: Sequence[Result]) -> list[Chart]:
    pieces = slices(results)
    charts = [
        _first_tokens(report, results, pieces),
        _between_tokens(pieces),
        _throughput(pieces),
        _requests(pieces),
        _distribution(results),
    ]
    if any(report.pools):
        charts.append(_pools(report, pieces))
    if report.failed:
        charts.append(_errors(report, pieces))
    return charts


def _first_tokens(report: Report, results: Sequence[Result], pieces: Sequence[Slice]) -> Chart:
    begin = min((one.started_at for one in results), default=0.0)
    dots = [(one.started_at - begin, one.ttft_s) for one in results
            if one.ttft_s is not None and not one.failed]  # fmt: skip
    dots = dots[:: len(dots) // MOST_DOTS + 1]
    filled = [one for one in pieces if one.ttft.count]
    return Chart(
        title="Time to first token",
        marks=[
            Dots("", dots, 0),
            Line("p95", [(one.at, one.ttft.p95) for one in filled], 1),
            Line("p50", [(one.at, one.ttft.p50) for one in filled], 0),
        ],
        y_format=_ms,
        y_top=max(report.ttft.p99 * 1.15, 1e-6),
        x_range=_span(pieces),
    )


def _between_tokens(pieces: Sequence[Slice]) -> Chart:
    filled = [one for one in pieces if one.itl.count]
    return Chart(
        title="Time between tokens",
        marks=[
            Line("p99", [(one.at, one.itl.p99) for one in filled], 4, dashed=True),
            Line("p95", [(one.at, one.itl.p95) for one in filled], 1),
            Line("p50", [(one.at, one.itl.p50) for one in filled], 0),
        ],
        y_format=_ms,
        x_range=_span(pieces),
    )


def _throughput(pieces: Sequence[Slice]) -> Chart:
    return Chart(
        title="Output tokens a second",
        marks=[Line("", [(one.at, one.tokens) for one in pieces], 2, filled=True)],
        y_format=lambda value: f"{value:,.0f}",
        x_range=_span(pieces),
    )


def _requests(pieces: Sequence[Slice]) -> Chart:
    return Chart(
        title="Requests",
        marks=[
            Line("in flight", [(one.at, one.in_flight) for one in pieces], 3, filled=True),
            Line("begun a second", [(one.at, one.started) for one in pieces], 5, dashed=True),
            Line("answered a second", [(one.at, one.finished) for one in pieces], 2),
        ],
        x_range=_span(pieces),
    )


def _distribution(results: Sequence[Result]) -> Chart:
    good = [one for one in results if not one.failed]
    lines = [
        Line("between tokens", _cumulative(gap for one in good for gap in one.gaps_s), 2),
        Line("first token", _cumulative(one.ttft_s for one in good if one.ttft_s is not None), 0),
        Line("whole answer", _cumulative(one.duration_s for one in good), 3),
    ]
    values = [x for line in lines for x, _ in line.points if x > 0]
    low = max(min(values, default=1e-3), max(values, default=1.0) / 1e5)
    return Chart(
        title="How many were faster",
        marks=lines,
        y_format=lambda value: f"{value:.0%}",
        x_format=_ms,
        x_log=True,
        x_range=(low, max(values, default=1.0)),
        y_top=1.0,
    )


def _pools(report: Report, pieces: Sequence[Slice]) -> Chart:
    names = [name for name in report.pools if name]
    filled = [one for one in pieces if one.pools]
    heights = [[one.pools[name] / one.pools.total() for one in filled] for name in names]
    return Chart(
        title="Share of each pool",
        marks=[Stack(names, [one.at for one in filled], heights)],
        y_format=lambda value: f"{value:.0%}",
        x_range=_span(pieces),
        y_top=1.0,
    )


def _errors(report: Report, pieces: Sequence[Slice]) -> Chart:
    names = list(report.errors)
    heights = [[float(one.errors[name]) for one in pieces] for name in names]
    return Chart(
        title="Failures",
        marks=[Stack(names, [one.at for one in pieces], heights, bars=True, colour=4)],
        x_range=_span(pieces),
    )


def _span(pieces: Sequence[Slice]) -> tuple[float, float]:
    return (0.0, pieces[-1].at + pieces[0].at) if pieces else (0.0, 1.0)


def _cumulative(values: Iterable[float], most: int = 150) -> list[tuple[float, float]]:
    ordered = sorted(values)
    if not ordered:
        return []
    size = len(ordered)
    picked = sorted({round(n * (size - 1) / most) for n in range(most + 1)})
    return [(ordered[n], (n + 1) / size) for n in picked]


def _latency_table(report: Report) -> str:
    rows = {
        "first token": report.ttft,
        "between tokens": report.itl,
        "whole answer": report.e2e,
        "late start (this client's own)": report.lag,
    }
    head = ("", "count", "mean", "p50", "p90", "p95", "p99", "max")
    return _table("Latency", head, [[name, *_cells(one)] for name, one in rows.items()])


def _cells(one: Percentiles) -> list[str]:
    if not one.count:
        return ["0", *["-"] * 6]
    values = (one.mean, one.p50, one.p90, one.p95, one.p99, one.max)
    return [f"{one.count:,}", *(_ms(value) for value in values)]


def _pool_table(report: Report) -> str:
    if not any(report.pools):
        return ""
    head = ("", "requests", "share", "sessions", "share", "TTFT p50", "p95", "failed", "endpoints")
    rows = [
        [
            name or "(none)",
            f"{one.requests:,}",
            f"{one.share:.1%}",
            f"{one.sessions:,}",
            f"{one.session_share:.1%}",
            _ms(one.ttft.p50),
            _ms(one.ttft.p95),
            f"{one.failed:,}",
            str(len(one.endpoints)),
        ]
        for name, one in report.pools.items()
    ]
    return _table("Pools", head, rows)


def _error_table(report: Report) -> str:
    if not report.errors:
        return ""
    rows = "".join(
        f'<tr><td>{escape(kind)}</td><td>{count:,}</td><td class="text">'
        f"{escape(report.examples.get(kind, ''))}</td></tr>"
        for kind, count in report.errors.items()
    )
    head = '<tr><th>Failures</th><th>count</th><th style="text-align:left">such as</th></tr>'
    return f"<section><table>{head}{rows}</table></section>"


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    names = "".join(f"<th>{escape(name)}</th>" for name in (title, *head[1:]))
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<section><table><tr>{names}</tr>{body}</table></section>"


def _ms(seconds: float) -> str:
    if seconds >= 10:
        return f"{seconds:.0f} s"
    if seconds >= 1:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"
