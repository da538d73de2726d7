"""The command `tidegate`: a client like any other, except for `up`, which starts the servers.

Commands are imported when they are used, so that `tidegate --help` is quick and a command
that can't be imported disturbs no other.
"""

from importlib import import_module
from typing import Any, Final

import click

from tidegate.api.errors import TidegateError

COMMANDS: Final = {
    "up": ("tidegate.cli.up", "Run a gateway on this machine."),
    "rollout": ("tidegate.cli.rollout", "Start, watch, steer and explain rollouts."),
    "demo": ("tidegate.cli.demo", "Watch three updates of simulated servers, in two minutes."),
    "simulate": ("tidegate.cli.simulate", "Serve simulated models with vLLM's API."),
    "judge": ("tidegate.cli.judge", "Test the judge of canaries on recorded traffic."),
    "fleet": ("tidegate.cli.fleet", "Ask what would happen if: a simulated fleet, virtual time."),
    "load": ("tidegate.cli.load", "Send open-loop load to a URL and report what came of it."),
}
"""Name → module, which has the command under the same name, and what `--help` says of it."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and prints errors of ours as one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        try:
            command: click.Command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        except ImportError as error:
            raise click.ClickException(f"{cmd_name} is not available: {error}") from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; exit with 1 and one line where it fails as foreseen."""
        try:
            return super().invoke(ctx)
        except TidegateError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tidegate", prog_name="tidegate")
def main() -> None:
    """Run an inference gateway with rollouts built in.

    \b
    Start one with the example manifests, and look at it:
      tidegate up -f examples/node
      export KUBECONFIG=~/.tidegate/kubeconfig
      kubectl get httproute,inferencepool,modelserver

    \b
    Watch rollouts, without anything of your own:
      tidegate demo

    \b
    Move traffic to a new pool, safely:
      tidegate rollout start move --stable llm --canary llm-new --wait

    Exit status: 0 done, 1 failed, 2 misused, 3 a rollout was aborted or rolled back.
    """
