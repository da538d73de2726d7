"""What each phase of the demo should be, and what it was.

A request belongs to the phase in which it started, which began when its patch was sent. In
the share only those sessions count that started once the patch was surely in effect (every worker
was asked since, again and again), and were answered before the next one was sent: of others
nobody knows by which weights they went.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidegate.load.report import Percentiles, percentiles
from tidegate.load.result import Result

STABLE: Final = "llm"
CANARY: Final = "llm-new"
TOLERANCE: Final = 4.0
"""Standard deviations that a share may be off: chance alone exceeds it once in 16,000 times."""


@dataclass(slots=True)
class Phase:
    """One pair of weights, in percent, and what was seen under it. Times on the load's clock."""

    name: str
    stable: int
    canary: int
    began_at: float = math.inf
    """When its patch was sent."""
    ended_at: float = math.inf
    """When the next one's patch was sent."""
    acknowledged_s: float | None = None
    """From the patch to the API's answer; None for the first phase."""
    effect_s: float | None = None
    """From the patch to the moment after which no request was routed by the old weights."""
    settled_at: float = 0.0
    """When that was known: what starts from then on counts."""
    results: list[Result] = field(default_factory=list)

    @property
    def effect_at(self) -> float:
        """From when on its weights are in effect."""
        return self.began_at + (self.effect_s or 0.0)

    @property
    def expected(self) -> float:
        """The canary's share, 0..1."""
        return self.canary / (self.stable + self.canary)

    @property
    def counted(self) -> list[Result]:
        """Requests that count in the share: a session each, routed by these weights."""
        since, until = max(self.effect_at, self.settled_at), self.ended_at
        return [
            one
            for one in self.results
            if one.pool
            and one.started_at >= since
            and one.started_at + (one.ttft_s or one.duration_s) <= until
        ]

    @property
    def share(self) -> float:
        """The canary's observed share of the sessions, 0..1."""
        counted = self.counted
        canary = sum(one.pool == CANARY for one in counted)
        return canary / len(counted) if counted else self.expected

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(one.failed for one in self.results)

    def deviation(self) -> float:
        """Return how many standard deviations the share is off; 0 and 1 must be exact."""
        off = self.share - self.expected
        spread = math.sqrt(self.expected * (1 - self.expected) / max(1, len(self.counted)))
        if not spread:
            return math.copysign(math.inf, off) if off else 0.0
        return off / spread

    def kept(self) -> bool:
        """Whether the share is what the weights say, as far as chance allows."""
        return abs(self.deviation()) <= TOLERANCE

    def ttft(self, pool: str) -> Percentiles:
        """Return the times to first token at `pool`, in seconds."""
        return percentiles(
            one.ttft_s
            for one in self.results
            if one.pool == pool and one.ttft_s is not None and not one.failed
        )


def schedule() -> list[Phase]:
    """Return the phases: out to the new pool in three steps, and back in one."""
    return [
        Phase("before", 100, 0),
        Phase("canary", 90, 10),
        Phase("half", 50, 50),
        Phase("all", 0, 100),
        Phase("back", 100, 0),
    ]


def file(result: Result, phases: Sequence[Phase]) -> None:
    """Put a result where it belongs: into the last phase that had begun when it started."""
    for phase in reversed(phases):
        if result.started_at >= phase.began_at:
            phase.results.append(result)
            return


def across(results: Iterable[Result], phases: Sequence[Phase]) -> int:
    """Return how many requests were under way when weights changed."""
    changes = [phase.began_at for phase in phases if phase.effect_s is not None]
    return sum(
        any(one.started_at < at < one.started_at + one.duration_s for at in changes)
        for one in results
    )
