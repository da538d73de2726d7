"""Catastrophes, noticed within some twenty requests of the canary.

Where half the requests fail, nobody should wait for units of time. The tripwire adds up the
log likelihood ratio of "half fail" against "as many as are bearable" and begins anew whenever
that falls below 0 (Page's CUSUM, 1954). While the canary's errors are bearable, its mean time
to a false alarm is at least `BAR` sessions (Lorden 1971); where they are far below, as with an
equal canary, it is astronomically longer.

It counts sessions, not requests, and wants several: one client with one poisonous prompt must
not roll back everybody.

A session failed if a request of it did, or if its client had to leave without a first byte
after so long that the stable would hardly ever have taken it: of a canary like the stable
that is less than one session of twenty, however patient clients are. How long it takes is
more at the mercy of the moment than whether it fails, so the stable's sessions of the same
buckets are held beside it: what they meet as well is nobody's.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.judge.block import Block, distinct, smallest
from tidegate.judge.histogram import PER_DOUBLING, at_least
from tidegate.judge.thresholds import Thresholds
from tidegate.judge.tracks import Bucket

BAR: Final = 1000.0
BEARABLE: Final = 0.05
"""Errors that never trip it, as a share of sessions."""
TIMES: Final = 2.0
"""Nor do as many times the stable's."""
TRIPPED: Final = 0.5
LEAST_SESSIONS: Final = 3
LEAST_BESIDE: Final = 10
"""Sessions of the stable beside those of the canary whose clients left, while it has traffic."""
SLOW: Final = 0.95
FAR: Final = 2.0
"""A client that leaves without a first byte after so many times the stable's quantile `SLOW`
has waited for too long: beyond any margin of a canary that is as good."""
_MEMORY: Final = 0.9
"""Of the stable's errors, from one bucket to the next."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """The sessions of one arm in one bucket."""

    count: float
    known: float
    """Those of which it is known how they began, as far as requests tell."""
    bad: float
    left: float
    """Of the bad, those whose clients left and that had no error."""
    who: list[int]
    """The bad ones that have a name."""
    anonymous: int
    """The bad ones that have none."""


@dataclass(frozen=True, slots=True)
class _Sum:
    """A CUSUM, and what it is made of since it last was 0."""

    log: float = 0.0
    sessions: int = 0
    bad: int = 0
    left: int = 0
    who: tuple[int, ...] = ()
    anonymous: int = 0
    stable: float = 0.0
    """The stable's sessions of the same buckets, known ones."""
    stable_left: float = 0.0


@dataclass(slots=True)
class Tripwire:
    """One rollout's tripwire."""

    thresholds: Thresholds
    """The stable's times to the first byte."""
    message: str = ""
    """Why it tripped; '' as long as it has not."""
    _past: _Sum = _Sum()
    """Of buckets that can't change any more."""
    _stable: float = 0.0
    _stable_bad: float = 0.0

    def __post_init__(self) -> None:
        self.thresholds.want(SLOW)

    def pass_by(self, bucket: Bucket) -> None:
        """Count a bucket that won't change any more."""
        self._past = self._with(self._past, bucket)
        self._note(self._past)
        stable = self._see(bucket.stable)
        self._stable = self._stable * _MEMORY + stable.count
        self._stable_bad = self._stable_bad * _MEMORY + stable.bad

    def watch(self, fresh: Iterable[Bucket]) -> None:
        """Look at buckets that may still change, in order of time."""
        total = self._past
        for bucket in fresh:
            total = self._with(total, bucket)
            self._note(total)

    def _note(self, total: _Sum) -> None:
        if not self.message and self._has_tripped(total):
            silent = f", {total.left} of them without a first byte" if total.left else ""
            self.message = (
                f"{total.bad} of the canary's last {total.sessions} sessions failed{silent};"
                f" of the stable's lately {self._share(0.0, 0.0):.1%}"
            )

    def _has_tripped(self, total: _Sum) -> bool:
        if total.log < math.log(BAR) or len(total.who) + total.anonymous < LEAST_SESSIONS:
            return False
        # Else what begins to hold up both arms might be seen on the canary's first.
        return not total.left or total.stable >= min(LEAST_BESIDE, self._stable)

    def _with(self, total: _Sum, bucket: Bucket) -> _Sum:
        canary, stable = self._see(bucket.canary), self._see(bucket.stable)
        if not canary.count and not total.left:
            return total
        beside, beside_left = total.stable + stable.known, total.stable_left + stable.left
        share = max(self._share(stable.count, stable.bad), beside_left / max(1.0, beside))
        bearable = max(BEARABLE, TIMES * share)
        if bearable >= TRIPPED:
            return _Sum()
        log = total.log + canary.bad * math.log(TRIPPED / bearable)
        log += (canary.count - canary.bad) * math.log((1 - TRIPPED) / (1 - bearable))
        if log <= 0:
            return _Sum()
        return _Sum(
            log,
            total.sessions + round(canary.count),
            total.bad + round(canary.bad),
            total.left + round(canary.left),
            tuple(smallest(total.who, canary.who)),
            total.anonymous + canary.anonymous,
            beside,
            beside_left,
        )

    def _share(self, count: float, bad: float) -> float:
        """Return the stable's share of bad sessions lately, with `bad` of `count` more."""
        seen = self._stable + count
        return (self._stable_bad + bad) / seen if seen else 0.0

    def _see(self, blocks: Mapping[int, Block]) -> _Seen:
        everybody: list[int] = []
        failed: list[int] = []
        left: list[int] = []
        requests = begun = anonymous = anonymous_failed = anonymous_left = 0
        for stratum, block in blocks.items():
            everybody = smallest(everybody, block.sessions)
            failed = smallest(failed, block.bad_sessions)
            requests += block.requests
            begun += block.begun
            anonymous += block.anonymous
            anonymous_failed += block.anonymous_bad
            if block.left and (far := self._far(stratum)) is not None:
                anonymous_left += sum(at_least(block.left_anonymous, far).values())
                for index, sessions in block.left_sessions.items():
                    left = smallest(left, sessions) if index >= far else left
        who = smallest(failed, left)
        errors, nameless = distinct(failed) + anonymous_failed, anonymous_failed + anonymous_left
        count = max(distinct(everybody), distinct(who)) + anonymous
        bad = distinct(who) + nameless
        known = count * min(1.0, begun / max(1, requests))
        return _Seen(count, known, bad, bad - errors, who, nameless)

    def _far(self, stratum: int) -> float | None:
        """Return the place from which a wait is too long; None where nobody knows yet."""
        place = self.thresholds.place(stratum, SLOW)
        return None if place is None else place + math.log2(FAR) * PER_DOUBLING
