"""Commands before and at the beginning: plan, lint, start."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Event
from time import perf_counter
from typing import Any, get_args

import click
from rich.console import Console

from tidegate.api.errors import NotFoundError, TidegateError
from tidegate.api.rollout import FindingStatus, InferenceRollout, Preset, RolloutType
from tidegate.cli.rollout import outputs, timing
from tidegate.cli.rollout.client import Access, Client
from tidegate.cli.rollout.lint import advice
from tidegate.cli.rollout.lint import findings as find
from tidegate.cli.rollout.manifest import Given, NoRolloutError, from_file, from_options
from tidegate.cli.rollout.options import Duration, reaching, run
from tidegate.cli.rollout.progress import state_of, total_s
from tidegate.cli.rollout.view import Screen
from tidegate.cli.rollout.waiting import DONE, exit_code, is_over, until_over
from tidegate.process.clock import now
from tidegate.rollout.plan import brief, plan_of

FILE = click.option("-f", "--filename", metavar="PATH", help="A manifest, a folder, or - (stdin).")


class Steps(click.ParamType[list[dict[str, Any]]]):
    """Weights in percent: `5,25,50`."""

    name = "steps"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[dict[str, Any]]:
        """Return the steps."""
        if isinstance(value, list):
            return value
        try:
            return [{"setWeight": int(part)} for part in str(value).split(",")]
        except ValueError:
            self.fail(f"found {value!r}, expected percents such as 5,25,50", param, ctx)


class Target(click.ParamType[dict[str, Any]]):
    """Whose weights move: `NAME`, `NAME/RULE`, `KIND/NAME/RULE`."""

    name = "target"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Return the target's fields."""
        if isinstance(value, dict):
            return value
        parts = str(value).split("/")
        names = ("name", "rule") if len(parts) < 3 else ("kind", "name", "rule")
        if len(parts) > 3 or not all(parts):
            self.fail(f"found {value!r}, expected [KIND/]NAME[/RULE]", param, ctx)
        return dict(zip(names, parts, strict=False))


@click.command()
@click.argument("name", required=False)
@FILE
@click.option("--rate", type=click.FloatRange(0, min_open=True), metavar="N",
              help="Requests a second.  [default: as the gateway counts in 10 s]")  # fmt: skip
@click.option("--recorded", "paths", multiple=True, type=click.Path(exists=True, path_type=Path),
              help="Recorded requests: files or folders of JSON lines. Repeatable.")  # fmt: skip
@reaching
def plan(
    access: Access,
    name: str | None,
    filename: str | None,
    rate: float | None,
    paths: tuple[Path, ...],
) -> None:
    """Spell out what a rollout would do, and how long each step takes at today's traffic.

    Of a manifest (-f), for which nothing needs to run, or of a rollout that is there. Also said
    are the requests that a bad canary gets before it is found, and what would be quicker.

    \b
    Examples:
      tidegate rollout plan -f rollout.yaml --rate 4
      tidegate rollout plan move --recorded records/
    """
    found = timing.recorded(paths) if paths else []
    for one in _given(access, name, filename):
        for warning in one.warnings:
            click.echo(f"warning: {warning}", err=True)
        made = plan_of(one.rollout.spec)
        for line in outputs.plan(made):
            click.echo(line)
        own = rate or timing.rate_of(found) or _counted(access, one)
        click.echo()
        if own:
            click.echo("\n".join(timing.told(made, own, found)))
        else:
            click.echo("How long it takes depends on the traffic: --rate N or --recorded says it.")


def _counted(access: Access, one: Given) -> float:
    """Return the requests a second that the gateway counts now; 0 if it doesn't say."""
    counter = timing.counter(access, plan_of(one.rollout.spec), one.rollout.metadata.namespace)
    before = counter.read() if counter else None
    if counter is None or before is None:
        return 0.0
    click.echo(f"counting requests for {timing.SAMPLE_S:g} s", err=True)
    began = perf_counter()
    Event().wait(timing.SAMPLE_S)
    after = counter.read()
    return max(0.0, (after or before) - before) / (perf_counter() - began)


