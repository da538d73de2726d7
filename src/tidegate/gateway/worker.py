"""A worker process: puts a data plane together, runs it until SIGTERM, drains it."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable
from random import Random, SystemRandom

import structlog
import uvloop

from tidegate.gateway.admin import Admin
from tidegate.gateway.live import KINDS, LiveTable
from tidegate.gateway.plane import Live, Plane, Registry
from tidegate.gateway.server import Listeners
from tidegate.gateway.settings import WorkerSettings
from tidegate.gateway.upstream import UpstreamPool
from tidegate.judge.record import Record
from tidegate.picker.config import default_profile
from tidegate.scrape.poll import Poller
from tidegate.store.client import HttpStore
from tidegate.store.informer import Informer
from tidegate.telemetry import access, logs
from tidegate.telemetry.metrics import Metrics, render

log = structlog.get_logger("tidegate.gateway")


def run(settings: WorkerSettings, now: Callable[[], float]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; returns when all is done.

    `now` gives seconds since the epoch.
    """
    logs.configure(settings.log_format, settings.log_level)
    uvloop.run(_run(settings, now))


async def _run(settings: WorkerSettings, now: Callable[[], float]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics()
    plane = Plane(
        loop=loop,
        settings=settings,
        profile=default_profile(),
        rng=Random(SystemRandom().getrandbits(64)),  # a draw, not a secret
        pool=UpstreamPool(loop, settings.limits),
        clock=time.perf_counter,
        now=now,
        emit=_emitter(metrics, access_log=settings.access_log),
        reject=metrics.reject,
    )
    registry = Registry(plane.clock)
    poller = Poller(registry.note, rng=plane.rng)
    listeners = Listeners(plane)
    store = HttpStore.from_kubeconfig(settings.kubeconfig)
    informer = Informer(store, KINDS)

    def swapped(live: Live) -> None:
        poller.set_endpoints({k: v for b in live.table.backends for k, v in b.engine.items()})
        metrics.swapped(live.table, now())

    table = LiveTable(plane, registry, informer, listeners, on_swap=swapped)
    admin = Admin(
        settings.admin_socket,
        snapshot=metrics.snapshot,
        render=render,
        ready=lambda: plane.live is not None,
    )
    await admin.start(settings.host, settings.metrics_port)
    listeners.start()
    tasks = [loop.create_task(each) for each in (informer.run(), table.run(), poller.run())]
    gc.collect()
    # What lives as long as the process needn't be looked at by every collection.
    gc.freeze()
    log.info("worker started", worker=settings.worker_id)
    await stop.wait()
    log.info("worker draining", worker=settings.worker_id, in_flight=plane.in_flight)
    drained = await listeners.drain(settings.limits.drain_s)
    if not drained:
        log.warning("requests cut at the end of the drain", in_flight=plane.in_flight)
    for task in tasks:
        task.cancel()
    listeners.close()
    plane.pool.close()
    admin.close()
    await store.close()


def _emitter(metrics: Metrics, *, access_log: bool) -> Callable[[Record], None]:
    if not access_log:
        return metrics.observe

    def emit(record: Record) -> None:
        metrics.observe(record)
        access.log(record)

    return emit
