"""Asks the workers at their sockets when they last heard each endpoint's metrics.

`freshness` says what that means for each pool; here are the sockets, and who is told when it
means something else. A worker that doesn't answer is left out: the others' word counts.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from tidegate.api.inference import InferencePool, LegacyInferencePool
from tidegate.api.meta import Key
from tidegate.controllers.cache import Cache
from tidegate.controllers.freshness import CONDITION, NO_WORKERS, Freshness, Verdict
from tidegate.controllers.loop import pause
from tidegate.routing.references import CONTROLLER
from tidegate.telemetry.ask import ask
from tidegate.telemetry.heard import Heard, Report, decode

PERIOD_S: Final = 1.0
TIMEOUT_S: Final = 2.0
SILENT_S: Final = 10.0
"""After so long without a worker's word nothing is known any more."""


class Hearing:
    """All pools, as all workers hear them."""

    def __init__(self, cache: Cache, run: Path, now: Callable[[], float]) -> None:
        """Make it.

        Args:
            cache: Where the pools are, with what was said of them before.
            run: The folder of the workers' sockets.
            now: Seconds since the epoch.

        """
        self._cache = cache
        self._run = run
        self._now = now
        self._pools: dict[str, Freshness] = {}
        self._told = False
        """Whether any worker has said anything yet."""
        self._told_at = now()
        self._silent = False

    def verdict(self, key: Key) -> Verdict | None:
        """Return what is to be said of a pool's metrics; None: nothing."""
        if self._silent:
            return NO_WORKERS
        known = self._pools.get(str(key))
        if known is not None:
            return known.verdict
        return None if self._told else self._said_before(str(key))

    async def run(self, on_change: Callable[[], None]) -> None:
        """Ask again and again until cancelled; `on_change` is told when to ask for verdicts."""
        never = asyncio.Event()
        while True:
            if await self.look():
                on_change()
            await pause(PERIOD_S, never)

    async def look(self) -> bool:
        """Ask all workers once; return whether a verdict changed, or a pool came or went."""
        sockets = sorted(self._run.glob("worker-*.sock"))
        answers = await asyncio.gather(*(_ask(socket) for socket in sockets))
        before = self._verdicts()
        self._take([each for each in answers if each is not None and each.pools is not None])
        return self._verdicts() != before

    def _take(self, reports: list[Report]) -> None:
        now = self._now()
        if not reports:
            self._silent = now - self._told_at >= SILENT_S
            return
        self._told, self._told_at, self._silent = True, now, False
        pools = _by_pool(reports)
        self._pools = {
            name: self._pools.get(name) or Freshness(self._said_before(name)) for name in pools
        }
        for name, heard in pools.items():
            self._pools[name].look(heard, now)

    def _verdicts(self) -> tuple[bool, dict[str, Verdict | None]]:
        return self._silent, {name: each.verdict for name, each in self._pools.items()}

    def _said_before(self, name: str) -> Verdict | None:
        """Return what the pool's status says, so that a controller that starts changes nothing."""
        key = Key(*name.split("/", 1))
        newer = self._cache.get(InferencePool, key)
        older = self._cache.get(LegacyInferencePool, key)
        parents = newer.status.parents if newer else older.status.parent if older else ()
        ours = (each for each in parents if each.controller_name == CONTROLLER)
        found = [one for each in ours for one in each.conditions if one.type == CONDITION]
        return Verdict(found[0].status, found[0].reason, found[0].message) if found else None


def _by_pool(reports: Iterable[Report]) -> dict[str, list[Heard]]:
    pools: defaultdict[str, list[Heard]] = defaultdict(list)
    for report in reports:
        for pool in report.pools or ():
            pools[pool.pool] += pool.endpoints
    return pools


async def _ask(socket: Path) -> Report | None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return decode(await ask(socket, "/heard"))
    except (OSError, EOFError, ValueError, TimeoutError, msgspec.MsgspecError):
        # `records` logs who doesn't answer.
        return None
