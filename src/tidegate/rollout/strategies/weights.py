"""What strategies share: two weights in an object, read and written without touching the rest.

A write is a JSON patch (RFC 6902). It first tests that each place still names the side that
was read there, so an edit in between makes it fail as a whole, and it is tried again.
"""

from dataclasses import dataclass
from typing import Any, Final

from tidegate.rollout.observed import TargetSeen, Weights

Patch = list[dict[str, Any]]
"""Operations of a JSON patch, in order."""

RESOLUTION: Final = 100
"""The least total: below, one percent can't be said."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The weights can't be read or set."""

    sentence: str
    """What is wrong and how to mend it."""
    canary_gone: bool = False
    """Nothing can reach the canary through this object."""


@dataclass(frozen=True, slots=True)
class Found:
    """The weights of a rule: of both sides, and the sum of all others."""

    name: str
    """`HTTPRoute/name/rule`."""
    stable: int
    canary: int
    others: int = 0

    @property
    def total(self) -> int:
        """The sum that both sides' weights are to have.

        It stays what it is, so that other backends keep their share. Where there is none with
        a share, it grows to what single percents need.
        """
        total = self.stable + self.canary
        return max(total, RESOLUTION) if self.others == 0 else total

    @property
    def coarse(self) -> bool:
        """Whether single percents can't be said, and the total can't grow for others' sake."""
        return self.total < RESOLUTION


def target_seen(found: Found | Problem, *, writer: str = "", ours: bool = False) -> TargetSeen:
    """Return what was read as the reducer sees it.

    Args:
        found: What a strategy's `read` returned.
        writer: The field manager that wrote the object's weights last.
        ours: Whether that is the rollout controller.

    """
    if isinstance(found, Problem):
        return TargetSeen(problem=found.sentence, canary_gone=found.canary_gone)
    weights = Weights(found.stable, found.canary)
    return TargetSeen(name=found.name, weights=weights, total=found.total, writer=writer, ours=ours)


def test(path: str, value: Any) -> dict[str, Any]:
    """Return the operation that makes the patch fail where `path` has another value."""
    return {"op": "test", "path": path, "value": value}


def put(path: str, value: Any) -> dict[str, Any]:
    """Return the operation that sets `path`, whether or not it has a value."""
    return {"op": "add", "path": path, "value": value}
