"""Run a profile: filter, score, pick. What plugins needn't do themselves is done here.

A filter that leaves nobody is passed over. Scores are clamped to [0, 1] (a NaN is 0), weighted
and summed, not normalised. Of a large pool a random run of `Profile.sample` neighbours is
looked at: the best of 64 is nearly as idle as the best of 1,000, at a cost that doesn't grow
with the pool, and workers that have seen the same numbers don't all rush to the same endpoint.
Only where the filters leave few of them, all of the pool is filtered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tidegate.picker.plugins import Endpoint, Filter, Pick, Picker, Request, Scorer

FEW: Final = 4
"""A sample of which less than one in so many passes the filters doesn't stand for its pool."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A scorer's part in a profile."""

    name: str
    scorer: Scorer
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """Which plugins decide, in which order."""

    filters: tuple[Filter, ...]
    scorers: tuple[Weighted, ...]
    picker: Picker
    sample: int = 64
    """At most so many endpoints are scored for a request; where most are well, looked at."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why an endpoint stands where it does: each scorer's weighted part, and their sum."""

    endpoint: Endpoint
    parts: tuple[tuple[str, float], ...]
    total: float


def run(
    profile: Profile, request: Request, endpoints: Sequence[Endpoint], rng: Random
) -> Pick | None:
    """Return the endpoint for `request`; None only if there are no endpoints."""
    if len(endpoints) > profile.sample:
        candidates = _sampled(profile, request, endpoints, rng)
    else:
        candidates = _filtered(profile, request, endpoints)
    if not candidates:
        return None
    scores = _totals(profile, request, candidates)
    chosen = candidates[profile.picker.pick(scores, candidates, rng)]
    return Pick(chosen, candidates, scores)


def explain(
    profile: Profile, request: Request, endpoints: Sequence[Endpoint]
) -> tuple[Explained, ...]:
    """Return every endpoint that passes the filters, best first, with its scorers' parts.

    For people: it scores anew with the endpoints' present states, and scores all of them.
    """
    candidates = _filtered(profile, request, endpoints)
    rows = [
        [weighted.weight * score for score in _scores(weighted, request, candidates)]
        for weighted in profile.scorers
    ]
    names = [weighted.name for weighted in profile.scorers]
    explained = [
        Explained(endpoint, tuple(zip(names, parts, strict=True)), sum(parts))
        for endpoint, parts in zip(candidates, _columns(rows, len(candidates)), strict=True)
    ]
    return tuple(sorted(explained, key=lambda row: -row.total))


def _filtered(
    profile: Profile, request: Request, endpoints: Sequence[Endpoint]
) -> Sequence[Endpoint]:
    for each in profile.filters:
        endpoints = each.filter(request, endpoints) or endpoints
    return endpoints


def _sampled(
    profile: Profile, request: Request, endpoints: Sequence[Endpoint], rng: Random
) -> Sequence[Endpoint]:
    candidates = _some(endpoints, profile.sample, rng)
    for each in profile.filters:
        candidates = each.filter(request, candidates)
    if len(candidates) * FEW >= profile.sample:
        return candidates
    candidates = _filtered(profile, request, endpoints)
    size = min(profile.sample, len(candidates))
    return _some(candidates, size, rng)


def _some(candidates: Sequence[Endpoint], size: int, rng: Random) -> Sequence[Endpoint]:
    """Return `size` neighbours from a random place on, as on a ring: all are equally likely."""
    start = int(rng.random() * len(candidates))
    beyond = start + size - len(candidates)
    first = candidates[start : start + size]
    return [*first, *candidates[:beyond]] if beyond > 0 else first


def _totals(profile: Profile, request: Request, candidates: Sequence[Endpoint]) -> list[float]:
    totals: list[float] | None = None
    for each in profile.scorers:
        scores = _scores(each, request, candidates)
        weight = each.weight
        if totals is not None:
            totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
        else:
            totals = scores if weight == 1.0 else [weight * score for score in scores]
    return [0.0] * len(candidates) if totals is None else totals


def _scores(weighted: Weighted, request: Request, candidates: Sequence[Endpoint]) -> list[float]:
    scores = weighted.scorer.score(request, candidates)
    if len(scores) != len(candidates):
        raise ValueError(
            f"{weighted.name}: found {len(scores)} scores, expected one for each of"
            f" {len(candidates)} endpoints"
        )
    # NaN fails every comparison, but min() and max() may step over it; a sum can't.
    if scores and min(scores) >= 0.0 and max(scores) <= 1.0 and sum(scores) >= 0.0:
        return scores
    return [_clamped(score) for score in scores]


def _clamped(score: float) -> float:
    return min(score, 1.0) if score > 0.0 else 0.0


def _columns(rows: list[list[float]], count: int) -> list[tuple[float, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * count
