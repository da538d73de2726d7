"""Runs the pure engine on an event loop's timers and hands out its tokens."""

import asyncio
from collections.abc import Callable

from tidegate.simulator.engine import Engine, Job, Progress, Running
from tidegate.simulator.metrics import Metrics

Listener = Callable[[Progress], None]


class Driver:
    """One engine on one loop. Its clock is `loop.time()`."""

    def __init__(self, engine: Engine, metrics: Metrics, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self._metrics = metrics
        self._loop = loop
        self._listeners: dict[Running, Listener] = {}
        self._due: float | None = None

    def submit(self, job: Job, listener: Listener) -> Running:
        """Queue a job; `listener` gets every progress of it until it is finished or aborted."""
        sequence = self.engine.submit(job, self._loop.time())
        self._listeners[sequence] = listener
        self._arm()
        return sequence

    def abort(self, sequence: Running) -> None:
        """Forget a job; its listener hears no more."""
        if self._listeners.pop(sequence, None) is not None:
            self.engine.abort(sequence)

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call back in so many seconds."""
        self._loop.call_later(delay_s, call)

    def _arm(self) -> None:
        due = self.engine.next_at
        if self._due is None and due is not None:
            self._due = due
            if due <= self._loop.time():
                self._loop.call_soon(self._tick)
            else:
                self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        # uvloop's timers have millisecond steps and may fire early: what was due is due.
        now = max(self._loop.time(), self._due or 0.0)
        self._due = None
        for progress in self.engine.advance(now):
            listener = self._listeners.get(progress.sequence)
            if listener is None:  # aborted by a listener before it
                continue
            self._metrics.progress(progress)
            if progress.last:
                del self._listeners[progress.sequence]
            listener(progress)
        self._arm()
