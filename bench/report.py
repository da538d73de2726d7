"""What was measured, as a table, JSON, a page and a plot."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench import picks
from bench.growth import SIZES
from bench.measure import Plan, Series
from bench.setup import Variant

METRICS: Final = tuple(each.name for each in fields(Series))
RATIOS: Final = ("cpu_us_per_request", "cpu_us_per_sse_event")
HEADS: Final = {
    "cpu_us_per_request": "CPU µs / request",
    "requests_per_s": "requests / s",
    "added_p50_us": "added p50 µs",
    "added_p99_us": "added p99 µs",
    "cpu_us_per_sse_event": "CPU µs / SSE event",
    "idle_cpu_ms_per_s": "idle, CPU ms / s",
    "rss_mb": "memory MB",
}
AIMS: Final = (
    ("CPU per request against the best peer", "cpu_us_per_request", "ratio", 0.5),
    ("CPU per request, µs", "cpu_us_per_request", "own", 60.0),
    ("CPU per SSE event against the best peer", "cpu_us_per_sse_event", "ratio", 0.7),
    ("added p50, µs", "added_p50_us", "own", 300.0),
)
GROWTH_AIM: Final = 1.3
SUBJECT: Final = "tidegate"
NOTES: Final = Path(__file__).parent / "notes.md"
"""What profiles said, and what was tried: by hand."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Least, middle and most of the rounds."""

    min: float
    median: float
    max: float

    @staticmethod
    def of(values: Sequence[float | None]) -> "Spread | None":
        """Return the spread of the values that are there."""
        known = [value for value in values if value is not None]
        return Spread(min(known), statistics.median(known), max(known)) if known else None

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        return f"{self.median:,.{digits}f} ({self.min:,.{digits}f}..{self.max:,.{digits}f})"

    def data(self) -> dict[str, float]:
        """Return it for JSON."""
        return {name: round(getattr(self, name), 3) for name in ("min", "median", "max")}


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a run found."""

    plan: Plan
    variants: tuple[Variant, ...]
    series: Mapping[str, Series]
    growth: Mapping[str, Sequence[float]]
    picked: picks.Growth = field(default_factory=dict)

    def spread(self, name: str, metric: str) -> Spread | None:
        """Return one cell of the table."""
        return Spread.of(getattr(self.series[name], metric))

    def ratio(self, name: str, metric: str) -> Spread | None:
        """Return our gateway's part of `name`'s cost, taken round by round."""
        own, other = (getattr(self.series[each], metric) for each in (SUBJECT, name))
        return Spread.of([a / b for a, b in zip(own, other, strict=True) if a and b])

    def best_peer(self, metric: str) -> str:
        """Return the peer with the least median."""
        names = [each.name for each in self.variants if each.peer and not each.extra]
        return min(names, key=lambda name: self._median(name, metric))

    def grown(self, what: str) -> Spread | None:
        """Return the cost at 1,000 routes or endpoints by that at 10, round by round."""
        few, many = (self.growth.get(f"{count} {what}", ()) for count in ("10", "1,000"))
        return Spread.of([b / a for a, b in zip(few, many, strict=True)])

    def _median(self, name: str, metric: str) -> float:
        found = self.spread(name, metric)
        return found.median if found else float("inf")


def data(results: Results) -> dict[str, Any]:
    """Return the whole as JSON."""
    return {
        "machine": machine(),
        "versions": versions(results.variants),
        "plan": {each.name: getattr(results.plan, each.name) for each in fields(Plan)},
        "variants": {
            name: {
                metric: spread.data()
                for metric in METRICS
                if (spread := results.spread(name, metric)) is not None
            }
            for name in results.series
        },
        "ratios": {
            metric: {
                each.name: ratio.data()
                for each in results.variants
                if each.peer and (ratio := results.ratio(each.name, metric)) is not None
            }
            for metric in RATIOS
        },
        "best_peer": {metric: results.best_peer(metric) for metric in RATIOS},
        "growth_cpu_us_per_request": {
            name: spread.data()
            for name, values in results.growth.items()
            if (spread := Spread.of(values)) is not None
        },
        "picks_cpu_us": results.picked,
        "aims": [
            {"aim": aim, "at_most": limit, "found": found.data(), "met": found.median <= limit}
            for aim, limit, found in aims(results)
        ],
    }


def aims(results: Results) -> list[tuple[str, float, Spread]]:
    """Return what was aimed at, the limit, and what was found."""
    found = []
    for aim, metric, what, limit in AIMS:
        spread = (
            results.spread(SUBJECT, metric)
            if what == "own"
            else results.ratio(results.best_peer(metric), metric)
        )
        if spread is not None:
            found.append((aim, limit, spread))
    for what in ("routes", "endpoints"):
        grown = results.grown(what)
        if grown is not None:
            found.append((f"1,000 {what} against 10", GROWTH_AIM, grown))
    return found


def machine() -> dict[str, Any]:
    """Return what it ran on."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(variants: Sequence[Variant]) -> dict[str, str]:
    """Return the versions of the distributions that were measured."""
    return {each.package: version(each.package) for each in variants}


def table(results: Results) -> list[list[str]]:
    """Return the rows of the table, its head first."""
    titles = {"direct": "direct"} | {each.name: each.title for each in results.variants}
    rows = [["", *HEADS.values()]]
    for name in results.series:
        cells = [results.spread(name, metric) for metric in HEADS]
        rows.append([titles[name], *("" if cell is None else str(cell) for cell in cells)])
    return rows