@click.command()
@click.argument("name", required=False)
@FILE
@click.option("--offline", is_flag=True, help="Look at the manifest alone.")
@reaching
def lint(access: Access, name: str | None, filename: str | None, offline: bool) -> None:
    """Check a rollout without moving anything; exit with 1 if something keeps it from starting.

    Checked are the spec, and against the API: the route, the pools, ready endpoints, and what
    models and adapters they list. The controller checks more when the rollout starts.
    """
    blocked = False
    for one in _given(access, name, filename):
        found = [*advice(one.rollout.spec), *_findings(access, one, offline=offline)]
        for warning in one.warnings:
            click.echo(f"warning: {warning}", err=True)
        for line in outputs.findings(found, lambda text, colour: click.style(text, fg=colour)):
            click.echo(line)
        blocked |= (stopped := _blocks(found))
        verdict = "would not start" if stopped else "may start"
        click.echo(f"{one.rollout.metadata.name} {verdict}.")
    sys.exit(int(blocked))


def _findings(access: Access, one: Given, *, offline: bool) -> list[FindingStatus]:
    if offline:
        return []
    own = Access(access.kubeconfig, one.rollout.metadata.namespace)
    return list(run(own, lambda client: find(client, one.rollout.spec)))


def _blocks(found: list[FindingStatus]) -> bool:
    return any(each.severity == "Block" and not each.waived for each in found)


def _given(access: Access, name: str | None, filename: str | None) -> list[Given]:
    if filename is not None:
        return _from_file(access, name, filename)
    if name is None:
        raise click.UsageError("name a rollout, or a manifest with -f")
    return [Given(run(access, lambda client: client.get(name)), {})]


def _from_file(access: Access, name: str | None, filename: str) -> list[Given]:
    found = from_file(filename, access.own_namespace())
    chosen = [one for one in found if name in (None, one.rollout.metadata.name)]
    if not chosen:
        there = ", ".join(one.rollout.metadata.name for one in found)
        raise NoRolloutError(f"{filename}: found {there}, but no rollout {name}")
    return chosen


@click.command()
@click.argument("name", required=False)
@FILE
@click.option("--stable", metavar="NAME", help="The pool (or adapter) that serves today.")
@click.option("--canary", metavar="NAME", help="The one that shall serve.")
@click.option("--type", "type_", type=click.Choice(get_args(RolloutType)))
@click.option("--target", type=Target(), metavar="[KIND/]NAME[/RULE]",
              help="Whose weights move. [default: what has both sides]")  # fmt: skip
@click.option("--preset", type=click.Choice(get_args(Preset)), help="Steps by name.")
@click.option("--steps", type=Steps(), metavar="5,25,50", help="Weights in percent.")
@click.option("--analysis", metavar="TIME", help="How long to look at each weight. [default: 5m]")
@click.option("--min-requests", type=int, metavar="N", help="That the canary must have answered.")
@click.option("--bake", metavar="TIME", help="How long the stable stays whole. [default: 10m]")
@click.option("--drain", metavar="TIME", help="How long its requests may take. [default: 5m]")
@click.option("--on-failure", type=click.Choice(("RollBack", "Hold")))
@click.option("--again", is_flag=True, help="Delete an ended rollout of this name first.")
@click.option("--force-conflicts", is_flag=True, help="Take over fields that others wrote.")
@click.option("--wait", is_flag=True, help="Show it until it has ended: exit with 0, or 3 if the "
              "canary didn't take over.")  # fmt: skip
