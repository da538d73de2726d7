"""`tidegate up`: parse, run."""

from pathlib import Path
from typing import Literal

import click

from tidegate.process.settings import DEFAULT_API_PORT, DEFAULT_METRICS_PORT, DEFAULT_PORT

PORT = click.IntRange(0, 65535)


def _default(port: int) -> str:
    return f"[default: the last start's, at first {port}]"


@click.command()
@click.option("-f", "--filename", "manifests", multiple=True, metavar="PATH",
              help="Apply this file, folder, or stdin (-) at the start. Repeatable. A folder's "
              "files of rollouts are left to you.")  # fmt: skip
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("~/.tidegate"),
    envvar="TIDEGATE_DATA_DIR",
    show_default=True,
    show_envvar=True,
    help="Where everything is kept. One `tidegate up` at a time.",
)
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address that listeners bind; 0.0.0.0 lets other machines in.")  # fmt: skip
@click.option("--port", type=PORT, metavar="N",
              help=f"Of the gateway; 0 takes a free one. {_default(DEFAULT_PORT)}")  # fmt: skip
@click.option("--api-port", type=PORT, metavar="N",
              help=f"Of the Kubernetes API. {_default(DEFAULT_API_PORT)}")  # fmt: skip
@click.option("--metrics-port", type=PORT, metavar="N",
              help=f"Of /metrics. {_default(DEFAULT_METRICS_PORT)}")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), metavar="N",
              help="Gateway processes. [default: one per core]")  # fmt: skip
@click.option(
    "--drain-timeout",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long requests may go on when the gateway stops.",
)
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console",
              show_default=True)  # fmt: skip
@click.option("--access-log", is_flag=True, help="Log a line per request (no prompts, no keys).")
@click.option("--record", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Record requests for `tidegate judge replay` (no prompts).")  # fmt: skip
@click.option("--no-answer-headers", is_flag=True,
              help="Answer without x-tidegate-pool and x-tidegate-endpoint.")  # fmt: skip
@click.option("--trust-headers", is_flag=True,
              help="Believe clients' x-gateway-* and x-tidegate-* headers.")  # fmt: skip
def up(
    manifests: tuple[str, ...],
    data_dir: Path,
    host: str,
    port: int | None,
    api_port: int | None,
    metrics_port: int | None,
    workers: int | None,
    drain_timeout: float,
    log_format: Literal["json", "console"],
    access_log: bool,
    record: Path | None,
    no_answer_headers: bool,
    trust_headers: bool,
) -> None:
    """Run a gateway on this machine until Ctrl-C.

    Starts a Kubernetes API, a controller, gateway workers, and the model servers that the
    manifests name; `ready` is the last line that it prints once it takes requests. A second
    start with the same --data-dir goes on where the first ended, at the same addresses.

    \b
    Examples:
      tidegate up -f examples/node
      tidegate up -f routes.yaml -f pools/ --port 9000
      kustomize build . | tidegate up -f -
    """
    from tidegate.process.up import Options
    from tidegate.process.up import up as run

    options = Options(
        data_dir=data_dir,
        manifests=manifests,
        host=host,
        port=port,
        api_port=api_port,
        metrics_port=metrics_port,
        workers=workers,
        log_format=log_format,
        access_log=access_log,
        record=record,
        answer_headers=not no_answer_headers,
        trust_headers=trust_headers,
        drain_s=drain_timeout,
    )
    run(options, click.echo)
