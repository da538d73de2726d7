"""What the picker would gain if it knew what is in the servers' caches, instead of guessing it.

Servers can tell (vLLM's KV events, over ZMQ), by tokens: whoever listens needs each model's
tokenizer and chat template in the path of every request. Here it is told for nothing and at
once, so this is the most that there is to gain.
"""

from collections import deque
from collections.abc import Callable, Sequence

from tidegate.fleet.contestant import Contestant
from tidegate.fleet.outcome import Report
from tidegate.fleet.run import Run
from tidegate.fleet.traffic import Turn
from tidegate.fleet.workload import Workload
from tidegate.picker.prefix import PrefixIndex, PrefixSettings
from tidegate.picker.request import Request
from tidegate.picker.vectors import Vector

MANY = 4096
"""Prompts that are looked up at most at any time."""
UNDER_WAY = 64
"""Prompts that were sent to a server last, and may not be in its cache yet."""


class Truth(PrefixIndex):
    """The servers' own caches; of what is on its way there, what the index has noted."""

    def __init__(self, settings: PrefixSettings, tokens: Sequence[int]) -> None:
        super().__init__(settings, tokens)
        self.look: Callable[[int, Turn], int] = lambda _slot, _turn: 0
        self._turns: dict[int, Turn] = {}
        self._sent: list[deque[frozenset[int]]] = []

    def asked(self, chain: Sequence[int], turn: Turn) -> None:
        """Know what a chain stands for."""
        if chain:
            self._turns[chain[-1]] = turn
            if len(self._turns) > MANY:
                del self._turns[next(iter(self._turns))]

    def resize(self, slots: int) -> None:
        super().resize(slots)
        while len(self._sent) < slots:
            self._sent.append(deque(maxlen=UNDER_WAY))

    def match(self, chain: Sequence[int]) -> Vector:
        matched = super().match(())
        for slot in range(len(matched)):
            matched[slot] = self.match_one(slot, chain)
        return matched

    def match_one(self, slot: int, chain: Sequence[int]) -> int:
        turn = self._turns.get(chain[-1]) if chain else None
        if turn is None:
            return 0
        return max(self.look(slot, turn), self._on_its_way(slot, chain))

    def note(self, slot: int, chain: Sequence[int], start: int = 0) -> int:
        self._sent[slot].append(frozenset(chain))
        return start

    def _on_its_way(self, slot: int, chain: Sequence[int]) -> int:
        best = 0
        for sent in self._sent[slot]:
            depth = 0
            while depth < len(chain) and chain[depth] in sent:
                depth += 1
            best = max(best, depth)
        return self.tokens[best - 1] if best else 0


class Told(Run):
    """A run whose picker is told."""

    def __init__(self, workload: Workload, contestant: Contestant) -> None:
        super().__init__(workload, contestant, lambda _: None)
        settings, blocks = contestant.scheduler.prefix, self._pool.blocks
        assert settings is not None
        assert blocks is not None
        truth = Truth(settings, blocks.tokens)
        truth.resize(len(self._pool.endpoints))
        truth.look = self._cached
        self._pool.prefix = self._truth = truth

    def _cached(self, slot: int, turn: Turn) -> int:
        endpoint = self._pool.endpoints[slot]
        return 0 if endpoint is None else self._servers.cached(endpoint, turn)

    def _asked(self, turn: Turn, now: float) -> Request:
        request = super()._asked(turn, now)
        self._truth.asked(request.chain, turn)
        return request


def exactly(workload: Workload, contestant: Contestant) -> Report:
    """Return what the contestant makes of it, told what is cached where."""
    return Told(workload, contestant).run()
