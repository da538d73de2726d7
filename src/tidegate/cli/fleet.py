"""`tidegate fleet`: what would happen if, in virtual time."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # imported where they are used: `--help` needs none of it
    from rich.table import Table

    from tidegate.fleet.contestant import Contestant
    from tidegate.fleet.outcome import Report
    from tidegate.fleet.workload import Workload

RIVALS = ("round-robin", "random", "least-requests", "bounded-hash")


@click.group()
def fleet() -> None:
    """Ask what would happen if: a simulated fleet under the real scheduler."""


@fleet.command()
@click.argument("workload", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-c",
    "--config",
    "configs",
    multiple=True,
    default=("default",),
    show_default=True,
    metavar="FILE|default",
    help="An EndpointPickerConfig; `default` is that of a pool without one. Repeatable.",
)
@click.option(
    "--rival",
    "rivals",
    multiple=True,
    type=click.Choice([*RIVALS, "all"]),
    help="A plain load balancer to compare with. Repeatable.",
)
@click.option("--requests", type=click.IntRange(1), help="At most so many.")
@click.option("--seed", type=int, help="Instead of the workload's.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the comparison with charts as one HTML page, too.",
)
def simulate(
    workload: Path,
    configs: tuple[str, ...],
    rivals: tuple[str, ...],
    requests: int | None,
    seed: int | None,
    output: str,
    plot: Path | None,
) -> None:
    """Run the traffic of a WORKLOAD file through the scheduler and flow control.

    Nothing is sent: servers are simulated, and time is virtual. Several configurations are
    compared side by side on the same requests.
    """
    import msgspec

    from tidegate.fleet.workload import read

    what = read(workload)
    what = msgspec.structs.replace(
        what, requests=requests or what.requests, seed=what.seed if seed is None else seed
    )
    reports = [_run(what, one) for one in _contestants(configs, rivals)]
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(reports)))
    else:
        _show(what, reports)
    if plot is not None:
        _write(plot, workload, what, reports)


def _contestants(configs: Sequence[str], rivals: Sequence[str]) -> "list[Contestant]":
    from tidegate.fleet.contestant import configured, default, rival

    ours = [default() if one == "default" else configured(Path(one)) for one in configs]
    names = RIVALS if "all" in rivals else rivals
    return [*ours, *map(rival, names)]


def _run(workload: "Workload", contestant: "Contestant") -> "Report":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from tidegate.fleet.run import simulate as run
    from tidegate.fleet.traffic import expected

    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(contestant.name, total=expected(workload))
        return run(workload, contestant, lambda came: bar.update(task, completed=came))


def _show(workload: "Workload", reports: "Sequence[Report]") -> None:
    from rich.console import Console

    console = Console()
    console.width = max(100, console.width)  # a table that is cut says nothing
    objective = workload.objective
    console.print(
        f"{workload.size:,} servers, {reports[0].duration_s:,.0f} s of virtual time; good: "
        f"first token within {objective.ttft}, {objective.itl} between tokens"
    )
    console.print(_table("all traffic", reports))
    kinds = list(reports[0].kinds)
    for kind in kinds if len(kinds) > 1 else ():
        console.print(_table(kind, reports, kind))


def _table(title: str, reports: "Sequence[Report]", kind: str = "") -> "Table":
    from rich import box
    from rich.table import Table

    from tidegate.fleet.page import HEADS, OF_ALL, of_all, row

    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for head in HEADS if kind else (*HEADS, *OF_ALL):
        table.add_column(head, justify="right", no_wrap=True)
    for one in reports:
        cells = row(one.kinds[kind]) if kind else [*row(one.all), *of_all(one)]
        table.add_row(one.name, *cells)
    return table


def _write(plot: Path, file: Path, workload: "Workload", reports: "Sequence[Report]") -> None:
    from tidegate.fleet.page import page

    subtitle = f"{workload.size:,} servers · {workload.duration} · virtual time"
    plot.write_text(page(reports, f"What if: {file.stem}", subtitle), encoding="utf-8")
    click.echo(f"wrote {plot}", err=True)
