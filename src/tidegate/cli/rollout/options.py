"""Options that commands of rollouts share, and how their work is run."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from tidegate.api.durations import parse_duration
from tidegate.api.errors import FieldError
from tidegate.cli.rollout.client import Access, Client, connected

T = TypeVar("T")
Command = Callable[..., Any]

LIST_OUTPUTS: Final = ("table", "wide", "name", "json", "yaml")


class Duration(click.ParamType[float]):
    """A time as in manifests: `30s`, `5m`, `1h30m`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        try:
            return parse_duration(str(value))
        except FieldError as error:
            self.fail(str(error).removeprefix(": "), param, ctx)


def reaching(command: Command) -> Command:
    """Give a command the options that say which API, as its first argument `access`."""

    @click.option("-n", "--namespace", metavar="NAME",
                  help="Default: that of the kubeconfig's context.")  # fmt: skip
    @click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Default: $KUBECONFIG, ~/.kube/config, ~/.tidegate/kubeconfig.",
    )
    @wraps(command)
    def wrapped(*args: Any, namespace: str | None, kubeconfig: Path | None, **options: Any) -> Any:
        return command(Access(kubeconfig, namespace), *args, **options)

    return wrapped


def run(access: Access, work: Callable[[Client], Awaitable[T]]) -> T:
    """Do some work with a client; Ctrl-C ends it as a shell expects it."""

    async def whole() -> T:
        async with connected(access) as client:
            return await work(client)

    try:
        return asyncio.run(whole())
    except KeyboardInterrupt as error:
        raise click.Abort from error
