"""Blocks in from the workers: asked for at their sockets, handed on, and kept on disk.

A worker that is killed takes what it hadn't shipped with it; its successor begins with another
name and number 1. A worker that doesn't answer is asked again at the next round.
"""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from tidegate.controllers.loop import pause
from tidegate.controllers.tempo import Tempo
from tidegate.controllers.trail import Trail
from tidegate.judge.pairs import Paired, Pairs
from tidegate.rollout.facts import TrafficFacts
from tidegate.routing.session import Feature
from tidegate.telemetry.ask import ask
from tidegate.telemetry.shelf import Frame, Shelf
from tidegate.telemetry.shipment import Shipment, decode

PERIOD_S: Final = 0.5
TIMEOUT_S: Final = 2.0
LATELY_S: Final = 3600.0
"""What requests asked for in the last hour, others will ask for."""
_FEATURES: Final = {int(each): each.name.lower() for each in Feature if each.name}
STALE_S: Final = 3.0
"""What a worker said of its running requests is believed for so long."""

log = structlog.get_logger()


class Records:
    """All workers' blocks, sorted by the rollouts that they concern."""

    def __init__(
        self, run: Path, shelf: Shelf, now: Callable[[], float], on_news: Callable[[str], None]
    ) -> None:
        """Make it.

        Args:
            run: The folder of the workers' sockets.
            shelf: Where blocks are kept.
            now: Seconds since the epoch.
            on_news: Told a rollout's uid when there is something new of it.

        """
        self._run = run
        self._shelf = shelf
        self._now = now
        self._on_news = on_news
        self._trails: dict[str, Trail] = {}
        self._last: dict[str, Shipment] = {}
        """By the socket's name."""
        self._silent: set[str] = set()
        self._tempo = Tempo()

    def follow(self, uid: str, trail: Trail) -> Trail:
        """Keep the blocks of a rollout from now on; return its trail, with what was kept."""
        known = self._trails.get(uid)
        same = known is not None and _names(known) == _names(trail)
        if known is not None and same:
            return known
        for frame in self._shelf.read(uid):
            trail.add(frame.boot, frame.number, trail.of(frame.blocks), frame.pairs)
        self._trails[uid] = trail
        return trail

    def leave(self, uid: str) -> None:
        """Keep no more of a rollout."""
        self._trails.pop(uid, None)

    def value(self, uid: str, paired: Paired, canary: float, other: float) -> None:
        """Count a value from outside, and what it is held against."""
        trail = self._trails.get(uid)
        if trail is None:
            return
        pairs = Pairs()
        pairs.hold(paired, canary, other)
        frame = Frame("values", round(1000 * self._now()), [], pairs)
        while not trail.add(frame.boot, frame.number, [], pairs):
            frame = msgspec.structs.replace(frame, number=frame.number + 1)
        self._shelf.append(uid, frame)
        trail.latest[paired.name] = (canary, other)
        trail.unknown.pop(paired.name, None)
        self._on_news(uid)

    def running(
        self, pool: str, models: frozenset[str] | None = None, since: float = -math.inf
    ) -> int | None:
        """Return the requests under way at `pool` (`namespace/name`) over all workers.

        Args:
            pool: Whose.
            models: Only these models, as they were sent; None means all.
            since: What was said before (seconds since the epoch) doesn't count.

        Returns:
            None if not all workers said it lately.

        """
        if not self._last or self._silent:
            return None
        oldest = min(each.now for each in self._last.values())
        if oldest < max(since, self._now() - STALE_S):
            return None
        return sum(
            each.count
            for shipment in self._last.values()
            for each in shipment.running
            if each.pool == pool and (models is None or each.model in models)
        )

    def rate(self, scope: str) -> float | None:
        """Return the requests a second of a rule lately; None while nobody knows."""
        return self._tempo.rate(scope, self._now())

    def traffic(self, scope: str) -> TrafficFacts:
        """Return what requests of a rule have asked for lately."""
        edge = self._now() - LATELY_S
        demands = [
            demand
            for shipment in self._last.values()
            for demand in shipment.demands
            if demand.scope == scope
        ]
        models = {name for each in demands for name, at in each.models.items() if at > edge}
        bits = {bit for each in demands for bit, at in each.features.items() if at > edge}
        return TrafficFacts(
            models=frozenset(models) or None,
            longest=max((each.longest for each in demands), default=0) or None,
            features=frozenset(_FEATURES[bit] for bit in bits if bit in _FEATURES),
        )

    async def run(self) -> None:
        """Ask the workers, again and again, until cancelled."""
        never = asyncio.Event()
        while True:
            await self.look()
            await pause(PERIOD_S, never)

    async def look(self) -> None:
        """Ask all workers once."""
        sockets = {path.stem: path for path in sorted(self._run.glob("worker-*.sock"))}
        for name in self._last.keys() - sockets.keys():
            del self._last[name]
        self._silent &= sockets.keys()
        await asyncio.gather(*(self._ask(name, path) for name, path in sockets.items()))

    async def _ask(self, name: str, socket: Path) -> None:
        last = self._last.get(name)
        newest = last.parcels[-1].number if last is not None and last.parcels else 0
        boot = last.boot if last is not None else ""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                body = await ask(socket, f"/records?boot={boot}&after={newest}")
            shipment = decode(body)
        except (ConnectionRefusedError, FileNotFoundError):
            # Nobody is there any more, and so are its requests.
            self._last.pop(name, None)
            self._silent.discard(name)
        except (OSError, EOFError, ValueError, TimeoutError, msgspec.MsgspecError) as error:
            if name not in self._silent:
                log.warning("worker doesn't say its records", worker=name, error=str(error))
            self._silent.add(name)
        else:
            self._silent.discard(name)
            self.take(name, shipment)

    def take(self, name: str, shipment: Shipment) -> None:
        """Take what a worker (by its socket's name) said."""
        last = self._last.get(name)
        same = last is not None and last.boot == shipment.boot
        if same and last is not None and not shipment.parcels and last.parcels:
            # The number of the newest parcel is remembered until there is a newer one.
            shipment = msgspec.structs.replace(shipment, parcels=last.parcels[-1:])
        newest = last.parcels[-1].number if same and last is not None and last.parcels else 0
        for parcel in shipment.parcels:
            if parcel.number > newest:
                self._tempo.note(parcel.blocks, self._now())
        self._last[name] = shipment
        for uid, trail in list(self._trails.items()):
            fresh = False
            for parcel in shipment.parcels:
                blocks, pairs = trail.of(parcel.blocks), parcel.pairs.get(trail.scope, Pairs())
                if not blocks and not pairs.counts:
                    continue
                if trail.add(shipment.boot, parcel.number, blocks, pairs):
                    frame = Frame(shipment.boot, parcel.number, blocks, pairs)
                    self._shelf.append(uid, frame)
                    fresh = True
            if fresh:
                self._on_news(uid)


def _names(trail: Trail) -> tuple[str, str, str]:
    return trail.scope, trail.stable, trail.canary
