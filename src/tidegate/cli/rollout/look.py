"""Commands that look: list, get, explain, history, report."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from tidegate.api.rollout import InferenceRollout
from tidegate.cli.rollout import outputs
from tidegate.cli.rollout.client import Access, Client
from tidegate.cli.rollout.endpoints import Busy, look
from tidegate.cli.rollout.options import LIST_OUTPUTS, reaching, run
from tidegate.cli.rollout.view import Screen, tree
from tidegate.cli.rollout.waiting import exit_code, until_over
from tidegate.judge.block import Block
from tidegate.process.clock import now
from tidegate.rollout.plan import plan_of
from tidegate.telemetry.shelf import Shelf


@click.command("list")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Of all namespaces.")
@click.option("-o", "--output", type=click.Choice(LIST_OUTPUTS), default="table",
              show_default=True)  # fmt: skip
@reaching
def list_(access: Access, everywhere: bool, output: outputs.Output) -> None:
    """List rollouts: phase, step, weights, message, age."""
    found = run(access, lambda client: client.all(everywhere=everywhere))
    if not found and output in ("table", "wide"):
        where = "" if everywhere else f" in namespace {access.own_namespace()}"
        click.echo(f"No rollouts{where}; `tidegate rollout start --help` says how to begin.",
                   err=True)  # fmt: skip
        return
    click.echo(outputs.render(found, output, now(), as_list=True, everywhere=everywhere))


@click.command()
@click.argument("name")
@click.option("-w", "--watch", is_flag=True, help="Show it as it goes, until it has ended.")
@click.option("-o", "--output", type=click.Choice(("tree", *LIST_OUTPUTS)), default="tree",
              show_default=True)  # fmt: skip
@reaching
def get(access: Access, name: str, watch: bool, output: Any) -> None:
    """Show one rollout: its steps, weights, verdicts, findings.

    With -w it is a live picture, or a line a change where there is no terminal; it ends with
    the rollout, and then exits with 0, or 3 if the rollout was aborted or rolled back.
    """
    if watch:
        if output != "tree":
            raise click.UsageError("-w shows the tree: leave out -o, or use kubectl get -w")
        sys.exit(run(access, lambda client: _watch(client, name)))
    if output == "tree":
        found, busy = run(access, lambda client: _with_endpoints(client, name))
        Console(highlight=False).print(tree(found, now(), busy))
    else:
        found = run(access, lambda client: client.get(name))
        click.echo(outputs.render([found], output, now(), as_list=False))


async def _watch(client: Client, name: str) -> int:
    screen = Screen(Console(highlight=False), now)
    with screen.live():
        return exit_code(await until_over(client, name, screen))


async def _with_endpoints(client: Client, name: str) -> tuple[InferenceRollout, tuple[Busy, ...]]:
    found = await client.get(name)
    return found, await look(client, plan_of(found.spec))


@click.command()
@click.argument("name")
@reaching
def explain(access: Access, name: str) -> None:
    """Say in sentences where a rollout is, why, and what can be done."""
    from tidegate.cli.rollout.explain import explain as sentences

    for line in sentences(run(access, lambda client: client.get(name)), now()):
        click.echo(line)


@click.command()
@click.argument("name")
@click.option("-o", "--output", type=click.Choice(("table", "json")), default="table",
              show_default=True)  # fmt: skip
@reaching
def history(access: Access, name: str, output: str) -> None:
    """List the last changes of phase, step and weight, and why they were made."""
    entries = run(access, lambda client: client.get(name)).status.history
    if output == "json":
        click.echo(json.dumps(msgspec.to_builtins(entries), indent=2, ensure_ascii=False))
    elif entries:
        click.echo(outputs.history(entries, now()))
    else:
        click.echo(f"{name} has no history yet.", err=True)


@click.command()
@click.argument("name")
@click.option("-o", "--output", required=True, metavar="FILE",
              type=click.Path(path_type=Path, dir_okay=False, writable=True, allow_dash=True),
              help="The page to write; - is stdout.")  # fmt: skip
@click.option("--records", type=click.Path(path_type=Path, file_okay=False),
              help="Where the controller keeps its counts. [default: records/ beside the"
              " kubeconfig]")  # fmt: skip
@reaching
def report(access: Access, name: str, output: Path, records: Path | None) -> None:
    """Write one HTML page on a rollout: weights, times and failures over time, verdicts, history.

    What the gateway counted is read from the controller's files. Where these can't be read, say
    on another machine, the page has the weights, the last verdict and the history.
    """
    from tidegate.cli.rollout.report import report as page

    found: InferenceRollout = run(access, lambda client: client.get(name))
    folder = records or access.path.parent / "records"
    text = page(found, now(), kept(folder, found))
    if str(output) == "-":
        click.echo(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"can't write {output}: {error.strerror}") from error
    click.echo(f"wrote {output}", err=True)


def kept(folder: Path, rollout: InferenceRollout) -> list[Block]:
    """Return what the controller has kept of a rollout in its folder of counts."""
    frames = Shelf(folder).read(rollout.metadata.uid)
    return [block for frame in frames for block in frame.blocks]
