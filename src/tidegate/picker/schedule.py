"""Pick an endpoint: filter, score, choose. What plugins needn't do themselves is done here.

Scores are clamped to [0, 1] (a NaN is 0), weighted and summed, not normalised. The order of the
others is worked out only when a retry asks for it.

Where a pool's servers have roles, the endpoint that decodes is picked first; then, if enough of
the prompt is missing there, another one that computes it. Both are of one revision: two versions
of a model don't understand each other's caches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import msgspec
import numpy as np

from tidegate.picker.candidates import Candidates, Filter, Picker, Scorer
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Nobody, Pick, Request
from tidegate.picker.vectors import Vector


@dataclass(frozen=True, slots=True)
class Weighted:
    """A scorer's part in a profile."""

    name: str
    scorer: Scorer
    weight: float = 1.0
    trusted: bool = True
    """Whether its scores are known to be in [0, 1]: ours are tested to be."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Which plugins decide, in which order."""

    filters: tuple[Filter, ...]
    scorers: tuple[Weighted, ...]
    picker: Picker


class Decider(Protocol):
    """Says whether another endpoint than the one that answers should compute the prompt."""

    def apart(self, request: Request, matched: float) -> bool:
        """Whether so, where `matched` tokens of the prompt are cached at the one that answers."""


@dataclass(frozen=True, slots=True)
class Roles:
    """How pairs are picked."""

    prefill: Profile
    decider: Decider
    revision_label: str
    """Endpoints of a pair have the same value of it, or none both."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why an endpoint stands where it does: each scorer's weighted part, and their sum."""

    endpoint: Endpoint
    parts: tuple[tuple[str, float], ...]
    total: float


def schedule(pool: Pool, request: Request, rng: Random) -> Pick | Nobody:
    """Return the endpoint of `pool` for `request`, with its prefill partner where roles ask."""
    scheduler = pool.scheduler
    if pool.expected:
        pool.settle(request.now)
    if request.order is not None:
        return _in_order(pool, request.order)
    pick = run(scheduler.profile, pool, request, rng)
    if scheduler.roles is not None and isinstance(pick, Pick):
        pick.prefill = _partner(scheduler.roles, pool, request, pick, rng)
    return pick


def run(profile: Profile, pool: Pool, request: Request, rng: Random) -> Pick | Nobody:
    """Return the endpoint that one profile picks."""
    candidates = Candidates(pool, request)
    nobody = _filter(profile, candidates)
    if nobody is not None:
        return nobody
    totals = _totals(profile.scorers, candidates)
    pick = Pick(pool.endpoints, candidates.at, totals, profile.picker.pick(totals, rng))
    if request.chain and pool.prefix is not None:
        pick.matched = float(candidates.matched[pick.slot])
    return pick


def explain(profile: Profile, pool: Pool, request: Request) -> tuple[Explained, ...]:
    """Return every endpoint that passes the filters, best first, with its scorers' parts.

    For people: it scores anew with the endpoints' present states.
    """
    candidates = Candidates(pool, request)
    if _filter(profile, candidates) is not None:
        return ()
    parts = [(each.name, _weighted(each, candidates).tolist()) for each in profile.scorers]
    endpoints = [one for one in np.array(pool.endpoints, object)[candidates.at] if one is not None]
    rows = [
        Explained(endpoint, own := tuple((n, v[i]) for n, v in parts), sum(p for _, p in own))
        for i, endpoint in enumerate(endpoints)
    ]
    return tuple(sorted(rows, key=lambda row: -row.total))


def _in_order(pool: Pool, addresses: Sequence[str]) -> Pick | Nobody:
    """Return the first of `addresses` that is in the pool, the others as fallbacks."""
    slots = {one.address: slot for slot, one in enumerate(pool.endpoints) if one is not None}
    order = [slots[address] for address in dict.fromkeys(addresses) if address in slots]
    if not order:
        return Nobody("NoEndpoints")
    return Pick(pool.endpoints, np.array(order), np.arange(len(order), 0.0, -1.0), 0)


def _filter(profile: Profile, candidates: Candidates) -> Nobody | None:
    request = candidates.request
    if request.subset is not None:
        _keep_subset(candidates, request.subset)
    if not candidates.count:
        return Nobody("NoEndpoints")
    for each in profile.filters:
        keep = each.filter(candidates)
        if keep is not None:
            candidates.narrow(keep)
            if not candidates.count:
                return Nobody(each.reason)
    return None


def _keep_subset(candidates: Candidates, subset: frozenset[str]) -> None:
    endpoints = candidates.pool.endpoints
    candidates.at = np.array(
        [slot for slot, one in enumerate(endpoints) if one is not None and one.address in subset],
        np.intp,
    )
    candidates.count = len(candidates.at)


def _totals(scorers: Sequence[Weighted], candidates: Candidates) -> Vector:
    totals: Vector | None = None
    for each in scorers:
        scores = _weighted(each, candidates)
        totals = scores if totals is None else totals + scores
    return np.zeros(candidates.count) if totals is None else totals


def _weighted(each: Weighted, candidates: Candidates) -> Vector:
    scores = each.scorer.score(candidates)
    if not each.trusted:
        scores = _clamped(each.name, np.asarray(scores, np.float64), candidates.count)
    return scores if each.weight == 1.0 else scores * each.weight


def _clamped(name: str, scores: Vector, count: int) -> Vector:
    if scores.shape != (count,):
        raise ValueError(f"{name}: found scores of shape {scores.shape}, expected ({count},)")
    return np.clip(np.nan_to_num(scores, nan=0.0), 0.0, 1.0)


def _partner(roles: Roles, pool: Pool, request: Request, pick: Pick, rng: Random) -> Pick | None:
    """Return who computes the prompt for `pick`, or None if it does that itself."""
    if not roles.decider.apart(request, pick.matched):
        return None
    revision = pick.endpoint.labels.get(roles.revision_label)
    same = frozenset(
        one.address
        for one in pool.members
        if one is not pick.endpoint and one.labels.get(roles.revision_label) == revision
    )
    subset = same if request.subset is None else same & request.subset
    found = run(roles.prefill, pool, msgspec.structs.replace(request, subset=subset), rng)
    return found if isinstance(found, Pick) else None
