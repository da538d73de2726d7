"""`tidegate up`: from the command's options to a running gateway, and to its end.

lock → read manifests → end an old control → choose ports → control → apply → workers
     → ready → (a signal) → workers → control
"""

import asyncio
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from tidegate.api.meta import Key
from tidegate.api.scheme import by_model
from tidegate.api.tidegate import ModelServer
from tidegate.controllers.processes import Process
from tidegate.process import manifests
from tidegate.process.children import left_behind
from tidegate.process.ports import Ports
from tidegate.process.rest import Rest
from tidegate.process.settings import DataDir, Settings, SettingsError
from tidegate.process.supervise import Supervisor

KILL_S: Final = 5.0
SERVERS_S: Final = 10.0
"""How long we wait for model servers before we say that we are ready."""
LOOK_S: Final = 0.1

GATEWAY_CLASS: Final[dict[str, Any]] = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "tidegate"},
    "spec": {"controllerName": "tidegate.dev/gateway"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command was given; None where it was not."""

    data_dir: Path
    manifests: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int | None = None
    api_port: int | None = None
    metrics_port: int | None = None
    workers: int | None = None
    log_format: Literal["json", "console"] = "console"
    access_log: bool = False
    record: Path | None = None
    answer_headers: bool = True
    trust_headers: bool = False
    drain_s: float = 30.0


def up(options: Options, print_ready: Callable[[str], None]) -> None:
    """Run a gateway until we are told to stop.

    Args:
        options: What the command was given.
        print_ready: Called with the text for people once everything serves.

    Raises:
        TidegateError: It can't be started.

    """
    documents = manifests.read(options.manifests)
    data = DataDir.open(options.data_dir)
    with _locked(data):
        orphans = left_behind(data)
        _end_control(orphans)
        ports = Ports(str(data.root), options.host, ours=bool(orphans))
        settings = _settings(options, data.read() or Settings(), ports)
        data.write(settings)
        asyncio.run(_run(data, settings, documents, orphans, print_ready))


async def _run(
    data: DataDir,
    settings: Settings,
    documents: list[manifests.Document],
    orphans: dict[str, Process],
    print_ready: Callable[[str], None],
) -> None:
    say = _say_json if settings.log_format == "json" else _say
    api = Rest(data.kubeconfig)
    supervisor = Supervisor(data, settings, list(orphans), say)
    try:
        await supervisor.start_control(api.is_ready)
        for warning in await asyncio.to_thread(_apply, api, settings, documents):
            say("up", f"warning: {warning}")
        await supervisor.start_workers()
        for orphan in orphans.values():
            orphan.send(signal.SIGTERM)  # it finishes its requests; ours take the new ones
        waiting = await _waiting_servers(api, supervisor)
        print_ready(_ready_text(data, settings, waiting))
        await supervisor.told_to_stop()
    finally:
        await supervisor.close()


def _apply(api: Rest, settings: Settings, documents: list[manifests.Document]) -> list[str]:
    """Apply the default Gateway, whose port is an option of ours, and the manifests."""
    for obj in (GATEWAY_CLASS, default_gateway(settings.port)):
        metadata = obj["metadata"]
        key = Key(metadata.get("namespace", ""), metadata["name"])
        api.apply(obj, key, manager=manifests.MANAGER, force=True)
    with api.kept():
        return manifests.apply(api, documents)


async def _waiting_servers(api: Rest, supervisor: Supervisor) -> list[str]:
    """Return the model servers that aren't ready, once all are or after a while.

    Small ones are worth waiting for: what we print can be tried at once. Large ones take minutes.
    """
    loop = asyncio.get_running_loop()
    end, waiting = loop.time() + SERVERS_S, ["?"]
    while waiting and loop.time() < end and not supervisor.stopping:
        servers = await asyncio.to_thread(api.all, by_model(ModelServer))
        waiting = [_name(server) for server in servers if not _is_ready(server)]
        if waiting:
            await supervisor.pause(LOOK_S)
    return waiting


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _is_ready(item: Mapping[str, Any]) -> bool:
    conditions = item.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def default_gateway(port: int) -> dict[str, Any]:
    """Return the Gateway that routes without a Gateway of their own are served on."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": "tidegate",
            "namespace": "default",
            "labels": {"tidegate.dev/default": "true"},
        },
        "spec": {
            "gatewayClassName": "tidegate",
            "listeners": [
                {
                    "name": "http",
                    "protocol": "HTTP",
                    "port": port,
                    "allowedRoutes": {"namespaces": {"from": "All"}},
                }
            ],
        },
    }


@contextmanager
def _locked(data: DataDir) -> Iterator[None]:
    """Hold the directory. Raises SettingsError, naming the holder, where somebody else does."""
    with data.lock.open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SettingsError(
                f"{data.root} is in use by another `tidegate up` (pid {lock.read().strip()}); "
                "end it, or choose another directory with --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _end_control(orphans: dict[str, Process]) -> None:
    """End an old control process at once: SIGTERM would make it end the model servers."""
    if old := orphans.pop("control", None):
        old.send(signal.SIGKILL)
        try:
            psutil.Process(old.pid).wait(KILL_S)
        except psutil.NoSuchProcess:
            return
        except psutil.TimeoutExpired:
            raise SettingsError(f"an old control process (pid {old.pid}) doesn't end") from None


def _settings(options: Options, last: Settings, ports: Ports) -> Settings:
    return Settings(
        host=options.host,
        port=ports.gateway(options.port, last.port),
        api_port=ports.api(options.api_port, last.api_port),
        metrics_port=ports.metrics(options.metrics_port, last.metrics_port),
        workers=options.workers or _cores(),
        log_format=options.log_format,
        access_log=options.access_log,
        record=str(options.record.expanduser().absolute()) if options.record else "",
        answer_headers=options.answer_headers,
        trust_headers=options.trust_headers,
        drain_s=options.drain_s,
    )


def _ready_text(data: DataDir, settings: Settings, waiting: list[str]) -> str:
    host = "localhost" if settings.host in ("0.0.0.0", "::", "127.0.0.1") else settings.host
    gateway = f"http://{host}:{settings.port}"
    note = f"\nmodel servers that still start: {', '.join(waiting)}\n" if waiting else ""
    return f"""
  gateway   {gateway}
  API       https://127.0.0.1:{settings.api_port}
  metrics   http://{host}:{settings.metrics_port}/metrics

  export KUBECONFIG={data.kubeconfig}
  kubectl get gateway,httproute,inferencepool,modelserver
  curl {gateway}/v1/models
{note}
ready"""


def _say(name: str, line: str) -> None:
    _write(f"{name:<9} | {line}")


def _say_json(name: str, line: str) -> None:
    """Pass a JSON line on as it is: it is for a program."""
    _write(line if line.startswith("{") else json.dumps({"process": name, "event": line}))


def _write(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone; the logs have it anyway
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
