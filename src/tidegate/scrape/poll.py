"""Watch a changing set of endpoints: one task and one kept connection each.

Nothing is kept here: what is seen goes to `on_event` as `picker.state` events.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random

from tidegate.picker.state import Event
from tidegate.scrape.pace import Pace
from tidegate.scrape.watch import Watch


class Poller:
    """Scrapes the endpoints that it was last given while `run` runs."""

    def __init__(
        self,
        on_event: Callable[[str, Event], None],
        *,
        rng: Random,
        interval_s: float = 0.2,
        timeout_s: float = 1.0,
    ) -> None:
        """Prepare to scrape.

        Args:
            on_event: Called in the event loop with an endpoint's address and what was seen.
                It must not raise: its error ends `run`.
            rng: Spreads the scrapes, so that workers and endpoints don't fall into step.
            interval_s: Between two scrapes of a busy endpoint (see `scrape.pace`).
            timeout_s: For one answer, connecting included.

        """
        self._on_event = on_event
        self._pace = Pace(rng, interval_s, timeout_s)
        self._watches: dict[str, Watch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    def set_endpoints(self, engines: Mapping[str, str]) -> None:
        """Scrape exactly these endpoints from now on: address → engine ('' if unknown).

        An endpoint that stays keeps its connection and its pace. One that is gone is not
        heard of again.
        """
        self._pace.endpoints = len(engines)
        for watch in list(self._watches.values()):
            if engines.get(watch.address) != watch.engine:
                self._stop(watch.address)
        for address, engine in engines.items():
            if address not in self._watches:
                self._watches[address] = Watch(address, engine, self._pace, self._on_event)
                self._start(address)

    def refresh_models(self, address: str) -> None:
        """Look at an endpoint's models now: somebody changed what it has loaded."""
        if address in self._watches:
            self._watches[address].refresh_models()

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with asyncio.TaskGroup() as self._group:
            try:
                for address in self._watches:
                    self._start(address)
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None  # it takes nobody any more while it waits for those it has
                self._tasks.clear()

    def _start(self, address: str) -> None:
        if self._group:
            self._tasks[address] = self._group.create_task(self._watches[address].run())

    def _stop(self, address: str) -> None:
        del self._watches[address]
        if address in self._tasks:
            self._tasks.pop(address).cancel()
