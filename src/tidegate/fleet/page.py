"""Several contestants side by side as one HTML page: charts and tables, nothing from elsewhere."""

from collections.abc import Callable, Sequence
from html import escape

from tidegate.fleet.outcome import Kind, Report
from tidegate.load.charts import Chart, Line, draw
from tidegate.load.page import STYLE

COLOURS = 6


def page(reports: Sequence[Report], title: str, subtitle: str) -> str:
    """Return the whole page.

    Args:
        reports: One for each contestant.
        title: What was simulated.
        subtitle: On what.

    """
    charts = "".join(draw(one) for one in figures(reports))
    tables = "".join(_table(kind, reports) for kind in _kinds(reports))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>"
        f'<div class="charts">{charts}</div>{tables}</main></body></html>'
    )


def figures(reports: Sequence[Report]) -> list[Chart]:
    """Return the charts of a comparison."""
    return [
        Chart(
            title="Time to first token, p95",
            note="By when a request came, time in queues included.",
            marks=_lines(reports, lambda one: list(zip(one.times, one.ttft_p95, strict=True))),
            y_format=_ms,
        ),
        Chart(
            title="Met the objective",
            note="Of the requests that came at a time.",
            marks=_lines(reports, lambda one: list(zip(one.times, one.good, strict=True))),
            y_format=lambda share: f"{share:.0%}",
            y_top=1.0,
        ),
    ]


def _lines(
    reports: Sequence[Report], points: Callable[[Report], Sequence[tuple[float, float]]]
) -> list[Line]:
    return [
        Line(one.name, points(one), n % COLOURS, dashed=n >= COLOURS)
        for n, one in enumerate(reports)
    ]


def _kinds(reports: Sequence[Report]) -> list[str]:
    """Return the tables to make: '' is all traffic."""
    kinds = list(reports[0].kinds) if reports else []
    return ["", *kinds] if len(kinds) > 1 else [""]


HEADS = ("requests", "good", "TTFT p50", "p95", "p99", "ITL p95", "refused", "lost")
"""Of the tables. Good: met the objective. Lost: with their servers, or not over in time."""


def row(kind: Kind) -> list[str]:
    """Return a table's row, in the order of `HEADS`."""
    return [
        f"{kind.requests:,}",
        f"{kind.good:.1%}",
        *map(_ms, (kind.ttft.p50, kind.ttft.p95, kind.ttft.p99, kind.itl.p95)),
        f"{kind.refused:,}",
        f"{kind.lost + kind.unfinished:,}",
    ]


def of_all(report: Report) -> list[str]:
    """Return what stands beside a row of all traffic, in the order of `OF_ALL`."""
    return [f"{report.hit_rate:.1%}", f"{report.balance:.2f}"]


OF_ALL = ("hits", "balance")


def _table(kind: str, reports: Sequence[Report]) -> str:
    heads = HEADS if kind else (*HEADS, *OF_ALL)
    rows = [
        [one.name, *(row(one.kinds[kind]) if kind else [*row(one.all), *of_all(one)])]
        for one in reports
    ]
    head = "".join(f"<th>{escape(text)}</th>" for text in ("", *heads))
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>" for cells in rows
    )
    title = kind or "All traffic"
    return f"<section><h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table></section>"


def _ms(seconds: float) -> str:
    if seconds >= 1.0:
        return f"{seconds:.3g} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
