"""A worker process and the API that it watches, put together by hand.

python -m bench.interim KUBECONFIG SOCKET [--access-log]
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import yaml

from bench.processes import Cpus, Started, python
from bench.setup import Place, Running
from tidegate.api.meta import Key
from tidegate.api.scheme import by_kind
from tidegate.gateway import worker
from tidegate.gateway.settings import WorkerSettings
from tidegate.process.clock import now
from tidegate.store.client import HttpStore
from tidegate.testing.gateway import BASE


class Both(Started):
    """The worker; its API ends with it."""

    api: Started

    def stop(self) -> None:
        """End both."""
        super().stop()
        self.api.stop()


def start_interim(
    place: Place, name: str, port: int, cpus: Cpus, objects: list[dict[str, Any]], *flags: str
) -> Running:
    """Start an API with `objects`, and a worker that serves them."""
    data = place.folder / name
    api_port = place.free_port()
    api = Started(
        python("-m", "tidegate.testing.api", data, str(api_port)),
        cpus=cpus.rest,
        log=place.log(name + "-api"),
    )
    api.line()
    base = list(yaml.safe_load_all(BASE.replace("PORT", str(port))))
    asyncio.run(_apply(data / "kubeconfig", [*base, *objects]))
    started = Both(
        python("-m", "bench.interim", data / "kubeconfig", data / "w.sock", *flags),
        cpus=cpus.gateway,
        log=place.log(name),
    )
    started.api = api
    return Running(started, port)


async def _apply(kubeconfig: Path, objects: list[dict[str, Any]]) -> None:
    store = HttpStore.from_kubeconfig(kubeconfig)
    for each in objects:
        kind = by_kind(each["apiVersion"].rpartition("/")[0], each["kind"])
        assert kind is not None
        key = Key("default" if kind.namespaced else "", each["metadata"]["name"])
        fields = {k: v for k, v in each.items() if k not in ("apiVersion", "kind")}
        await store.apply(kind.model, key, fields, manager="bench")
        if kind.kind == "ModelServer":
            endpoints = [{"address": a, "state": "Ready"} for a in each["spec"]["addresses"]]
            await store.apply_status(kind.model, key, {"endpoints": endpoints}, manager="bench")
    await store.close()


if __name__ == "__main__":
    kubeconfig, socket, *flags = sys.argv[1:]
    worker.run(
        WorkerSettings(
            Path(kubeconfig),
            "w0",
            Path(socket),
            metrics_port=0,
            access_log="--access-log" in flags,
        ),
        now,
    )
