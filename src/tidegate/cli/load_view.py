"""What `tidegate load` shows: a line while it runs, tables in the end."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # imported where they are used: `--help` needs none of it
    from rich.table import Table

    from tidegate.load.loop import OpenLoop
    from tidegate.load.report import Percentiles, Report
    from tidegate.load.result import Result


class Meter:
    """Keeps results, and says every second how it goes."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._failed = 0
        self._seen = 0

    def add(self, result: "Result") -> None:
        """Take one more."""
        self.results.append(result)
        self._failed += result.failed

    async def run(self, loop: "OpenLoop") -> None:
        """Write a line a second, over the last one on a terminal, until cancelled."""
        second = asyncio.Event()
        terminal = sys.stderr.isatty()
        for seconds in range(1, 1 << 30):
            asyncio.get_running_loop().call_later(1.0, second.set)
            await second.wait()
            second.clear()
            line = self.line(seconds, loop.in_flight)
            click.echo(f"\r{line:<100}" if terminal else line, err=True, nl=not terminal)

    def line(self, seconds: int, in_flight: int) -> str:
        """Return how it went in the last second."""
        fresh = self.results[self._seen :]
        self._seen = len(self.results)
        tokens = sum(one.output_tokens or one.events for one in fresh)
        firsts = sorted(one.ttft_s for one in fresh if one.ttft_s is not None)
        ttft = f"{firsts[len(firsts) // 2] * 1000:.0f} ms" if firsts else "-"
        return (
            f"{seconds} s: {self._seen} done, {in_flight} in flight, {self._failed} failed | "
            f"{len(fresh)}/s, {tokens} tokens/s, first token {ttft}"
        )


def show(report: "Report") -> None:
    """Print a report as tables."""
    from rich.console import Console

    console = Console()
    console.print(
        f"\n{report.requests} requests of {report.sessions} sessions in {report.duration_s:.1f} s "
        f"({report.requests_per_s:.1f}/s, {report.output_tokens_per_s:.0f} output tokens/s, "
        f"{report.cached_share:.0%} of prompts cached), "
        f"[{'red' if report.failed else 'green'}]{report.failed} failed[/]"
    )
    console.print(_latencies(report))
    if any(report.pools):
        console.print(_pools(report))
    for kind, count in report.errors.items():
        console.print(f"{kind}: {count}, such as: {report.examples[kind]}", markup=False)


def _latencies(report: "Report") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("milliseconds")
    for name in ("mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(name, justify="right")
    rows = {
        "first token": report.ttft,
        "between tokens": report.itl,
        "whole answer": report.e2e,
        "late start": report.lag,
    }
    for name, one in rows.items():
        table.add_row(name, *_milliseconds(one))
    return table


def _milliseconds(one: "Percentiles") -> list[str]:
    if not one.count:
        return ["-"] * 6
    return [f"{v * 1000:.1f}" for v in (one.mean, one.p50, one.p90, one.p95, one.p99, one.max)]


def _pools(report: "Report") -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("pool", overflow="fold")
    for name in ("requests", "share", "sessions", "share", "TTFT p50", "p95", "failed"):
        table.add_column(name, justify="right")
    for name, pool in report.pools.items():
        table.add_row(
            name or "(none)",
            str(pool.requests),
            f"{pool.share:.1%}",
            str(pool.sessions),
            f"{pool.session_share:.1%}",
            f"{pool.ttft.p50 * 1000:.1f}",
            f"{pool.ttft.p95 * 1000:.1f}",
            str(pool.failed),
        )
    return table
