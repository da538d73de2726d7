"""How many requests a second each rule has had lately, counted from the workers' blocks."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from tidegate.judge.block import Block

SPAN_S: Final = 60.0
SPANS: Final = 10
MOST_SCOPES: Final = 1000


class Tempo:
    """Counts of the last ten minutes. Times in seconds since the epoch."""

    def __init__(self) -> None:
        self._since: float | None = None
        """When the first blocks came."""
        self._counts: dict[str, dict[int, int]] = {}

    def note(self, blocks: Iterable[Block], now: float) -> None:
        """Count blocks that came at `now`."""
        if self._since is None:
            self._since = now
        oldest = int(now // SPAN_S) - SPANS
        for block in blocks:
            scope = block.place.scope
            if scope not in self._counts and len(self._counts) >= MOST_SCOPES:
                continue
            counts = self._counts.setdefault(scope, defaultdict(int))
            counts[int(block.place.start // SPAN_S)] += block.requests
            for span in [each for each in counts if each < oldest]:
                del counts[span]

    def rate(self, scope: str, now: float) -> float | None:
        """Return the requests a second of a scope; None in the first minute."""
        if self._since is None or now - self._since < SPAN_S:
            return None
        began = max(self._since, (now // SPAN_S - SPANS) * SPAN_S)
        first = int(began // SPAN_S)
        counts = self._counts.get(scope, {})
        return sum(count for span, count in counts.items() if span >= first) / (now - began)
