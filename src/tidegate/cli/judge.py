"""`tidegate judge`: test the judge on recorded traffic before you trust it."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Literal

import click
import msgspec

from tidegate.api.rollout import QUANTILES, RATES
from tidegate.judge.metrics import METRICS, Change, Settings, adjusted
from tidegate.judge.record import Record
from tidegate.judge.recorded import read
from tidegate.judge.replay import Injection, Report, Setup, replay


@click.group()
def judge() -> None:
    """Test the judge, which decides about canaries, on traffic of your own."""


class Weights(click.ParamType[tuple[int, ...]]):
    """Weights in percent that rise: `5,25,50`."""

    name = "weights"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the weights."""
        try:
            weights = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            weights = ()
        if not weights or list(weights) != sorted(set(weights)) or not 0 < weights[0] < 100:
            self.fail(f"found {value!r}, expected percents that rise: 5,25,50", param, ctx)
        if weights[-1] >= 100:
            self.fail(f"found {value!r}, expected less than 100 at the end", param, ctx)
        return weights


class Margin(click.ParamType[tuple[str, Change]]):
    """A metric and how much worse it may be: `ttft_p95=0.5`."""

    name = "margin"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Change]:
        """Return the metric's name and the change."""
        name, _, margin = str(value).partition("=")
        if name not in (*RATES, *QUANTILES):
            self.fail(f"found {name!r}, expected {', '.join((*RATES, *QUANTILES))}", param, ctx)
        try:
            return name, Change(margin=float(margin))
        except ValueError:
            self.fail(f"found {value!r}, expected NAME=NUMBER: ttft_p95=0.5", param, ctx)


@judge.command("replay")
@click.argument("records", nargs=-1, required=True, metavar="RECORDS...",
                type=click.Path(exists=True, path_type=Path))  # fmt: skip
@click.option("--split", type=click.IntRange(1, 99), metavar="PERCENT",
              help="The canary's share, in one step.  [default: 10]")  # fmt: skip
@click.option("--steps", type=Weights(), metavar="5,25,50",
              help="Climb these weights instead, as a rollout does.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same replays.")
@click.option("--trials", type=click.IntRange(1, 10_000), default=20, show_default=True,
              help="How often to deal the sessions anew.")  # fmt: skip
@click.option("--ttft", type=click.FloatRange(0.01, 100), default=1.0, metavar="TIMES",
              help="Harm: the canary's times to first byte, so many times as long.")  # fmt: skip
@click.option("--inter-token", "itl", type=click.FloatRange(0.01, 100), default=1.0,
              metavar="TIMES", help="Harm: its times between tokens likewise.")  # fmt: skip
@click.option("--errors", type=click.FloatRange(0, 1), default=0.0, metavar="SHARE",
              help="Harm: this share of its requests fails (0.05 is 5 %).")  # fmt: skip
@click.option("--margin", "margins", type=Margin(), multiple=True, metavar="NAME=NUMBER",
              help="Another margin for a metric (0.5 is 50 % worse). Repeatable.")  # fmt: skip
@click.option("--informative", multiple=True, type=click.Choice((*RATES, *QUANTILES)),
              metavar="NAME", help="A metric that doesn't decide. Repeatable.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text",
              show_default=True)  # fmt: skip
def replay_(
    records: tuple[Path, ...],
    split: int | None,
    steps: tuple[int, ...] | None,
    seed: int,
    trials: int,
    margins: tuple[tuple[str, Change], ...],
    informative: tuple[str, ...],
    output: Literal["text", "json"],
    **harm: float,
) -> None:
    """Deal recorded sessions to two arms at random, and see what the judge says.

    RECORDS are files of JSON lines, or folders of them: from `tidegate up --record FOLDER`,
    `tidegate load --record FILE`, or your own logs (docs/judge.md has the fields). Both arms are
    the same traffic, so every abort is a false alarm; with a harm, every pass is a miss.

    \b
    Examples:
      tidegate judge replay records/ --split 10 --seed 1
      tidegate judge replay records/ --steps 5,25,50 --ttft 1.5
    """
    if split is not None and steps is not None:
        raise click.UsageError("--split is one step, --steps are several: name one of them")
    found = list(read_all(records))
    setup = Setup(
        settings=_settings(margins, informative),
        weights=steps or (split or 10,),
        injection=Injection(**harm),
        warm_up_s=_warm_up(found),
    )
    report = _replay(found, Random(seed), setup, trials)
    click.echo(_json(report) if output == "json" else report.tell())
    if not report.trials:
        raise click.ClickException("no request in RECORDS met an endpoint: nothing to replay")


def read_all(paths: Iterable[Path]) -> Iterator[Record]:
    """Yield the requests of files of JSON lines, or of folders of them."""
    files = chain.from_iterable(
        sorted(path.rglob("*.jsonl")) if path.is_dir() else (path,) for path in paths
    )
    for path in files:
        with path.open("rb") as lines:
            yield from read(lines, str(path))


def _settings(margins: Iterable[tuple[str, Change]], informative: Iterable[str]) -> Settings:
    changes = dict(margins)
    for name in informative:
        changes[name] = msgspec.structs.replace(changes.get(name, Change()), role="informative")
    return Settings(metrics=adjusted(METRICS, changes))


def _warm_up(found: list[Record]) -> float:
    """Return how long the stable is looked at alone: a fifth of the records, ten minutes at most.

    Says what the records are, for their length decides what can be shown.
    """
    starts = [each.started_at for each in found]
    span_s = max(starts, default=0.0) - min(starts, default=0.0)
    sessions = len({each.session for each in found if each.session})
    told = f"{len(found):,} requests of {sessions:,} sessions in {span_s / 60:.0f} minutes"
    click.echo(told, err=True)
    return min(600.0, span_s / 5)


def _replay(found: list[Record], rng: Random, setup: Setup, trials: int) -> Report:
    made = replay(found, rng, setup, trials=trials)
    with click.progressbar(
        made, length=trials, label="replays", file=sys.stderr, show_pos=True
    ) as bar:
        return Report(setup.injection, tuple(bar))


def _json(report: Report) -> str:
    outcomes = ("completed", "aborted", "inconclusive")
    return json.dumps(
        {
            "injection": msgspec.to_builtins(report.injection),
            "shares": {each: report.share(each) for each in outcomes},
            "mistakes": report.share(report.wrong),
            "trials": msgspec.to_builtins(report.trials),
        },
        indent=2,
    )
