"""Requests that ended are counted together, a moment later: no client waits for it.

Counting a hundred at once is also cheaper than one by one between other work. Who reads the
counts calls `flush` before, so nobody sees a moment at which a request is neither running nor
counted.
"""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import structlog

from tidegate.judge.record import Record

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger("tidegate.gateway")

PAUSE_S: Final = 0.02
MOST: Final = 256
"""Records that wait; then they are counted at once."""


class Tally:
    """Records of requests that ended and aren't counted yet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *takers: Callable[[Record], None],
        after: Callable[[], None] | None = None,
    ) -> None:
        """Hand each record to all `takers`, then call `after`."""
        self._loop = loop
        self._takers = takers
        self._after = after
        self._records: list[Record] = []
        self._due: asyncio.TimerHandle | None = None

    def add(self, record: Record) -> None:
        """Count `record` soon."""
        self._records.append(record)
        if self._due is None:
            self._due = self._loop.call_later(PAUSE_S, self.flush)
        elif len(self._records) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Count now."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        records, self._records = self._records, []
        for take in self._takers:
            for record in records:
                self._hand(take, record)
        if records and self._after is not None:
            self._after()

    def before(self, read: Callable[P, T]) -> Callable[P, T]:
        """Return `read`, made to count first."""

        def reading(*args: P.args, **kwargs: P.kwargs) -> T:
            self.flush()
            return read(*args, **kwargs)

        return reading

    def _hand(self, take: Callable[[Record], None], record: Record) -> None:
        try:
            take(record)
        except Exception:
            # Whoever counts requests must not be able to stop them.
            log.exception("record lost by a bug", route=record.route)
