"""How much of the traffic the canary can carry: throughput at the objective, not replicas.

A pool's capacity is what it does now divided by how full it is. Where the canary is too idle
to measure, the stable's endpoints stand in at a discount, until its own first steps tell.
"""

from dataclasses import dataclass
from typing import Final


def limit(desired: int, cap: int | None, now_at: int) -> int:
    """Return the effective weight in percent.

    It falls at once and rises only for something: a cap that flutters must not move sessions
    to and fro.

    Args:
        desired: What the step asks for.
        cap: What the canary can carry; None if nobody knows.
        now_at: The effective weight so far.

    """
    ceiling = desired if cap is None else min(desired, cap)
    worth_it = ceiling == desired or ceiling >= now_at + LEAST_RISE
    return ceiling if ceiling <= now_at or worth_it else now_at


LEAST_RISE: Final = 5
"""Percentage points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a pool does, over its ready endpoints."""

    ready: int
    tokens_per_s: float = 0.0
    """Prompt and output tokens per second; any unit that both pools share will do."""
    usage: float = 0.0
    """How full it is, 0..1: the greater of KV-cache usage and running requests per slot."""
    waiting: int = 0
    """Requests that wait at its servers."""
    best_tokens_per_s: float = 0.0
    """The most that one endpoint has done within the objective; 0 if that is not known."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """What the canary can carry."""

    cap: int | None
    """Percent of today's traffic; None if there is too little of it to tell."""
    message: str = ""
    """What is missing for more, in a sentence."""


LEAST_USAGE: Final = 0.2
"""Below this, what a pool does tells little of what it can do."""
FULL_USAGE: Final = 0.95
DISCOUNT: Final = 0.5
"""An unmeasured endpoint of the canary counts as this part of one of the stable."""
RESERVE: Final = 0.1
"""Part of the capacity that is kept free."""


def carries(pool: Load) -> float | None:
    """Return the tokens per second that `pool` can do; None if that can't be told yet."""
    if pool.ready == 0:
        return 0.0
    if pool.waiting > pool.ready or pool.usage >= FULL_USAGE:
        return pool.tokens_per_s
    known = pool.best_tokens_per_s * pool.ready
    if pool.usage >= LEAST_USAGE:
        return max(known, pool.tokens_per_s / pool.usage)
    # It isn't as full as LEAST_USAGE, so it can do at least so much more than it does now.
    return max(known, pool.tokens_per_s / LEAST_USAGE) if known else None


def headroom(canary: Load, stable: Load) -> Headroom:
    """Return what part of both pools' traffic the canary can carry by itself."""
    if canary.ready == 0:
        return Headroom(0, "the canary has no ready endpoint")
    demand = canary.tokens_per_s + stable.tokens_per_s
    theirs = carries(stable)
    ours, guessed = carries(canary), False
    if ours is None:
        if theirs is None or stable.ready == 0:
            return Headroom(None)
        ours, guessed = DISCOUNT * theirs * canary.ready / stable.ready, True
    as_strong = theirs is not None and stable.ready > 0 and ours >= theirs
    if demand <= 0 or as_strong:
        return Headroom(100)
    cap = min(100, int(100 * (1 - RESERVE) * ours / demand))
    return Headroom(cap, _missing(ours, demand, guessed=guessed) if cap < 100 else "")


def _missing(ours: float, demand: float, *, guessed: bool) -> str:
    by = "estimated from the stable's endpoints" if guessed else "measured"
    needed = demand / (1 - RESERVE)
    return (
        f"the canary can do {ours:.0f} tokens/s ({by}), all of today's traffic needs"
        f" {needed:.0f}: add endpoints to its pool"
    )