@click.option("--timeout", type=Duration(), metavar="TIME", help="Of --wait; exits with 1 then.")
@reaching
def start(
    access: Access,
    name: str | None,
    filename: str | None,
    *,
    again: bool,
    force_conflicts: bool,
    wait: bool,
    timeout: float | None,
    **fields: Any,
) -> None:
    """Start a rollout, of a manifest or of options.

    \b
    Examples:
      tidegate rollout start -f rollout.yaml --wait --timeout 1h
      tidegate rollout start move --stable llm --canary llm-new
      tidegate rollout start v2 --type Adapter --stable chat-v1 --canary chat-v2 --steps 10,50
    """
    spec = _spec(fields)
    given = _to_start(access, name, filename, spec)
    if wait and len(given) > 1:
        raise click.UsageError("--wait needs a NAME: there are several rollouts in the file")
    for one in given:
        own = Access(access.kubeconfig, one.rollout.metadata.namespace)
        applied = run(own, partial(_start, one=one, again=again, force=force_conflicts))
        _say_started(one, applied, wait=wait)
        if wait:
            sys.exit(run(own, partial(_wait, applied=applied, timeout_s=timeout)))


def _spec(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the spec that options named."""
    names = {"type_": "type", "on_failure": "onFailure"}
    spec = {
        names.get(field, field): value
        for field, value in fields.items()
        if value is not None and field not in ("analysis", "min_requests")
    }
    analysis = {"duration": fields["analysis"], "minRequests": fields["min_requests"]}
    if given := {field: value for field, value in analysis.items() if value is not None}:
        spec["analysis"] = given
    return spec


def _to_start(
    access: Access, name: str | None, filename: str | None, spec: Mapping[str, Any]
) -> list[Given]:
    if filename is not None:
        if spec:
            raise click.UsageError(f"-f has the spec: leave out --{next(iter(spec))}")
        return _from_file(access, name, filename)
    if name is None or not {"stable", "canary"} <= spec.keys():
        raise click.UsageError("name a manifest (-f), or NAME with --stable and --canary")
    return [from_options(name, access.own_namespace(), spec)]


class EndedBeforeError(TidegateError):
    """A rollout of this name has ended, and the same spec wouldn't start it again."""

    reason = "RolloutEnded"


async def _start(client: Client, one: Given, again: bool, force: bool) -> InferenceRollout:
    name = one.rollout.metadata.name
    try:
        there = await client.store.get(InferenceRollout, client.key(name))
    except NotFoundError:
        there = None
    if there is not None and is_over(there):
        if again:
            await client.delete(name)
        elif there.spec.abort or there.spec.undo or _asks_for_nothing_new(there, one):
            raise EndedBeforeError(
                f"{name} has ended ({there.status.phase}), and this spec wouldn't start it:"
                " --again deletes it and starts anew"
            )
    return await client.apply(name, one.fields, force=force)


def _asks_for_nothing_new(there: InferenceRollout, one: Given) -> bool:
    old, new = state_of(there).plan, plan_of(one.rollout.spec)
    return (old.sides, old.steps) == (new.sides, new.steps)


def _say_started(one: Given, applied: InferenceRollout, *, wait: bool) -> None:
    for warning in one.warnings:
        click.echo(f"warning: {warning}", err=True)
    name, plan = applied.metadata.name, plan_of(applied.spec)
    whole = brief(total_s(plan.steps) + plan.bake_s)
    click.echo(f"{name}: {plan.stable} → {plan.canary} in {len(plan.steps)} steps, {whole} or more")
    if not wait:
        click.echo(f"`tidegate rollout get {name} -w` shows it")


async def _wait(client: Client, applied: InferenceRollout, timeout_s: float | None) -> int:
    name, generation = applied.metadata.name, applied.metadata.generation
    screen = Screen(Console(highlight=False), now)
    with screen.live():
        ended = await until_over(client, name, screen, generation=generation, timeout_s=timeout_s)
    if exit_code(ended) != DONE:
        click.echo(f"`tidegate rollout explain {name}` says more", err=True)
    return exit_code(ended)
