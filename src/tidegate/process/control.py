"""The control process: `python -m tidegate.process.control DATA_DIR`.

The API over the SQLite engine, and the controllers, which talk to it as any client does.
Everything that matters is in the data directory, so it may be killed at any moment: model
servers go on and are taken over by the next one, workers go on with the table they have.

SIGTERM ends the model servers in order and then the rest; a second one ends them at once.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
import structlog
import uvloop

from tidegate.api.errors import TidegateError
from tidegate.api.meta import Resource
from tidegate.api.tidegate import ModelServer
from tidegate.controllers import objectives, protection, sight
from tidegate.controllers.hearing import Hearing
from tidegate.controllers.loop import back_off, pause
from tidegate.controllers.modelservers import ModelServers
from tidegate.controllers.objectives import Objectives
from tidegate.controllers.protection import Protection
from tidegate.controllers.replica import Place
from tidegate.controllers.rollouts import Rollouts
from tidegate.controllers.roster import Roster
from tidegate.controllers.routes import Routes
from tidegate.process.clock import now
from tidegate.process.settings import API_HOST, DataDir, Settings
from tidegate.routing import snapshot
from tidegate.routing.snapshot import Snapshot
from tidegate.store.client import HttpStore
from tidegate.store.credentials import ensure_credentials
from tidegate.store.informer import Informer
from tidegate.store.server import serve
from tidegate.store.sqlite import Engine
from tidegate.telemetry import logs
from tidegate.telemetry.shelf import Shelf

KINDS: Final[tuple[type[Resource], ...]] = tuple(
    dict.fromkeys((*snapshot.KINDS, *objectives.KINDS, *sight.KINDS, ModelServer))
)
MOST_ADDRESSES: Final = 16
"""Of a Gateway's status (Gateway API v1)."""

log = structlog.get_logger()


class Signals:
    """The first SIGTERM sets `stop`, the second `hurry`."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)

    def _received(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


def main(folder: str) -> int:
    """Serve until SIGTERM; return the exit code."""
    data = DataDir.open(Path(folder))
    settings = data.read() or Settings()
    logs.configure(settings.log_format)
    try:
        uvloop.run(_run(data, settings))
    except TidegateError as error:
        log.error("control failed", error=str(error))
        return 1
    return 0


async def _run(data: DataDir, settings: Settings) -> None:
    signals = Signals()
    credentials = ensure_credentials(data.root, host=API_HOST, port=settings.api_port, now=now())
    engine = Engine.open(data.database, now=now)
    started = asyncio.Event()
    api = asyncio.ensure_future(
        serve(
            engine,
            credentials,
            host=API_HOST,
            port=settings.api_port,
            now=now,
            started=started.set,
        )
    )
    try:
        await _first(api, started.wait())
        if not api.done():
            control = _control(data, settings, signals)
            await _first(api, control)
    finally:
        api.cancel()
        await asyncio.wait((api,))
        engine.close()
    if not api.cancelled() and (error := api.exception()):
        raise error


async def _control(data: DataDir, settings: Settings, signals: Signals) -> None:
    """Run the controllers until we are told to stop."""
    store = HttpStore.from_kubeconfig(data.kubeconfig)
    informer = Informer(store, KINDS)
    following = asyncio.ensure_future(informer.run())
    try:
        await _first(following, informer.synced())
        await _reconcile(data, settings, signals, store, informer)
    finally:
        following.cancel()
        await asyncio.wait((following,))
        await store.close()


async def _reconcile(
    data: DataDir, settings: Settings, signals: Signals, store: HttpStore, informer: Informer
) -> None:
    cache = Snapshot({kind: informer.resources[kind] for kind in KINDS})
    controllers = _Controllers(data, settings.host, store, cache)
    works = (_dispatch(informer, controllers.changed), *controllers.works())
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await signals.stop.wait()
        await _close(controllers.servers, signals)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Controllers:
    """All of them, over one cache."""

    def __init__(self, data: DataDir, host: str, store: HttpStore, cache: Snapshot) -> None:
        place = Place(API_HOST, data.logs, Roster(data.run / "model-servers"))
        self.servers = ModelServers(cache, store, place, now)
        self._hearing = Hearing(cache, data.run, now)
        self._routes = Routes(
            cache,
            store,
            now,
            host=host,
            addresses=_addresses(host),
            metrics=self._hearing.verdict,
        )
        self._objectives = Objectives(cache, store, now)
        self._protection = Protection(cache, store)
        self._rollouts = Rollouts(cache, store, now, run=data.run, shelf=Shelf(data.records))

    def changed(self, kind: type[Resource], key: Any) -> None:
        """Tell a change to whom it concerns."""
        if kind is ModelServer:
            self.servers.loop.add(key)
        if kind in snapshot.KINDS:
            self._routes.changed()
        if kind in objectives.KINDS:
            self._objectives.changed()
        if kind in protection.KINDS:
            self._protection.changed()
        if kind in sight.KINDS:
            self._rollouts.changed(kind, key)

    def works(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Return what is to be done beside each other, until it is cancelled."""
        return (
            _kept("modelservers", self.servers.run),
            _kept("routes", self._routes.run),
            _kept("hearing", lambda: self._hearing.run(self._routes.changed)),
            _kept("objectives", self._objectives.run),
            _kept("protection", self._protection.run),
            _kept("rollouts", self._rollouts.run),
        )


async def _close(servers: ModelServers, signals: Signals) -> None:
    closing = asyncio.ensure_future(servers.close())
    await _first(closing, signals.hurry.wait())
    if not closing.done():
        servers.kill()
    await closing


async def _dispatch(informer: Informer, changed: Callable[[type[Resource], Any], None]) -> None:
    queue = informer.subscribe()
    while True:
        changed(*await queue.get())


async def _kept(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a controller; whatever ends it, run it again."""
    failures, never = 0, asyncio.Event()
    while True:
        try:
            await run()
        except Exception:
            failures += 1
            log.exception("controller failed", controller=name, retry_in=back_off(failures))
        await pause(back_off(max(failures, 1)), never)


async def _first(*works: Any) -> None:
    """Wait until one of them is over; futures are left alone, coroutines cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ours = [task for task, work in zip(tasks, works, strict=True) if task is not work]
        for task in ours:
            task.cancel()
        for outcome in await asyncio.gather(*ours, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def _addresses(host: str) -> tuple[str, ...]:
    """Return where clients reach listeners that are bound to `host`."""
    if host not in ("0.0.0.0", "::", ""):
        return (host,)
    return tuple(_own_addresses())[:MOST_ADDRESSES] or ("127.0.0.1",)


def _own_addresses() -> Iterable[str]:
    with suppress(OSError):
        for addresses in psutil.net_if_addrs().values():
            for one in addresses:
                if one.family.name == "AF_INET" and not one.address.startswith("127."):
                    yield one.address


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
