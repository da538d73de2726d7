"""Both arms' counts since one moment, kept up as blocks come.

Looking is cheap however long a step lasts and however many requests it has: sums are added to,
and of the sessions only those with the smallest hashes are kept, a fair sample of all.
"""

from dataclasses import dataclass, field
from typing import Final

from tidegate.judge.block import SKETCH, Block
from tidegate.rollout.decider import Counts, Tally

FEW: Final = 0.01
"""Client errors of the stable, as a share: above, clients err by themselves."""
SAMPLE: Final = 4096
"""Sessions that are kept of each arm, once there are twice as many."""
_ALL: Final = 1 << 64


@dataclass(slots=True)
class _Arm:
    requests: int = 0
    bad: int = 0
    refused: int = 0
    anonymous: int = 0
    anonymous_bad: int = 0
    bad_sessions: set[int] = field(default_factory=set)
    sessions: set[int] = field(default_factory=set)

    @property
    def refused_share(self) -> float:
        return self.refused / self.requests if self.requests else 0.0

    def counts(self, *, strict: bool) -> Counts:
        """Return the counts; if `strict`, requests that were refused as wrong are errors."""
        who = len(self.bad_sessions) + self.anonymous_bad
        if not strict:
            return Counts(self.requests, self.bad, who)
        # A refused request names no bad session in a block; each counts for one.
        return Counts(self.requests, self.bad + self.refused, who + self.refused)


class Sums:
    """Counts of the requests that began at `since` (seconds since the epoch) or later."""

    def __init__(self, since: float, stable: str, canary: str, *, share: bool = True) -> None:
        """Begin with nothing; `share` says whether sessions are counted."""
        self.since = since
        self._counts_share = share
        self._stable = _Arm()
        self._canary = _Arm()
        self._arms = {stable: self._stable, canary: self._canary}
        self._limit = _ALL
        """Hashes above are not kept: they are missing in some block."""

    def add(self, block: Block) -> None:
        """Count a block, or a part of one."""
        arm = self._arms.get(block.place.arm)
        if arm is None or block.place.start < self.since:
            return
        # Of a request that hangs nobody knows yet how it is answered.
        arm.requests += block.begun
        arm.bad += block.bad
        arm.refused += block.client_errors
        arm.anonymous += block.anonymous
        arm.anonymous_bad += block.anonymous_bad
        if len(arm.bad_sessions) < SAMPLE:
            arm.bad_sessions.update(block.bad_sessions)
        if self._counts_share:
            self._add_sessions(arm, block)

    def _add_sessions(self, arm: _Arm, block: Block) -> None:
        if len(block.sessions) >= SKETCH:
            self._limit = min(self._limit, block.sessions[-1])
        arm.sessions.update(each for each in block.sessions if each <= self._limit)
        if len(arm.sessions) > 2 * SAMPLE:
            self._limit = min(self._limit, sorted(arm.sessions)[SAMPLE - 1])
            self._cut()

    def tally(self) -> Tally:
        """Return both arms' counts."""
        strict = self._stable.refused_share < FEW
        return Tally(
            canary=self._canary.counts(strict=strict), stable=self._stable.counts(strict=strict)
        )

    def share(self) -> tuple[int, int]:
        """Return how many sessions the canary had, of how many.

        All sessions below the greatest hash that every block would have kept are a fair
        sample, and they are counted once.
        """
        self._cut()
        stable, canary = self._stable, self._canary
        ours = len(canary.sessions) + canary.anonymous
        # A session that was moved to another pool by a failure counts for the first it had.
        theirs = len(stable.sessions - canary.sessions) + stable.anonymous
        return ours, ours + theirs

    def _cut(self) -> None:
        if self._limit == _ALL:
            return
        for arm in self._arms.values():
            arm.sessions = {each for each in arm.sessions if each <= self._limit}
