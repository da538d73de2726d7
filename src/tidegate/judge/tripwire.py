"""Catastrophes, noticed within some twenty requests of the canary.

Where half the requests fail, nobody should wait for units of time. The tripwire adds up the
log likelihood ratio of "half fail" against "as many as are bearable" and begins anew whenever
that falls below 0 (Page's CUSUM, 1954). While the canary's errors are bearable, its mean time
to a false alarm is at least `BAR` sessions (Lorden 1971); where they are far below, as with an
equal canary, it is astronomically longer.

It counts sessions, not requests, and wants several: one client with one poisonous prompt must
not roll back everybody.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tidegate.judge.block import Block, distinct, smallest
from tidegate.judge.tracks import Bucket

BAR: Final = 1000.0
BEARABLE: Final = 0.05
"""Errors that never trip it, as a share of sessions."""
TIMES: Final = 2.0
"""Nor do as many times the stable's."""
TRIPPED: Final = 0.5
LEAST_SESSIONS: Final = 3
_MEMORY: Final = 0.9
"""Of the stable's errors, from one bucket to the next."""


@dataclass(frozen=True, slots=True)
class _Sum:
    """A CUSUM, and what it is made of since it last was 0."""

    log: float = 0.0
    sessions: int = 0
    bad: int = 0
    who: tuple[int, ...] = ()
    anonymous: int = 0

    @property
    def tripped(self) -> bool:
        return self.log >= math.log(BAR) and len(self.who) + self.anonymous >= LEAST_SESSIONS


@dataclass(slots=True)
class Tripwire:
    """One rollout's tripwire."""

    message: str = ""
    """Why it tripped; '' as long as it has not."""
    _past: _Sum = _Sum()
    """Of buckets that can't change any more."""
    _stable: float = 0.0
    _stable_bad: float = 0.0

    def pass_by(self, bucket: Bucket) -> None:
        """Count a bucket that won't change any more."""
        self._past = self._with(self._past, bucket)
        self._note(self._past)
        stable, bad, _, _ = _sessions(bucket.stable.values())
        self._stable = self._stable * _MEMORY + stable
        self._stable_bad = self._stable_bad * _MEMORY + bad

    def watch(self, fresh: Iterable[Bucket]) -> None:
        """Look at buckets that may still change, in order of time."""
        total = self._past
        for bucket in fresh:
            total = self._with(total, bucket)
            self._note(total)

    def _note(self, total: _Sum) -> None:
        if total.tripped and not self.message:
            stable = f"{self._bearable(0.0, 0.0)[1]:.1%}"
            self.message = (
                f"{total.bad} of the canary's last {total.sessions} sessions failed;"
                f" of the stable's lately {stable}"
            )

    def _with(self, total: _Sum, bucket: Bucket) -> _Sum:
        count, bad, who, anonymous = _sessions(bucket.canary.values())
        if not count:
            return total
        stable, stable_bad, _, _ = _sessions(bucket.stable.values())
        bearable, _ = self._bearable(stable, stable_bad)
        if bearable >= TRIPPED:
            return _Sum()
        log = total.log + bad * math.log(TRIPPED / bearable)
        log += (count - bad) * math.log((1 - TRIPPED) / (1 - bearable))
        if log <= 0:
            return _Sum()
        return _Sum(
            log,
            total.sessions + round(count),
            total.bad + round(bad),
            tuple(smallest(total.who, who)),
            total.anonymous + anonymous,
        )

    def _bearable(self, stable: float, bad: float) -> tuple[float, float]:
        """Return the share of errors that must be borne, and the stable's own."""
        seen = self._stable + stable
        share = (self._stable_bad + bad) / seen if seen else 0.0
        return max(BEARABLE, TIMES * share), share


def _sessions(blocks: Iterable[Block]) -> tuple[float, float, list[int], int]:
    """Return sessions, those with an error, who the latter are, and how many have no name."""
    everybody: list[int] = []
    bad: list[int] = []
    anonymous = anonymous_bad = 0
    for block in blocks:
        everybody = smallest(everybody, block.sessions)
        bad = smallest(bad, block.bad_sessions)
        anonymous += block.anonymous
        anonymous_bad += block.anonymous_bad
    count = max(distinct(everybody), distinct(bad)) + anonymous
    return count, distinct(bad) + anonymous_bad, bad, anonymous_bad
