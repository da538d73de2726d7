"""`tidegate load`: open-loop load on one URL, and what came of it."""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from tidegate.load.sessions import Identity, Workload

if TYPE_CHECKING:  # imported where they are used: `--help` needs none of it
    from rich.table import Table

    from tidegate.load.loop import OpenLoop
    from tidegate.load.report import Percentiles, Report
    from tidegate.load.result import Result

MOST_REQUESTS: Final = 5_000_000
"""A result is kept for each: beyond this, memory is at risk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options."""

    url: str
    model: str
    rate: float
    duration: float
    sessions: int | None
    turns: int
    think: float
    max_tokens: int
    system_words: int
    user_words: int
    ignore_eos: bool
    stream: bool
    identity: Identity
    timeout: float
    seed: int
    output: str

    def workload(self) -> Workload:
        """Return what sessions are like."""
        return Workload(
            model=self.model,
            turns=self.turns,
            system_words=self.system_words,
            user_words=self.user_words,
            max_tokens=self.max_tokens,
            ignore_eos=self.ignore_eos,
            stream=self.stream,
            think_s=self.think,
            identity=self.identity,
        )


@click.command()
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="The server or gateway; nothing else is ever asked.",
)
@click.option("--model", required=True, help="The model to ask for.")
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Requests a second that become due, Poisson.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds in which sessions start.",
)
@click.option("--sessions", type=click.IntRange(1), help="At most so many sessions.")
@click.option(
    "--turns",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Requests of a session, one after the other.",
)
@click.option(
    "--think",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Mean seconds between an answer and the session's next turn.",
)
@click.option(
    "--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="Longest answer."
)
@click.option(
    "--system-words",
    type=click.IntRange(0),
    default=40,
    show_default=True,
    help="The system prompt that all sessions share.",
)
@click.option(
    "--user-words", type=click.IntRange(1), default=20, show_default=True, help="Each user message."
)
@click.option("--ignore-eos", is_flag=True, help="Always --max-tokens tokens (vLLM only).")
@click.option("--stream/--no-stream", default=True, show_default=True)
@click.option(
    "--identity",
    type=click.Choice(get_args(Identity)),
    default="prompt_cache_key",
    show_default=True,
    help="The body's field that names the session.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    help="Seconds that a request may take.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same load.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table",
              show_default=True)  # fmt: skip
def load(**options: Any) -> None:
    """Send sessions to an OpenAI-style server at a fixed rate and report what came back.

    Exits with 1 if a request failed. Bounded by --duration, --sessions and --timeout.
    """
    import msgspec

    from tidegate.load.report import summarise

    plan = Plan(**options)
    if plan.rate * plan.duration > MOST_REQUESTS:
        raise click.UsageError(f"more than {MOST_REQUESTS:,} requests: lower --rate or --duration")
    report = summarise(_run(plan))
    if plan.output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        show(report)
    sys.exit(1 if report.failed else 0)


def _run(plan: Plan) -> "Sequence[Result]":
    import uvloop

    from tidegate.load.client import TargetError

    results: list[Result] = []
    try:
        uvloop.run(_drive(plan, results))
    except TargetError as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
    return results


async def _drive(plan: Plan, results: "list[Result]") -> None:
    from tidegate.load.arrivals import bounded, poisson
    from tidegate.load.client import Client, parse_target
    from tidegate.load.loop import OpenLoop

    clock = time.perf_counter  # the loop's own time has steps of a millisecond
    arrivals = bounded(
        poisson(Random(plan.seed), plan.rate / plan.turns), plan.duration, plan.sessions
    )
    client = Client(parse_target(plan.url), clock, plan.timeout)
    loop = OpenLoop(client, plan.workload(), arrivals, results.append, clock=clock, seed=plan.seed)
    progress = asyncio.ensure_future(_progress(loop, results))
    try:
        await loop.run()
    finally:
        progress.cancel()


async def _progress(loop: "OpenLoop", results: "list[Result]") -> None:
    """Write a line about how it goes every second, over the last one on a terminal."""
    second = asyncio.Event()
    terminal = sys.stderr.isatty()
    for seconds in range(1, 1 << 30):
        asyncio.get_running_loop().call_later(1.0, second.set)
        await second.wait()
        second.clear()
        failed = sum(one.failed for one in results)
        line = f"{seconds} s: {len(results)} done, {loop.in_flight} in flight, {failed} failed"
        click.echo(f"\r{line}   " if terminal else line, err=True, nl=not terminal)


def show(report: "Report") -> None:
    """Print a report as tables."""
    from rich.console import Console

    console = Console()
    console.print(
        f"\n{report.requests} requests of {report.sessions} sessions in {report.duration_s:.1f} s "
        f"({report.requests_per_s:.1f}/s, {report.events_per_s:.0f} events/s), "
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
