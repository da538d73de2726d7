"""What a run came to: counts, shares and percentiles.

Latencies are of requests that didn't fail; shares are of all that reached a pool. A session
belongs to the pool that its first request reached.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from tidegate.load.result import Result


class Percentiles(Struct, frozen=True):
    """Of a duration, in seconds."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


class PoolReport(Struct, frozen=True):
    """What one pool answered."""

    requests: int
    share: float
    """Of the requests that name a pool, 0..1."""
    sessions: int
    session_share: float
    failed: int
    ttft: Percentiles
    itl: Percentiles
    endpoints: dict[str, int]
    """Requests by endpoint."""


class Report(Struct, frozen=True):
    """The whole run."""

    requests: int
    failed: int
    sessions: int
    moved_sessions: int
    """Sessions whose requests met more than one pool."""
    duration_s: float
    """From the first start to the last end."""
    requests_per_s: float
    events_per_s: float
    output_tokens_per_s: float
    prompt_tokens_per_s: float
    cached_share: float
    """Of the prompts' tokens, those that servers had in their prefix caches, 0..1."""
    errors: dict[str, int]
    """Failed requests by kind."""
    statuses: dict[str, int]
    """Answers by status; 0 is no answer."""
    lag: Percentiles
    """How late this client was: if it is large, the load wasn't what it should have been."""
    ttft: Percentiles
    itl: Percentiles
    e2e: Percentiles
    pools: dict[str, PoolReport]
    """By the answers' `x-tidegate-pool`; '' is no pool."""
    examples: dict[str, str]
    """One failure's detail by kind."""


def percentiles(values: Iterable[float]) -> Percentiles:
    """Return the summary of `values`; nearest rank, so each is a value that was seen."""
    ordered = sorted(values)
    if not ordered:
        return Percentiles()

    def rank(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    mean = sum(ordered) / len(ordered)
    return Percentiles(
        len(ordered), mean, rank(0.5), rank(0.9), rank(0.95), rank(0.99), ordered[-1]
    )


def summarise(results: Sequence[Result]) -> Report:
    """Return the report of a run."""
    good = [one for one in results if not one.failed]
    begin = min((one.started_at for one in results), default=0.0)
    end = max((one.started_at + one.duration_s for one in results), default=0.0)
    duration = max(end - begin, 1e-9)
    pools = _pools_of_sessions(results)
    failed = [one for one in results if one.failed]
    prompts = sum(one.prompt_tokens for one in results)
    return Report(
        requests=len(results),
        failed=len(failed),
        sessions=len({one.session for one in results}),
        moved_sessions=sum(len(seen) > 1 for seen in pools.values()),
        duration_s=duration,
        requests_per_s=len(results) / duration,
        events_per_s=sum(one.events for one in results) / duration,
        output_tokens_per_s=sum(one.output_tokens or one.events for one in results) / duration,
        prompt_tokens_per_s=prompts / duration,
        cached_share=sum(one.cached_tokens for one in results) / max(1, prompts),
        errors=dict(Counter(one.error for one in failed)),
        statuses=dict(sorted(Counter(str(one.status) for one in results).items())),
        lag=percentiles(one.lag_s for one in results),
        ttft=_ttft(good),
        itl=_itl(good),
        e2e=percentiles(one.duration_s for one in good),
        pools=_pools(results, Counter(seen[0] for seen in pools.values())),
        examples={one.error: one.detail for one in failed},
    )


def _pools_of_sessions(results: Iterable[Result]) -> dict[int, list[str]]:
    """Return the pools that each session met, first one first."""
    pools: defaultdict[int, list[str]] = defaultdict(list)
    for one in sorted(results, key=lambda one: (one.session, one.turn)):
        if one.pool and one.pool not in pools[one.session]:
            pools[one.session].append(one.pool)
    return {session: seen for session, seen in pools.items() if seen}


def _pools(results: Sequence[Result], sessions: Counter[str]) -> dict[str, PoolReport]:
    by_pool: defaultdict[str, list[Result]] = defaultdict(list)
    for one in results:
        by_pool[one.pool].append(one)
    named = sum(len(some) for pool, some in by_pool.items() if pool)
    return {
        pool: _pool(some, len(some) / named if pool else 0.0, sessions, pool)
        for pool, some in sorted(by_pool.items())
    }


def _pool(results: Sequence[Result], share: float, sessions: Counter[str], pool: str) -> PoolReport:
    good = [one for one in results if not one.failed]
    return PoolReport(
        requests=len(results),
        share=share,
        sessions=sessions[pool],
        session_share=sessions[pool] / max(1, sessions.total()),
        failed=len(results) - len(good),
        ttft=_ttft(good),
        itl=_itl(good),
        endpoints=dict(sorted(Counter(one.endpoint for one in results if one.endpoint).items())),
    )


def _ttft(results: Iterable[Result]) -> Percentiles:
    return percentiles(one.ttft_s for one in results if one.ttft_s is not None)


def _itl(results: Iterable[Result]) -> Percentiles:
    return percentiles(gap for one in results for gap in one.gaps_s)
