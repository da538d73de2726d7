"""What the data plane did for one rollout: its two arms' blocks, and sums over spans of time."""

from collections.abc import Iterable, Iterator
from typing import Final

from tidegate.judge.block import SKETCH, Block, Place, merge
from tidegate.judge.pairs import Pairs, merge_pairs
from tidegate.rollout.decider import Counts, Tally

MOST_BLOCKS: Final = 50_000
"""Kept in memory; beyond, the oldest are forgotten (they are on disk)."""
FEW: Final = 0.01
"""Client errors of the stable, as a share: above, clients err by themselves."""


class Trail:
    """The blocks of one scope, of two arms. Parcels may come twice."""

    def __init__(self, scope: str, stable: str, canary: str) -> None:
        self.scope = scope
        self.stable = stable
        self.canary = canary
        self.pairs = Pairs()
        """Shadowed requests, of the whole rollout."""
        self.fresh: list[Block] = []
        """Blocks that nobody has taken yet; see `take`."""
        self._blocks: dict[Place, Block] = {}
        self._known: set[tuple[str, int]] = set()

    def of(self, blocks: Iterable[Block]) -> list[Block]:
        """Return those of `blocks` that belong to this trail."""
        arms = (self.stable, self.canary)
        return [b for b in blocks if b.place.scope == self.scope and b.place.arm in arms]

    def add(
        self, boot: str, number: int, blocks: Iterable[Block], pairs: Pairs | None = None
    ) -> bool:
        """Take a parcel in; return False if that was done before."""
        if (boot, number) in self._known:
            return False
        self._known.add((boot, number))
        if pairs is not None:
            self.pairs = merge_pairs(self.pairs, pairs)
        blocks = list(blocks)
        self.fresh = [*self.fresh, *blocks][-MOST_BLOCKS:]
        for block in blocks:
            there = self._blocks.get(block.place)
            self._blocks[block.place] = block if there is None else merge(there, block)
        if len(self._blocks) > MOST_BLOCKS:
            oldest = sorted(self._blocks, key=lambda place: place.start)[: MOST_BLOCKS // 10]
            for place in oldest:
                del self._blocks[place]
        return True

    def take(self) -> list[Block]:
        """Return the blocks that came since the last call."""
        taken, self.fresh = self.fresh, []
        return taken

    def take_all(self) -> list[Block]:
        """Return all blocks, for somebody who begins anew."""
        self.fresh = []
        return sorted(self._blocks.values(), key=lambda block: block.place.start)

    def paired(self) -> int:
        """Return how many requests both arms have answered."""
        count = self.pairs.counts.get("failed")
        return count.total if count is not None else 0

    def tally(self, since: float) -> Tally:
        """Return both arms' counts of the requests that began at `since` or later."""
        stable, canary = self._counts(self.stable, since), self._counts(self.canary, since)
        if stable[1] < FEW:
            return Tally(canary=canary[2], stable=stable[2])
        return Tally(canary=canary[0], stable=stable[0])

    def _counts(self, arm: str, since: float) -> tuple[Counts, float, Counts]:
        """Return counts, the share of client errors, and counts with these as errors."""
        requests = bad = refused = anonymous = 0
        sessions: set[int] = set()
        for block in self._since(since):
            if block.place.arm != arm:
                continue
            # Of a request that hangs nobody knows yet how it is answered.
            requests += block.begun
            bad += block.bad
            refused += block.client_errors
            anonymous += block.anonymous_bad
            sessions.update(block.bad_sessions)
        share = refused / requests if requests else 0.0
        who = len(sessions) + anonymous
        # A refused request names no bad session in a block; each counts for one.
        strict = Counts(requests, bad + refused, who + refused)
        return Counts(requests, bad, who), share, strict

    def share(self, since: float) -> tuple[int, int]:
        """Return how many sessions the canary had, of how many, since `since`.

        Blocks keep the smallest hashes of sessions. All sessions below the greatest hash that
        every block would have kept are a fair sample, and they are counted once.
        """
        blocks = list(self._since(since))
        full = [b.sessions[-1] for b in blocks if len(b.sessions) >= SKETCH]
        limit = min(full, default=1 << 64)
        seen: dict[str, set[int]] = {self.stable: set(), self.canary: set()}
        nameless = {self.stable: 0, self.canary: 0}
        for block in blocks:
            arm = block.place.arm
            seen[arm].update(hash_ for hash_ in block.sessions if hash_ <= limit)
            nameless[arm] += block.anonymous
        ours = len(seen[self.canary]) + nameless[self.canary]
        # A session that was moved to another pool by a failure counts for the first it had.
        theirs = len(seen[self.stable] - seen[self.canary]) + nameless[self.stable]
        return ours, ours + theirs

    def _since(self, since: float) -> Iterator[Block]:
        return (block for place, block in self._blocks.items() if place.start >= since)
