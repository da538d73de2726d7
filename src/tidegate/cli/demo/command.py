"""`tidegate demo`: parse, run, say how it went."""

import asyncio
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tidegate.api.errors import TidegateError

if TYPE_CHECKING:  # imported where they are used: `--help` needs none of it
    from tidegate.cli.demo.rollout import Show
    from tidegate.cli.demo.screen import Screen


@click.command()
@click.option(
    "--rate",
    type=click.FloatRange(2, 1000),
    default=115.0,
    show_default=True,
    help="New sessions a second.",
)
@click.option(
    "--sessions",
    type=click.IntRange(10),
    default=1000,
    show_default=True,
    help="To be counted in each phase.",
)
@click.option("-f", "--filename", "manifests", type=click.Path(path_type=Path, exists=True),
              help="Other manifests with the same names than examples/node.")  # fmt: skip
def demo(rate: float, sessions: int, manifests: Path | None) -> None:
    """Roll traffic from one pool to another and back, on simulated servers, and measure it.

    Needs no cluster, no GPU and no network; everything runs on 127.0.0.1 and is gone
    afterwards. Exits with 1 if a request failed or a share isn't what its weight says.
    """
    from rich.console import Console

    from tidegate.cli.demo.gateway import examples
    from tidegate.cli.demo.rollout import Show
    from tidegate.cli.demo.screen import Screen, hints

    show = Show(rate, sessions, time.perf_counter)
    screen = Screen(Console(), show)
    try:
        folder = manifests or examples()
        _run(folder, show, screen)
    except TidegateError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("interrupted; everything is stopped", err=True)
        sys.exit(130)
    screen.summary()
    click.echo(hints(folder))
    sys.exit(0 if show.good else 1)


def _run(folder: Path, show: "Show", screen: "Screen") -> None:
    import uvloop

    from tidegate.cli.demo.gateway import ENDING, running
    from tidegate.cli.demo.rollout import Rollout

    async def play() -> None:
        # Not by an exception in the middle of any callback, which might be the wrong one.
        if task := asyncio.current_task():
            for number in ENDING:
                asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await Rollout(gateway, show, screen).run()

    _end_as_by_ctrl_c(ENDING)
    with running(folder) as gateway, screen.live():
        try:
            uvloop.run(play())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            _end_as_by_ctrl_c(ENDING)  # the loop has taken its handlers with it


def _end_as_by_ctrl_c(numbers: Iterable[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
