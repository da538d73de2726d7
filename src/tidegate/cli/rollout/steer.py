"""Commands that steer: each writes what people want into the spec, and nothing else."""

import datetime as dt
import sys
from typing import Any

import click
from rich.console import Console

from tidegate.api.errors import NotFoundError, TidegateError
from tidegate.api.rollout import InferenceRollout
from tidegate.cli.rollout.client import Access, Client
from tidegate.cli.rollout.options import Duration, reaching, run
from tidegate.cli.rollout.progress import ENDS, FAILED, state_of
from tidegate.cli.rollout.view import Screen
from tidegate.cli.rollout.waiting import DONE, until_over
from tidegate.process.clock import now


class EndedError(TidegateError):
    """A rollout has ended, and can't be steered any more."""

    reason = "RolloutEnded"


def _waiting(command: Any) -> Any:
    """Give a command the options `--wait` and `--timeout`."""
    command = click.option("--timeout", type=Duration(), metavar="TIME",
                           help="Of --wait; exits with 1 then.")(command)  # fmt: skip
    return click.option("--wait", is_flag=True, help="Return once everything is back.")(command)


@click.command()
@click.argument("name")
@reaching
def pause(access: Access, name: str) -> None:
    """Stand still: clocks stop, weights stay. What protects the traffic goes on."""
    found = run(access, lambda client: _intend(client, name, paused=True))
    weight = found.status.weights.effective
    click.echo(f"{name} stands still at {weight} %; `tidegate rollout resume {name}` goes on")


@click.command()
@click.argument("name")
@reaching
def resume(access: Access, name: str) -> None:
    """Go on after a pause."""
    found = run(access, lambda client: _intend(client, name, paused=False))
    others = [hold for hold in state_of(found).holds if hold.reason != "Paused"]
    if others:
        reasons = "; ".join(hold.message for hold in others)
        click.echo(f"{name} still waits: {reasons}")
        click.echo(f"`tidegate rollout explain {name}` says what can be done")
    else:
        click.echo(f"{name} goes on; `tidegate rollout get {name} -w` shows it")


@click.command()
@click.argument("name")
@click.option("--full", is_flag=True, help="Skip all steps, to 100 %; never preflight, capacity.")
@reaching
def promote(access: Access, name: str, full: bool) -> None:
    """Let a rollout take its next step."""
    text = f"{'full ' if full else ''}{_stamp()}"
    found = run(access, lambda client: _intend(client, name, promote=text))
    if found.spec.paused:
        click.echo(f"{name} is paused: it takes the step after `tidegate rollout resume {name}`")
        return
    what = "skips its steps" if full else "takes its next step"
    click.echo(f"{name} {what}; `tidegate rollout get {name} -w` shows it")


def _stamp() -> str:
    """Return a text that no promote before had."""
    return dt.datetime.fromtimestamp(now(), dt.UTC).isoformat(timespec="microseconds")


@click.command()
@click.argument("name")
@_waiting
@reaching
def abort(access: Access, name: str, wait: bool, timeout: float | None) -> None:
    """Give everything back to the stable at once, whatever it can carry."""
    sys.exit(run(access, lambda client: _back(client, name, "abort", wait, timeout)))


@click.command()
@click.argument("name")
@_waiting
@reaching
def undo(access: Access, name: str, wait: bool, timeout: float | None) -> None:
    """Give everything back as fast as the stable can carry it, also after completion."""
    sys.exit(run(access, lambda client: _back(client, name, "undo", wait, timeout)))


async def _intend(client: Client, name: str, **fields: Any) -> InferenceRollout:
    there = await client.get(name)
    if there.status.phase in ENDS:
        raise EndedError(
            f"{name} has ended ({there.status.phase});"
            f" `tidegate rollout explain {name}` says what can be done"
        )
    return await client.intend(name, **fields)


async def _back(client: Client, name: str, intent: str, wait: bool, timeout_s: float | None) -> int:
    there = await client.get(name)
    if there.status.phase in FAILED:
        click.echo(f"{name} is {there.status.phase} already: the canary gets no requests")
        return DONE
    if there.status.phase == "Completed" and intent == "abort":
        raise EndedError(f"{name} is complete; `tidegate rollout undo {name}` goes back")
    written = await client.intend(name, **{intent: True})
    how = "at once" if intent == "abort" else "as fast as it can carry it"
    click.echo(f"{name}: everything goes back to {written.spec.stable} {how}")
    if not wait:
        click.echo(f"`tidegate rollout get {name} -w` shows it")
        return DONE
    await _until_back(client, written, timeout_s)
    return DONE


async def _until_back(client: Client, written: InferenceRollout, timeout_s: float | None) -> None:
    name, generation = written.metadata.name, written.metadata.generation
    screen = Screen(Console(highlight=False), now)
    with screen.live():
        try:
            await until_over(
                client, name, screen, generation=generation, ends=FAILED, timeout_s=timeout_s
            )
        except NotFoundError as error:
            raise EndedError(f"{name} was deleted meanwhile") from error
