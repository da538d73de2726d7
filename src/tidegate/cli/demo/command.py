"""`tidegate demo`: parse, run, say how it went."""

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tidegate.api.errors import TidegateError

if TYPE_CHECKING:  # imported where they are used: `--help` needs none of it
    from tidegate.cli.demo.acts import Act
    from tidegate.cli.demo.gateway import Gateway
    from tidegate.cli.demo.picture import Picture
    from tidegate.cli.demo.play import Show
    from tidegate.cli.demo.rollout import Show as HandShow
    from tidegate.cli.demo.screen import Screen

REPORTS: Final = Path("~/.tidegate/demo")
RATE: Final = 50.0
HAND_RATE: Final = 115.0


@click.command()
@click.option("--by-hand", is_flag=True, help="Move weights by hand instead, there and back.")
@click.option(
    "--rate",
    type=click.FloatRange(2, 1000),
    help=f"Requests a second.  [default: {RATE:.0f}; by hand {HAND_RATE:.0f}, each a session]",
)
@click.option(
    "--sessions",
    type=click.IntRange(10),
    help="By hand: to be counted in each phase.  [default: 1000]",
)
@click.option("-f", "--filename", "manifests", type=click.Path(path_type=Path, exists=True),
              help="Other manifests, with the same names as examples/demo (by hand: node) has.",
              )  # fmt: skip
@click.option("--reports", type=click.Path(path_type=Path, file_okay=False), default=REPORTS,
              show_default=True, help="Where pages about the updates are written.")  # fmt: skip
def demo(
    *,
    by_hand: bool,
    rate: float | None,
    sessions: int | None,
    manifests: Path | None,
    reports: Path,
) -> None:
    """Update a service under live traffic three times: new nodes, a bad model, a new adapter.

    The updates run themselves: the first and the last complete, the second is found bad and
    given back. With --by-hand, weights are moved from one pool to another and back, and
    measured. Needs no cluster, no GPU and no network; everything runs on 127.0.0.1 and is gone
    afterwards, but for the reports. Exits with 1 if it didn't go as it should.
    """
    if sessions is not None and not by_hand:
        raise click.UsageError("--sessions counts by hand: say --by-hand too")
    from tidegate.cli.demo.gateway import ENDING

    _end_as_by_ctrl_c(ENDING)
    try:
        if by_hand:
            good = _by_hand(manifests, rate or HAND_RATE, sessions or 1000)
        else:
            good = _by_itself(manifests, rate or RATE, reports.expanduser())
    except TidegateError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted; everything is stopped", err=True)
        sys.exit(130)
    sys.exit(0 if good else 1)


def _by_itself(manifests: Path | None, rate: float, reports: Path) -> bool:
    from rich.console import Console

    from tidegate.cli.demo.gateway import example
    from tidegate.cli.demo.hints import rollouts
    from tidegate.cli.demo.picture import Picture
    from tidegate.cli.demo.play import Show
    from tidegate.process.clock import now

    folder = manifests or example("demo")
    show = Show(rate, time.perf_counter)
    picture = Picture(Console(highlight=False), show, now)
    _play(folder, show, picture, reports)
    picture.summary()
    click.echo(f"One page for each update: {reports}/*.html")
    click.echo(rollouts(example("node")))
    return show.good


def _play(folder: Path, show: "Show", picture: "Picture", reports: Path) -> None:
    from tidegate.cli.demo.gateway import running
    from tidegate.cli.demo.play import Play

    with running(folder) as gateway, picture.live():
        play = Play(gateway, folder / "rollouts", show, picture)
        _run(play.run(lambda act: _report(act, gateway, reports)))


def _report(act: "Act", gateway: "Gateway", folder: Path) -> None:
    from tidegate.cli.rollout.look import kept
    from tidegate.cli.rollout.report import report
    from tidegate.process.clock import now

    if act.rollout is not None:
        folder.mkdir(parents=True, exist_ok=True)
        page = report(act.rollout, now(), kept(gateway.records, act.rollout))
        (folder / f"{act.name}.html").write_text(page, encoding="utf-8")


def _by_hand(manifests: Path | None, rate: float, sessions: int) -> bool:
    from rich.console import Console

    from tidegate.cli.demo.gateway import example
    from tidegate.cli.demo.hints import by_hand
    from tidegate.cli.demo.rollout import Show
    from tidegate.cli.demo.screen import Screen

    folder = manifests or example("node")
    show = Show(rate, sessions, time.perf_counter)
    screen = Screen(Console(), show)
    _move(folder, show, screen)
    screen.summary()
    click.echo(by_hand(folder))
    return show.good


def _move(folder: Path, show: "HandShow", screen: "Screen") -> None:
    from tidegate.cli.demo.gateway import running
    from tidegate.cli.demo.rollout import Rollout

    with running(folder) as gateway, screen.live():
        _run(Rollout(gateway, show, screen).run())


def _run(work: Coroutine[Any, Any, None]) -> None:
    import uvloop

    from tidegate.cli.demo.gateway import ENDING

    async def cancellable() -> None:
        # Not by an exception in the middle of any callback, which might be the wrong one.
        if task := asyncio.current_task():
            for number in ENDING:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await work

    try:
        uvloop.run(cancellable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        _end_as_by_ctrl_c(ENDING)  # the loop has taken its handlers with it


def _end_as_by_ctrl_c(numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
