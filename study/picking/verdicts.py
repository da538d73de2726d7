"""What the runs say of the aims, each as a number beside its bound."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from picking.contestants import LLMD, OURS
from tidegate.fleet.outcome import Kind, Report

WORSE = 0.03
"""How much worse than the best rival we may be."""
BETTER = 0.20
HEAVY = 0.60


@dataclass(frozen=True)
class Score:
    """One contestant in one workload: means over the seeds. Seconds and shares."""

    name: str
    ttft_p50: float
    ttft_p95: float
    itl_p95: float
    good: float
    hits: float
    balance: float
    refused: float
    lost: float
    """Shares of the requests."""
    ttft_p95s: tuple[float, ...]
    """By seed."""


def score(name: str, reports: Sequence[Report], kind: str = "") -> Score:
    kinds: list[Kind] = [one.kinds[kind] if kind else one.all for one in reports]
    return Score(
        name=name,
        ttft_p50=fmean(one.ttft.p50 for one in kinds),
        ttft_p95=fmean(one.ttft.p95 for one in kinds),
        itl_p95=fmean(one.itl.p95 for one in kinds),
        good=fmean(one.good for one in kinds),
        hits=fmean(one.hit_rate for one in reports),
        balance=fmean(one.balance for one in reports),
        refused=fmean(one.refused / max(1, one.requests) for one in kinds),
        lost=fmean((one.lost + one.unfinished) / max(1, one.requests) for one in kinds),
        ttft_p95s=tuple(one.ttft.p95 for one in kinds),
    )


@dataclass(frozen=True)
class Compared:
    """We beside the others, in one workload. Ratios: 0.8 is a fifth less."""

    case: str
    best_ttft: str
    ttft_to_best: float
    best_good: str
    good_to_best: float
    ttft_to_llmd: float
    good_to_llmd: float
    ttft_to_round_robin: float

    @property
    def holds(self) -> bool:
        """Not worse than the best rival by more than `WORSE`."""
        return self.ttft_to_best <= 1 + WORSE and self.good_to_best >= 1 - WORSE

    @property
    def beats_llmd(self) -> bool:
        return self.ttft_to_llmd <= 1 - BETTER or self.good_to_llmd >= 1 + BETTER


def compare(case: str, scores: Mapping[str, Score]) -> Compared:
    ours = scores[OURS]
    others = [one for name, one in scores.items() if name != OURS]
    fastest = min(others, key=lambda one: one.ttft_p95)
    best = max(others, key=lambda one: one.good)
    llmd, plain = scores[LLMD], scores["round-robin"]
    return Compared(
        case=case,
        best_ttft=fastest.name,
        ttft_to_best=ours.ttft_p95 / fastest.ttft_p95,
        best_good=best.name,
        good_to_best=ours.good / max(best.good, 1e-9),
        ttft_to_llmd=ours.ttft_p95 / llmd.ttft_p95,
        good_to_llmd=ours.good / max(llmd.good, 1e-9),
        ttft_to_round_robin=ours.ttft_p95 / plain.ttft_p95,
    )


Scores = Mapping[str, Mapping[str, Score]]


def as_json(scores: Scores) -> dict[str, dict[str, object]]:
    return {case: {n: asdict(s) for n, s in some.items()} for case, some in scores.items()}


def from_json(data: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Score]]:
    return {
        case: {n: Score(**{**s, "ttft_p95s": tuple(s["ttft_p95s"])}) for n, s in some.items()}
        for case, some in data.items()
    }