def ratio_table(results: Results) -> list[list[str]]:
    """Return our part of each peer's cost."""
    rows = [["tidegate ÷", *(HEADS[metric] for metric in RATIOS)]]
    for each in results.variants:
        if each.peer:
            cells = [results.ratio(each.name, metric) for metric in RATIOS]
            rows.append([each.title, *("" if cell is None else str(cell) for cell in cells)])
    return rows


def aim_table(results: Results) -> list[list[str]]:
    """Return what was aimed at beside what came out."""
    rows = [["aim", "at most", "found", ""]]
    for aim, limit, found in aims(results):
        rows.append([aim, f"{limit:g}", str(found), "met" if found.median <= limit else "missed"])
    return rows


def growth_table(results: Results) -> list[list[str]]:
    """Return the costs by size."""
    rows = [["", HEADS["cpu_us_per_request"]]]
    return rows + [[name, str(Spread.of(values))] for name, values in results.growth.items()]


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Return rows for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def text(results: Results) -> str:
    """Return everything for a terminal."""
    parts = [table(results), ratio_table(results), aim_table(results)]
    if results.growth:
        parts.insert(2, growth_table(results))
    if results.picked:
        parts.insert(3, picks.table(results.picked))
    return "\n\n".join(plain(rows) for rows in parts)


def page(results: Results) -> str:
    """Return the page that the documentation links to."""
    plan, on, found = results.plan, machine(), versions(results.variants)
    does = [[each.title, each.does] for each in results.variants]
    growth = f"## Growth\n\n{markdown(growth_table(results))}\n" if results.growth else ""
    return _PAGE.format(
        cpu=on["cpu"],
        cores=on["cores"],
        system=on["system"],
        python=on["python"],
        versions=", ".join(f"{name} {number}" for name, number in found.items()),
        rounds=plan.rounds,
        seconds=plan.seconds,
        connections=plan.connections,
        rate=plan.rate,
        streams=plan.streams,
        events=plan.events,
        pace=plan.pace_ms,
        table=markdown(table(results)),
        ratios=markdown(ratio_table(results)),
        aims=markdown(aim_table(results)),
        does=markdown([["", "what a request gets beside being relayed"], *does]),
        growth=growth,
        picks=picks.SECTION.format(table=markdown(picks.table(results.picked)))
        if results.picked
        else "",
        sizes=", ".join(size.name for size in SIZES),
        notes=NOTES.read_text(),
    )


_PAGE: Final = """\
# Performance

What one worker costs, beside a direct connection and other gateways, measured in one run by
`make bench`, which rewrites this page. Cells are medians of {rounds} rounds with the least and
the most.

{table}

![The same as bars](performance.svg)

## Beside the peers

Our cost divided by theirs, taken within each round: below 1 we cost less. Differences under a
third of the value are within the noise of a shared machine.

{ratios}

{aims}

{growth}
{picks}
## What is compared

{does}

## How it was measured

- Machine: {cores} cores of {cpu}, {system}, Python {python}; {versions}.
- The gateway's processes have one CPU of their own, and one worker or thread each; backend and
  load generator share the others. All traffic is on 127.0.0.1.
- The same backend and the same requests for all: chats of 1 KB from 256 conversations, answers of
  some 450 bytes, or streams of {events} events, one every {pace} ms.
- Each round measures every variant, in an order that turns. CPU is user and system time of the
  gateway's whole process tree, divided by the answers.
- CPU per request and requests/s: {connections} connections, always busy, {seconds:g} s.
- Added latency: {rate:g} requests/s on a clock to the gateway and as many to the backend
  itself, in turns, so that both meet the same moments; the difference of their percentiles.
- Idle: CPU of the gateway's processes while no requests come (health, metrics of the endpoints,
  control). It is part of the other CPU figures too.
- CPU per SSE event: {streams} streams at once; whole cost of the streams by their events.

More on one machine of few cores: requests/s says what one CPU carries while backend and load
generator have enough; it is no measure of a bigger machine.

{notes}"""


def plot(results: Results, path: Path) -> None:
    """Draw CPU per request and per event, and added latency."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tidegate"
    import matplotlib.pyplot as plt

    metrics = ("cpu_us_per_request", "cpu_us_per_sse_event", "added_p50_us")
    figure, axes = plt.subplots(1, len(metrics), figsize=(12, 3.6), sharey=True)
    shown = [each for each in results.variants if each.name in results.series]
    for axis, metric in zip(axes, metrics, strict=True):
        spreads = [results.spread(each.name, metric) for each in shown]
        middles = [spread.median if spread else 0.0 for spread in spreads]
        reach = [
            [spread.median - spread.min if spread else 0.0 for spread in spreads],
            [spread.max - spread.median if spread else 0.0 for spread in spreads],
        ]
        colors = ["#c0c4cc" if each.peer else "#2563a8" for each in shown]
        axis.barh([each.title for each in shown], middles, xerr=reach, color=colors, ecolor="#555")
        axis.set_title(HEADS[metric], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def write(results: Results, folder: Path) -> None:
    """Write JSON, page and plot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.json").write_text(json.dumps(data(results), indent=2) + "\n")
    (folder / "performance.md").write_text(page(results))
    plot(results, folder / "performance.svg")
    if results.picked:
        picks.plot(results.picked, folder / "picks.svg")
