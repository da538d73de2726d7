"""What the demo plays: three updates of one service, and what came of each.

A request belongs to the act in which it started. One that failed at the canary is the canary's
fault, and the price of finding it out; any other must not fail.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tidegate.api.rollout import InferenceRollout, Phase
from tidegate.cli.rollout.progress import ENDS
from tidegate.load.result import Result

LOADS: Final = ("chat", "food-review")
"""The models that clients ask for; a result carries its load's name with its session."""


@dataclass(slots=True)
class Act:
    """One update. Times on the load's clock."""

    name: str
    """Of its rollout."""
    title: str
    stable: str
    """The pool that had the traffic before."""
    canary: str
    """The pool that shall have it; of an adapter's update, the same."""
    wanted: Phase
    """How it should end."""
    began_at: float = 0.0
    ended_at: float | None = None
    rollout: InferenceRollout | None = None
    """As it was last seen."""
    results: list[tuple[str, Result]] = field(default_factory=list)
    """With the name of their load."""

    @property
    def phase(self) -> Phase | None:
        """Where it is; None before it began."""
        return self.rollout.status.phase if self.rollout is not None else None

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.phase in ENDS

    @property
    def failed_at_canary(self) -> int:
        """Requests that the canary failed."""
        return sum(one.failed and self._is_canary(one) for _, one in self.results)

    @property
    def failed_otherwise(self) -> list[Result]:
        """Requests that failed and that the canary has nothing to do with."""
        return [one for _, one in self.results if one.failed and not self._is_canary(one)]

    def _is_canary(self, result: Result) -> bool:
        return self.canary != self.stable and result.pool == self.canary

    @property
    def good(self) -> bool:
        """Whether it ended as it should, at nobody's cost but the canary's own."""
        return self.phase == self.wanted and not self.failed_otherwise and self.most_moves <= 1

    @property
    def most_moves(self) -> int:
        """How often one session went over to the canary, or back, at most."""
        return max((max(there, back) for there, back in self._moves()), default=0)

    def _moves(self) -> Iterator[tuple[int, int]]:
        """Yield for each session how often it went to the canary, and how often back."""
        pools: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        for load, one in sorted(self.results, key=lambda each: each[1].started_at):
            if one.pool:
                pools[load, one.session].append(one.pool)
        for seen in pools.values():
            pairs = list(pairwise(seen))
            yield (
                sum(a != b and b == self.canary for a, b in pairs),
                sum(a != b and a == self.canary for a, b in pairs),
            )


def programme() -> list[Act]:
    """Return the acts, in the order in which they are played."""
    return [
        Act("node", "new nodes", "llm", "llm-new", "Completed"),
        Act("base-model", "a new base model, which is bad", "llm-new", "llm-v2", "RolledBack"),
        Act("adapter", "a new adapter", "llm-new", "llm-new", "Completed"),
    ]


def file(load: str, result: Result, acts: list[Act]) -> None:
    """Put a result where it belongs: into the last act that had begun when it started."""
    for act in reversed(acts):
        if result.started_at >= act.began_at:
            act.results.append((load, result))
            return
