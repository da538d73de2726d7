"""A worker process: puts a data plane together, runs it until SIGTERM, drains it."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Callable, Coroutine
from random import Random, SystemRandom

import structlog
import uvloop

from tidegate.gateway.adapters import Adapters
from tidegate.gateway.admin import Admin
from tidegate.gateway.files import allow_files
from tidegate.gateway.live import LiveTable
from tidegate.gateway.plane import Live, Plane, Registry
from tidegate.gateway.recorder import Recorder
from tidegate.gateway.server import Listeners
from tidegate.gateway.settings import WorkerSettings
from tidegate.gateway.siblings import Siblings
from tidegate.gateway.tally import Tally
from tidegate.gateway.upstream import UpstreamPool
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.state import Event, Listed
from tidegate.routing.snapshot import KINDS
from tidegate.store.client import HttpStore
from tidegate.store.informer import Informer
from tidegate.telemetry import logs
from tidegate.telemetry.access import AccessLog
from tidegate.telemetry.heard import Heard, PoolHeard, Report, encode
from tidegate.telemetry.metrics import Gauges, Metrics, Picking, render
from tidegate.telemetry.recording import Recording

log = structlog.get_logger("tidegate.gateway")

FILES_PER_CONNECTION = 3
"""The client's, its endpoint's, and room for mirrors, idle connections and scrapes."""


def run(settings: WorkerSettings, now: Callable[[], float]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; returns when all is done.

    `now` gives seconds since the epoch.
    """
    logs.configure(settings.log_format, settings.log_level)
    allow_files(FILES_PER_CONNECTION * settings.limits.connections)
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
        rng=Random(SystemRandom().getrandbits(64)),
        pool=UpstreamPool(loop, settings.limits),
        clock=time.perf_counter,
        now=now,
        emit=metrics.observe,
        reject=metrics.reject,
    )
    boot = f"{settings.worker_id}-{os.getpid()}-{now():.3f}"
    recorder = Recorder(plane.running, now, boot=boot)
    recording = Recording(settings.record, boot) if settings.record else None
    plane.paired = recorder.pair
    tally = _tally(loop, metrics, recorder, recording, settings)
    plane.emit = tally.add
    store = HttpStore.from_kubeconfig(settings.kubeconfig)
    try:
        await _serve(plane, metrics, recorder, tally, store, stop)
    finally:
        tally.flush()
        if recording is not None:
            recording.flush()
        await store.close()


async def _serve(
    plane: Plane,
    metrics: Metrics,
    recorder: Recorder,
    tally: Tally,
    store: HttpStore,
    stop: asyncio.Event,
) -> None:
    registry = Registry(plane.clock)
    listeners = Listeners(plane)
    informer = Informer(store, KINDS)
    siblings = Siblings(plane, registry, _noting(registry, metrics))
    plane.adapters = Adapters(
        plane.loop, plane.pool, plane.rng, plane.clock, refresh=siblings.refresh, note=siblings.note
    )
    metrics.watch(lambda: _gauges(plane))

    def swapped(live: Live) -> None:
        siblings.swapped(live)
        metrics.swapped(live.table, plane.now())

    table = LiveTable(plane, registry, informer, listeners, on_swap=swapped)
    admin = _admin(plane, listeners, metrics, recorder, tally)
    await admin.start(plane.settings.host, plane.settings.metrics_port)
    listeners.start()
    siblings.mesh.start()
    tasks = [
        plane.loop.create_task(_must_not_end(each))
        for each in (informer.run(), table.run(), siblings.poller.run())
    ]
    # What lives as long as the process needn't be looked at by every collection.
    gc.collect()
    gc.freeze()
    await _until_drained(plane, listeners, stop)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    listeners.close()
    plane.pool.close()
    admin.close()
    siblings.mesh.close()


def _admin(
    plane: Plane, listeners: Listeners, metrics: Metrics, recorder: Recorder, tally: Tally
) -> Admin:
    return Admin(
        plane.settings.admin_socket,
        snapshot=tally.before(metrics.snapshot),
        records=tally.before(recorder.answer),
        heard=lambda: encode(_report(plane)),
        render=render,
        ready=lambda: plane.live is not None and listeners.settled and not plane.draining,
    )


async def _until_drained(plane: Plane, listeners: Listeners, stop: asyncio.Event) -> None:
    settings = plane.settings
    log.info("worker started", worker=settings.worker_id)
    await stop.wait()
    log.info("worker draining", worker=settings.worker_id, in_flight=plane.in_flight)
    if not await listeners.drain(settings.limits.drain_s):
        log.warning("requests cut at the end of the drain", in_flight=plane.in_flight)


async def _must_not_end(work: Coroutine[None, None, None]) -> None:
    """Run what a worker can't do without; its failure ends the process, to be started anew."""
    try:
        await work
    except Exception:
        log.exception("worker failed")
        os.kill(os.getpid(), signal.SIGTERM)


def _noting(registry: Registry, metrics: Metrics) -> Callable[[str, Event], None]:
    def note(address: str, event: Event) -> None:
        registry.note(address, event)
        if isinstance(event, Listed):
            metrics.know(model.id for model in event.models)

    return note


def _gauges(plane: Plane) -> Gauges:
    live = plane.live
    pools = {b.key: live.endpoints(b) for b in live.table.backends} if live is not None else {}
    gates = live.gates.values() if live is not None else ()
    queues = [queue for gate in gates for queue in gate.queues()]
    now = plane.clock()
    picking = [_picking(pool, now) for pool in live.pools.values()] if live is not None else []
    return Gauges(plane.in_flight, plane.connections, pools, now, queues, picking)


def _picking(pool: Pool, now: float) -> Picking:
    entries = len(pool.prefix) if pool.prefix is not None else 0
    return Picking(pool.name, pool.stale(now), entries, pool.prompt_tokens, pool.cached_tokens)


def _report(plane: Plane) -> Report:
    live, now = plane.live, plane.clock()
    if live is None:
        return Report()
    pools = [live.pool(each) for each in live.table.backends if each.kind == "InferencePool"]
    return Report([PoolHeard(p.name, [_heard(one, now) for one in p.members]) for p in pools])


def _heard(endpoint: Endpoint, now: float) -> Heard:
    at, blind = endpoint.state.sampled_at, endpoint.state.blind
    return Heard(endpoint.address, None if at is None else now - at, blind)


def _tally(
    loop: asyncio.AbstractEventLoop,
    metrics: Metrics,
    recorder: Recorder,
    recording: Recording | None,
    settings: WorkerSettings,
) -> Tally:
    takers = [metrics.observe, recorder.fold]
    if recording is not None:
        takers.append(recording.note)
    if not settings.access_log or settings.log_level not in {"debug", "info"}:
        return Tally(loop, *takers)
    access = AccessLog(settings.log_format)
    return Tally(loop, *takers, access.note, after=access.flush)
