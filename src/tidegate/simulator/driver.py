"""Runs the pure engine on an event loop's timers and hands out its tokens."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from tidegate.simulator.engine import Engine
from tidegate.simulator.jobs import Job, Progress, Running
from tidegate.simulator.metrics import Metrics


class Listener(Protocol):
    """Who waits for a job's tokens."""

    def progressed(self, made: Progress) -> None:
        """Take tokens that were made."""


class Driver:
    """One engine on one loop. Its clock is `loop.time()`."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        loop: asyncio.AbstractEventLoop,
        wall: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.after_step: Callable[[], None] | None = None
        """Called after each step, for faults that depend on what the engine does."""
        self._metrics = metrics
        self._loop = loop
        self._wall = wall
        self._due: float | None = None

    def submit(self, job: Job, listener: Listener) -> Running:
        """Queue a job; `listener` gets every progress of it until it is finished or aborted."""
        sequence = self.engine.submit(job, self._loop.time(), listener)
        if job.adapter:
            self._metrics.saw_adapters(self.engine, self._wall)
        self._arm()
        return sequence

    def abort(self, sequence: Running) -> None:
        """Forget a job; its listener hears no more."""
        if sequence.owner is not None:
            sequence.owner = None
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
            listener = progress.sequence.owner
            if listener is None:  # aborted by a listener before it
                continue
            self._metrics.progress(progress)
            if progress.last:
                progress.sequence.owner = None
            listener.progressed(progress)
        self._metrics.stepped(self.engine)
        self._metrics.saw_adapters(self.engine, self._wall)
        if self.after_step is not None:
            self.after_step()
        self._arm()
