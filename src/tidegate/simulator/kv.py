"""The KV cache in blocks: who holds how many, and which prefixes are still there.

A full block of a prompt has a hash over everything before it, so equal prefixes share
blocks. Blocks that nobody holds any more stay usable until their room is needed: oldest
first, and of one sequence the last block first, as vLLM evicts them.

Invariant: held + private <= total, and idle blocks fit into what is left.
"""

from collections.abc import Sequence


class BlockPool:
    """A bounded number of blocks."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._held: dict[int, int] = {}
        self._idle: dict[int, None] = {}
        self._private = 0

    @property
    def used(self) -> int:
        """How many blocks somebody holds."""
        return len(self._held) + self._private

    @property
    def free(self) -> int:
        """How many blocks can be had."""
        return self.total - self.used

    @property
    def usage(self) -> float:
        """The share of blocks that somebody holds, 0..1."""
        return self.used / self.total

    def resident(self, prefix: Sequence[int]) -> int:
        """Return how many leading blocks of `prefix` are in the cache."""
        for index, block in enumerate(prefix):
            if block not in self._held and block not in self._idle:
                return index
        return len(prefix)

    def take(self, prefix: Sequence[int], private: int) -> bool:
        """Hold the blocks of `prefix` and `private` unshared ones; False where there's no room."""
        held = self._held
        new = sum(block not in held for block in prefix) if prefix else 0
        if len(held) + self._private + new + private > self.total:
            return False
        for block in prefix:
            self._idle.pop(block, None)
            held[block] = held.get(block, 0) + 1
        self._private += private
        if self._idle:
            self._evict()
        return True

    def grow(self, blocks: int) -> bool:
        """Hold `blocks` more unshared ones; False where there's no room."""
        return self.take((), blocks)

    def release(self, prefix: Sequence[int], private: int) -> None:
        """Give back what `take` and `grow` gave."""
        self._private -= private
        held = self._held
        for block in reversed(prefix):
            if (left := held[block] - 1) > 0:
                held[block] = left
            else:
                del held[block]
                self._idle[block] = None

    def _evict(self) -> None:
        room = self.total - self.used
        while len(self._idle) > room:
            del self._idle[next(iter(self._idle))]
