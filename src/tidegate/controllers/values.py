"""Metrics of people's own: numbers asked of Prometheus or a webhook, one pair at a time.

Each answer is one comparison of the canary with the stable (or with a budget), so it says as
much as one pair of requests. What can't be asked says nothing: it holds the rollout, and is told.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Any, Final

import httpx2
import msgspec

from tidegate.api.durations import parse_duration
from tidegate.api.errors import TidegateError
from tidegate.api.rollout import AnalysisMetric, PrometheusQuery, ValueHook

TIMEOUT_S: Final = 10.0
MOST_TEXT: Final = 200
"""Characters of an answer that people are shown."""


class NoValueError(TidegateError):
    """A source has no number for us."""

    reason = "NoValue"


@dataclass(frozen=True, slots=True)
class Sides:
    """Who is asked about."""

    rollout: str
    namespace: str
    stable: str
    canary: str
    stable_pool: str
    """Of an adapter's rollout both pools are the same."""
    canary_pool: str


class _Sample(msgspec.Struct):
    value: tuple[float, str]


class _Data(msgspec.Struct, rename={"type": "resultType"}):
    type: str
    result: list[Any]


class _Answer(msgspec.Struct):
    data: _Data


class _Values(msgspec.Struct):
    canary: float | None = None
    stable: float | None = None


class Sources:
    """Asks, over one client."""

    def __init__(self) -> None:
        self._client: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def ask(self, metric: AnalysisMetric, sides: Sides) -> tuple[float, float]:
        """Return the canary's value and what to hold it against.

        Raises:
            NoValueError: There is none; says why.

        """
        if metric.prometheus is not None:
            return await self._query(metric.prometheus, metric.budget, sides)
        assert metric.webhook is not None  # noqa: S101  # admission sees to it
        return await self._hook(metric.webhook, metric, sides)

    async def _query(
        self, query: PrometheusQuery, budget: float | None, sides: Sides
    ) -> tuple[float, float]:
        canary = self._number(query, "canary", sides)
        if budget is not None:
            return await canary, budget
        both = await asyncio.gather(canary, self._number(query, "stable", sides))
        return both[0], both[1]

    async def _number(self, query: PrometheusQuery, arm: str, sides: Sides) -> float:
        text = promql(query.query, arm, sides)
        url = f"{query.url.rstrip('/')}/api/v1/query"
        body = await self._send("GET", url, TIMEOUT_S, params={"query": text})
        return number(body, f"{arm}: {text}")

    async def _hook(
        self, hook: ValueHook, metric: AnalysisMetric, sides: Sides
    ) -> tuple[float, float]:
        about = {
            "metric": metric.name,
            "rollout": sides.rollout,
            "namespace": sides.namespace,
            "stable": sides.stable,
            "canary": sides.canary,
        }
        body = await self._send("POST", hook.url, parse_duration(hook.timeout), json=about)
        return pair(body, metric.budget)

    async def _send(self, method: str, url: str, timeout_s: float, **more: Any) -> bytes:
        if self._client is None:
            self._client = httpx2.AsyncClient(follow_redirects=False)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._client.request(method, url, timeout=timeout_s, **more)
        except TimeoutError:
            raise NoValueError(f"no answer within {timeout_s:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise NoValueError(str(error) or type(error).__name__) from error
        if answer.status_code >= 300:
            raise NoValueError(f"answered {answer.status_code} {answer.text[:MOST_TEXT]}".strip())
        return answer.content


def promql(query: str, arm: str, sides: Sides) -> str:
    """Return a query about one arm. PromQL has braces of its own, so names begin with `$`."""
    known: Mapping[str, str] = {
        "arm": arm,
        "pool": sides.canary_pool if arm == "canary" else sides.stable_pool,
        "side": sides.canary if arm == "canary" else sides.stable,
        "namespace": sides.namespace,
        "rollout": sides.rollout,
    }
    return Template(query).safe_substitute(known)


def number(body: bytes, asked: str) -> float:
    """Return the one number of Prometheus's answer (`/api/v1/query`).

    Raises:
        NoValueError: There is none, or there are several.

    """
    try:
        data = msgspec.json.decode(body, type=_Answer).data
        if data.type == "scalar":
            found = [float(data.result[1])]
        else:
            samples = msgspec.convert(data.result, list[_Sample])
            found = [float(each.value[1]) for each in samples]
    except (msgspec.MsgspecError, ValueError, IndexError) as error:
        raise NoValueError(f"Prometheus's answer to {asked!r} makes no sense: {error}") from error
    if len(found) > 1:
        raise NoValueError(f"{asked!r} gives {len(found)} numbers, expected one: aggregate them")
    if not found or not math.isfinite(found[0]):
        raise NoValueError(f"{asked!r} gives no number")
    return found[0]


def pair(body: bytes, budget: float | None) -> tuple[float, float]:
    """Return the two numbers of a webhook's answer; the second may be a budget.

    Raises:
        NoValueError: One is missing.

    """
    try:
        values = msgspec.json.decode(body, type=_Values)
    except msgspec.MsgspecError as error:
        raise NoValueError(f"the webhook's answer makes no sense: {error}") from error
    stable = values.stable if budget is None else budget
    if values.canary is None or stable is None:
        raise NoValueError('the webhook said no number, expected {"canary": 0.91, "stable": 0.93}')
    return values.canary, stable
