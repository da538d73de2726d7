"""Pairs: the same request to both arms, or the same moment seen on both.

A shadowed request is answered by both arms, so prompts, hours and users cancel out, and a few
hundred pairs tell what takes thousands of separate requests. Values from outside (a query, a
webhook) are pairs as well: at each look the canary's value is held against the stable's.
Only counts are kept. They are exact evidence whatever goes on between pairs, see
`sequential.pair_evidence`.
"""

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from tidegate.judge.record import ITL_BOUNDS, Check, Record
from tidegate.judge.role import Role

_TIMEOUT: Final = 504


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared in pairs."""

    name: str
    label: str
    margin: float = 0.0
    """By how much, as a share of all pairs, the worse may outnumber the better."""
    factor: float = 1.0
    """For times and values: up to how many times the other's is no worse."""
    bound: float | None = None
    """For values: what is held against the canary's in place of the stable's."""
    less_is_worse: bool = False
    of: Literal["requests", "values"] = "requests"
    """Requests that both arms have answered, or values from outside."""
    role: Role = "required"


SHADOW: Final[tuple[Paired, ...]] = (
    Paired(name="failed", label="failed answers, in pairs", margin=0.02),
    Paired(name="invalid", label="answers that break their schema, in pairs", margin=0.02),
    Paired(name="refused", label="refusals, in pairs", margin=0.03),
    Paired(name="ttft", label="TTFT, in pairs", factor=1.2),
    Paired(name="itl", label="inter-token time, in pairs", factor=1.15),
    Paired(name="longer", label="output length, in pairs", factor=1.25, role="informative"),
)
"""What a shadow step looks at. Where the canary's time exceeds the factor in half of the pairs,
its median is at the margin."""


class Count(msgspec.Struct, array_like=True):
    """How pairs came out."""

    worse: int = 0
    better: int = 0
    same: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.worse + self.better + self.same


class Pairs(msgspec.Struct):
    """All pairs of a rollout, by the names of what was compared. Mergeable."""

    counts: dict[str, Count] = {}

    def note(self, name: str, *, canary: bool, stable: bool) -> None:
        """Count a pair by which of both was bad."""
        count = self.counts.setdefault(name, Count())
        count.worse += canary and not stable
        count.better += stable and not canary
        count.same += canary == stable

    def hold(self, paired: Paired, canary: float, stable: float) -> None:
        """Count a pair of values."""
        limit = stable * paired.factor if paired.bound is None else paired.bound
        worse = canary < limit if paired.less_is_worse else canary > limit
        self.note(paired.name, canary=worse, stable=not worse)

    def compare(self, canary: Record, stable: Record, wanted: Iterable[Paired] = SHADOW) -> None:
        """Count one request that both arms have answered."""
        for paired in wanted:
            match paired.name:
                case "failed":
                    self.note("failed", canary=_failed(canary), stable=_failed(stable))
                case "invalid" | "refused":
                    self._check(paired.name, canary, stable)
                case "ttft":
                    self._firsts(paired, canary, stable)
                case "itl":
                    self._times(paired, _pace(canary), _pace(stable))
                case "longer":
                    self._times(paired, _length(canary), _length(stable))
                case _:
                    continue

    def _check(self, name: str, canary: Record, stable: Record) -> None:
        if canary.checked and stable.checked:
            bit = Check[name.upper()]
            bad = (bool(each.failed_checks & bit) for each in (canary, stable))
            self.note(name, canary=next(bad), stable=next(bad))

    def _firsts(self, paired: Paired, canary: Record, stable: Record) -> None:
        """Compare times to the first byte; one that never came took longer than the wait."""
        ours, theirs = _waited(canary), _waited(stable)
        if ours is None or theirs is None:
            return
        bound = stable.ttft_s if ours > theirs * paired.factor else canary.ttft_s
        if bound is not None:
            self._times(paired, ours, theirs)

    def _times(self, paired: Paired, canary: float | None, stable: float | None) -> None:
        if canary is not None and stable is not None and canary > 0 and stable > 0:
            self.hold(paired, canary, stable)


def merge_pairs(one: Pairs, other: Pairs) -> Pairs:
    """Return the pairs of both."""
    merged: dict[str, Count] = {}
    for name in one.counts.keys() | other.counts.keys():
        a, b = one.counts.get(name, Count()), other.counts.get(name, Count())
        merged[name] = Count(a.worse + b.worse, a.better + b.better, a.same + b.same)
    return Pairs(merged)


def _failed(record: Record) -> bool:
    return record.status >= 500 or record.status == 429 or record.broken


def _waited(record: Record) -> float | None:
    """Return the seconds to the first byte, or until somebody gave up to wait for it."""
    gave_up = record.client_gone or record.status == _TIMEOUT
    return record.duration_s if record.ttft_s is None and gave_up else record.ttft_s


def _pace(record: Record) -> float | None:
    """Return the mean time between tokens; None where the answer came in one piece, or nearly.

    Something held it up on its way then, and its TTFT tells so. Beside it, any server that
    streams as it should would look slow.
    """
    pace = record.itl_sum_s / (record.events - 1) if record.events > 1 else 0.0
    return pace if pace >= ITL_BOUNDS[0] else None


def _length(record: Record) -> float | None:
    return float(record.output_tokens or record.events) or None
