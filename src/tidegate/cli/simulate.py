"""`tidegate simulate`: a model server without a model."""

import sys

import click

from tidegate.process.clock import now
from tidegate.simulator.errors import CrashError, SimulatorError
from tidegate.simulator.profiles import PROFILES, by_name
from tidegate.simulator.settings import DEFAULT_MODEL, Settings, parse_faults, tuned


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=(DEFAULT_MODEL,),
    show_default=True,
    help="Name of the base model; more are aliases. Repeatable.",
)
@click.option(
    "--lora-module",
    "adapters",
    multiple=True,
    metavar="NAME[=PATH]",
    help="A loaded adapter. Repeatable.",
)
@click.option(
    "--max-loras",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Adapters in one batch, and slots on the GPU.",
)
@click.option(
    "--max-cpu-loras", type=click.IntRange(1), help="Adapters in memory.  [default: --max-loras]"
)
@click.option(
    "--profile",
    type=click.Choice(sorted(PROFILES)),
    default="demo",
    show_default=True,
    help="How fast it is.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same answers.")
@click.option("--max-num-seqs", type=click.IntRange(1), help="Requests that run at once.")
@click.option("--max-model-len", type=click.IntRange(2), help="Tokens of prompt and answer.")
@click.option(
    "--num-gpu-blocks", "blocks", type=click.IntRange(1), help="KV-cache blocks of 16 tokens."
)
@click.option(
    "--time-scale",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Latencies are multiplied by this.",
)
@click.option(
    "--faults",
    default="{}",
    metavar="JSON",
    help='What is wrong with it from the start, as at /admin/faults: {"error_rate": 0.3}',
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds that running requests may take to finish after SIGTERM.",
)
def simulate(
    port: int,
    host: str,
    models: tuple[str, ...],
    adapters: tuple[str, ...],
    max_loras: int,
    max_cpu_loras: int | None,
    profile: str,
    seed: int,
    max_num_seqs: int | None,
    max_model_len: int | None,
    blocks: int | None,
    time_scale: float,
    faults: str,
    drain_timeout: float,
) -> None:
    """Serve simulated models with vLLM's API: chat, completions, metrics, adapters.

    The first SIGTERM or Ctrl-C lets running requests finish, the second cuts them. Faults can
    be switched on at /admin/faults while it runs.
    """
    limits = {"max_num_seqs": max_num_seqs, "max_model_len": max_model_len, "blocks": blocks}
    try:
        settings = Settings(
            models=models,
            adapters=adapters,
            profile=tuned(by_name(profile), time_scale=time_scale, **limits),
            seed=seed,
            max_loras=max_loras,
            max_cpu_loras=max_cpu_loras,
            faults=parse_faults(faults),
        )
        clean = _serve(settings, host, port, drain_timeout)
    except CrashError as error:
        click.echo(str(error) or "crashed: a fault was switched on", err=True)
        sys.exit(1)
    except SimulatorError as error:
        raise click.ClickException(str(error)) from error
    if not clean:
        click.echo("requests were cut", err=True)
        sys.exit(1)


def _serve(settings: Settings, host: str, port: int, drain_s: float) -> bool:
    import uvloop  # here and not above: `--help` needs none of it

    from tidegate.simulator.server import Server, run

    def ready(address: str) -> None:
        click.echo(f"serving {', '.join(settings.models)} at http://{address}")

    return uvloop.run(run(Server(settings, now, host, port), drain_s, ready))
