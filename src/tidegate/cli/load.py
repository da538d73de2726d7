"""`tidegate load`: open-loop load on one URL, and what came of it."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import click

from tidegate.cli.load_view import Meter, show
from tidegate.load.arrivals import Shape, bounded, even, poisson, shaped
from tidegate.load.sessions import Conversation, Identity, Workload, recorded

if TYPE_CHECKING:  # imported where it is used: `--help` needs none of it
    from tidegate.load.report import Report

MOST_REQUESTS: Final = 5_000_000
"""A result is kept for each: beyond this, memory is at risk."""

Arrivals = Literal["poisson", "even"]


class Rate(click.ParamType[tuple[float, float]]):
    """A rate, or two for a straight line from one to the other: `20`, `5:50`."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Return the first and the last rate."""
        if isinstance(value, tuple):
            return value
        first, _, last = str(value).partition(":")
        try:
            rates = float(first), float(last or first)
        except ValueError:
            rates = (0.0, 0.0)
        if min(rates) < 0 or max(rates) <= 0 or max(rates) == float("inf"):
            self.fail(f"found {value!r}, expected a number above 0, or FIRST:LAST", param, ctx)
        return rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options."""

    url: str
    model: str
    rate: tuple[float, float]
    arrivals: Arrivals
    burst: float
    burst_every: float
    burst_length: float
    trace: Path | None
    speed: float
    duration: float | None
    sessions: int | None
    turns: int
    think: float
    max_tokens: int
    system_words: int
    user_words: int
    ignore_eos: bool | None
    stream: bool
    identity: Identity
    timeout: float
    seed: int
    output: str
    plot: Path | None
    record: Path | None

    @property
    def duration_s(self) -> float:
        """Return for how long sessions start."""
        if self.duration is not None:
            return self.duration
        return float("inf") if self.trace else 30.0

    def shape(self) -> Shape:
        """Return how the rate of sessions goes."""
        first, last = (rate / self.turns for rate in self.rate)
        return Shape(
            first=first,
            last=last,
            duration_s=self.duration_s,
            burst_factor=self.burst,
            burst_every_s=self.burst_every,
            burst_s=min(self.burst_length, self.burst_every),
        )

    def starts(self) -> Iterator[float]:
        """Return when sessions start."""
        shape, rng = self.shape(), Random(self.seed)
        if shape.first != shape.last or shape.burst_factor != 1:
            return shaped(rng, shape.rate, shape.peak)
        return even(shape.first) if self.arrivals == "even" else poisson(rng, shape.first)

    def check(self) -> None:
        """Refuse what can't be. Raises UsageError."""
        uneven = self.rate[0] != self.rate[1] or self.burst != 1
        if uneven and self.arrivals == "even":
            raise click.UsageError("ramps and bursts are Poisson: leave out --arrivals even")
        if not self.trace and self.shape().expected * self.turns > MOST_REQUESTS:
            raise click.UsageError(
                f"more than {MOST_REQUESTS:,} requests: lower --rate or --duration"
            )

    def workload(self) -> Workload:
        """Return what sessions are like."""
        return Workload(
            model=self.model,
            turns=self.turns,
            system_words=self.system_words,
            user_words=self.user_words,
            max_tokens=self.max_tokens,
            ignore_eos=bool(self.trace) if self.ignore_eos is None else self.ignore_eos,
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
    type=Rate(),
    default="20",
    show_default=True,
    metavar="RATE[:RATE]",
    help="Requests a second that become due; two for a ramp over --duration.",
)
@click.option(
    "--arrivals",
    type=click.Choice(get_args(Arrivals)),
    default="poisson",
    show_default=True,
    help="By chance, or at equal distances.",
)
@click.option(
    "--burst",
    type=click.FloatRange(0, 1000),
    default=1.0,
    show_default=True,
    help="In bursts the rate is so many times as high.",
)
@click.option(
    "--burst-every",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds from one burst's end to the next's.",
)
@click.option(
    "--burst-length",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Seconds of a burst.",
)
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Replay recorded requests (.jsonl, .csv): times, lengths, sessions. Others' rates and "
    "lengths don't count then.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="The trace so many times as fast.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, 86_400, min_open=True),
    help="Seconds in which sessions start.  [default: 30, or the whole trace]",
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
@click.option(
    "--ignore-eos/--no-ignore-eos",
    default=None,
    help="Always the longest answer (vLLM only).  [default: for traces]",
)
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
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report with charts as one HTML page, too.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write each request as a line for `tidegate judge replay`, too.",
)
def load(**options: Any) -> None:
    """Send sessions to an OpenAI-style server at a fixed rate and report what came back.

    Exits with 1 if a request failed. Bounded by --duration, --sessions and --timeout.
    """
    import msgspec

    from tidegate.load.report import summarise

    plan = Plan(**options)
    plan.check()
    meter = _run(plan)
    report = summarise(meter.results)
    if plan.output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        show(report)
    if plan.plot is not None:
        _write_page(plan, plan.plot, report, meter)
    if plan.record is not None:
        _record(plan.record, meter)
    sys.exit(1 if report.failed else 0)


def _record(path: Path, meter: Meter) -> None:
    from tidegate.cli.load_record import write
    from tidegate.process.clock import now

    write(path, meter.results, began=now() - time.perf_counter())
    click.echo(f"wrote {path}", err=True)


def _write_page(plan: Plan, path: Path, report: "Report", meter: Meter) -> None:
    from tidegate.load.page import page

    how = f"trace {plan.trace.name}" if plan.trace else f"{_rates(plan)} requests a second"
    subtitle = f"{plan.model} · {how} · {plan.turns} turn{'s' if plan.turns > 1 else ''} a session"
    path.write_text(page(report, meter.results, f"Load on {plan.url}", subtitle), encoding="utf-8")
    click.echo(f"wrote {path}", err=True)


def _rates(plan: Plan) -> str:
    first, last = plan.rate
    return f"{first:g}" if first == last else f"{first:g} to {last:g}"


def _run(plan: Plan) -> Meter:
    import uvloop

    from tidegate.load.client import TargetError
    from tidegate.load.trace import TraceError

    meter = Meter()
    try:
        uvloop.run(_drive(plan, meter))
    except (TargetError, TraceError) as error:
        raise click.UsageError(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
    return meter


async def _drive(plan: Plan, meter: Meter) -> None:
    from tidegate.load.client import Client, parse_target
    from tidegate.load.loop import OpenLoop

    clock = time.perf_counter  # the loop's own time has steps of a millisecond
    starts, conversation = _sessions(plan)
    loop = OpenLoop(
        Client(parse_target(plan.url), clock, plan.timeout),
        plan.workload(),
        bounded(starts, plan.duration_s, plan.sessions),
        meter.add,
        clock=clock,
        seed=plan.seed,
        conversation=conversation,
    )
    progress = asyncio.ensure_future(meter.run(loop))
    try:
        await loop.run()
    finally:
        progress.cancel()


def _sessions(plan: Plan) -> tuple[Iterator[float], Callable[[int], Conversation] | None]:
    """Return when sessions start, and what they say where the workload doesn't tell."""
    if plan.trace is None:
        return plan.starts(), None
    from tidegate.load.trace import read

    arrivals = read(plan.trace)
    requests = recorded(plan.workload(), plan.seed, arrivals)
    return (one.at / plan.speed for one in arrivals), requests.__getitem__
