"""A run cut into equal pieces of time: what began, ended, failed and was under way in each."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from tidegate.load.report import Percentiles, percentiles
from tidegate.load.result import Result


@dataclass(slots=True)
class Slice:
    """One piece of a run. Rates are a second."""

    at: float
    """Its middle, in seconds after the run's beginning."""
    started: float = 0.0
    finished: float = 0.0
    tokens: float = 0.0
    in_flight: int = 0
    """At its end."""
    ttft: Percentiles = field(default_factory=Percentiles)
    """Of the requests that began in it, in seconds."""
    itl: Percentiles = field(default_factory=Percentiles)
    pools: Counter[str] = field(default_factory=Counter)
    """Requests that began in it, by pool."""
    errors: Counter[str] = field(default_factory=Counter)
    """Failures that ended in it, by kind."""


def slices(results: Sequence[Result], most: int = 80, least_s: float = 0.25) -> list[Slice]:
    """Return a run's pieces, in order.

    Args:
        results: Of the run.
        most: How many pieces at most.
        least_s: How long a piece is at least, in seconds.

    """
    if not results:
        return []
    begin = min(one.started_at for one in results)
    length = max(one.started_at + one.duration_s for one in results) - begin
    count = max(1, min(most, int(length / least_s)))
    step = max(length / count, 1e-9)

    def place(at: float) -> int:
        return min(count - 1, int((at - begin) / step))

    began: list[list[Result]] = [[] for _ in range(count)]
    ended: list[list[Result]] = [[] for _ in range(count)]
    for one in results:
        began[place(one.started_at)].append(one)
        ended[place(one.started_at + one.duration_s)].append(one)
    starts = sorted(one.started_at - begin for one in results)
    ends = sorted(one.started_at + one.duration_s - begin for one in results)
    cut = []
    for n in range(count):
        piece = _slice((n + 0.5) * step, step, began[n], ended[n])
        edge = (n + 1) * step if n + 1 < count else inf
        piece.in_flight = bisect_right(starts, edge) - bisect_right(ends, edge)
        cut.append(piece)
    return cut


def _slice(at: float, step: float, began: list[Result], ended: list[Result]) -> Slice:
    good = [one for one in began if not one.failed]
    return Slice(
        at=at,
        started=len(began) / step,
        finished=sum(not one.failed for one in ended) / step,
        tokens=sum(one.output_tokens or one.events for one in ended) / step,
        ttft=percentiles(one.ttft_s for one in good if one.ttft_s is not None),
        itl=percentiles(gap for one in good for gap in one.gaps_s),
        pools=Counter(one.pool for one in began if one.pool),
        errors=Counter(one.error for one in ended if one.failed),
    )
