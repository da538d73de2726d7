"""What the data plane did for one rollout: its two arms' blocks, and sums over spans of time."""

import math
from collections.abc import Iterable, Iterator
from typing import Final

from tidegate.controllers.sums import Sums
from tidegate.judge.block import Block, Place, merge
from tidegate.judge.pairs import Pairs, merge_pairs
from tidegate.rollout.decider import Tally

MOST_BLOCKS: Final = 50_000
"""Kept in memory; beyond, the oldest are forgotten (they are on disk)."""


class Trail:
    """The blocks of one scope, of two arms. Parcels may come twice."""

    def __init__(self, scope: str, stable: str, canary: str) -> None:
        self.scope = scope
        self.stable = stable
        self.canary = canary
        self.pairs = Pairs()
        """Shadowed requests, of the whole rollout."""
        self.latest: dict[str, tuple[float, float]] = {}
        """Values from outside as they were last: the canary's, and what it is held against."""
        self.unknown: dict[str, str] = {}
        """Why there is no value, by metric."""
        self.fresh: list[Block] = []
        """Blocks that nobody has taken yet; see `take`."""
        self._blocks: dict[int, dict[Place, Block]] = {}
        """By the second of their start."""
        self._count = 0
        self._newest = 0
        self._sums: Sums | None = None
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
            self._keep(block)
            if self._sums is not None:
                self._sums.add(block)
        while self._count > MOST_BLOCKS:
            self._count -= len(self._blocks.pop(min(self._blocks)))
        return True

    def _keep(self, block: Block) -> None:
        second = math.floor(block.place.start)
        self._newest = max(self._newest, second)
        blocks = self._blocks.setdefault(second, {})
        there = blocks.get(block.place)
        self._count += there is None
        blocks[block.place] = block if there is None else merge(there, block)

    def take(self) -> list[Block]:
        """Return the blocks that came since the last call."""
        taken, self.fresh = self.fresh, []
        return taken

    def take_all(self) -> list[Block]:
        """Return all blocks, for somebody who begins anew."""
        self.fresh = []
        return list(self._all())

    def paired(self) -> int:
        """Return how many requests both arms have answered."""
        count = self.pairs.counts.get("failed")
        return count.total if count is not None else 0

    def recent(self, since: float) -> Tally:
        """Return the counts of the last requests, of a minute or so; `since` may be any time."""
        sums = Sums(since, self.stable, self.canary, share=False)
        for second in range(math.floor(since), self._newest + 1):
            for block in self._blocks.get(second, {}).values():
                sums.add(block)
        return sums.tally()

    def tally(self, since: float) -> Tally:
        """Return both arms' counts of the requests that began at `since` or later."""
        return self._since(since).tally()

    def share(self, since: float) -> tuple[int, int]:
        """Return how many sessions the canary had, of how many, since `since`."""
        return self._since(since).share()

    def _since(self, since: float) -> Sums:
        """Return the sums since a moment: those of the last call if it is the same."""
        if self._sums is None or self._sums.since != since:
            self._sums = Sums(since, self.stable, self.canary)
            for block in self._all():
                self._sums.add(block)
        return self._sums

    def _all(self) -> Iterator[Block]:
        return (block for second in sorted(self._blocks) for block in self._blocks[second].values())
