"""Whether a pool's servers say how busy they are: the condition `MetricsFresh` of its status.

An endpoint whose metrics are old or missing is picked all the same, by what the gateway itself
has in flight there. That works, but worse, and nobody would notice: so it is said here.

    fresh   some worker has metrics of it that are not stale
    stale   none has: the server doesn't answer, or too slowly
    blind   the server answers, and says nothing that the gateway knows: no failure

Invariants: what is said changes only after an endpoint has been in another way for some seconds,
and holds no time that goes on. So a status is written when something happened, and not else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tidegate.controllers.conditions import timestamp
from tidegate.picker.pool import STALE_S
from tidegate.telemetry.heard import Heard

CONDITION: Final = "MetricsFresh"
HOLD_S: Final = 3.0
"""How long it must be so before it is said that metrics are missing: the next may come."""
FRESH_HOLD_S: Final = 6.0
"""And that they are back. Longer than one scrape counts: a single one that got through by luck
isn't the end of it."""
FEW: Final = 3
"""Addresses in a message."""

Way = Literal["fresh", "stale", "blind"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition says."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


FRESH: Final = Verdict("True", CONDITION, "")
NO_ENDPOINTS: Final = Verdict("Unknown", "NoEndpoints", "the pool has no endpoint that is ready")
NO_WORKERS: Final = Verdict(
    "Unknown",
    "NoWorkers",
    "no worker of the gateway says what it hears of the endpoints: look into its log",
)


@dataclass(slots=True)
class _Endpoint:
    told: Way | None = None
    """What is said; None: nothing yet."""
    heard_at: float | None = None
    """When it was last heard before that is said; seconds since the epoch. None: never."""
    seems: Way | None = None
    """What it looks like since `since`."""
    since: float = 0.0

    def look(self, heard: Heard, now: float) -> None:
        way = _way(heard)
        if way != self.seems:
            self.seems, self.since = way, now
        if way != self.told and now - self.since >= self._hold(way, heard):
            self.told = way
            self.heard_at = None if heard.age_s is None else now - heard.age_s

    def _hold(self, way: Way, heard: Heard) -> float:
        if way == "fresh":
            return 0.0 if self.told is None else FRESH_HOLD_S
        # An endpoint or a worker that is new has as much time as one that was heard before.
        return HOLD_S if heard.age_s is not None else STALE_S + HOLD_S


class Freshness:
    """One pool's endpoints, looked at again and again."""

    def __init__(self, verdict: Verdict | None) -> None:
        """Begin with what was said before; None: nothing."""
        self.verdict = verdict
        """What is to be said; None: nothing yet."""
        self._endpoints: dict[str, _Endpoint] = {}
        self._empty_since: float | None = None

    def look(self, heard: Iterable[Heard], now: float) -> None:
        """Take what all workers say of all endpoints now (seconds since the epoch)."""
        newest = _newest(heard)
        known = self._endpoints
        self._endpoints = {each: known.get(each) or _Endpoint() for each in newest}
        for address, endpoint in self._endpoints.items():
            endpoint.look(newest[address], now)
        if newest:
            self._empty_since = None
            # One that is new is known within a second; until then all stays as it is.
            if all(each.told for each in self._endpoints.values()):
                self.verdict = _verdict(self._endpoints)
        elif self._empty_since is None:
            self._empty_since = now
        elif now - self._empty_since >= HOLD_S:
            self.verdict = NO_ENDPOINTS


def _newest(heard: Iterable[Heard]) -> dict[str, Heard]:
    """Return for each endpoint what the worker says that heard it last."""
    newest: dict[str, Heard] = {}
    for each in heard:
        known = newest.get(each.address)
        if known is None or _age(each) < _age(known):
            newest[each.address] = each
    return newest


def _age(heard: Heard) -> float:
    return float("inf") if heard.age_s is None else heard.age_s


def _way(heard: Heard) -> Way:
    if heard.blind:
        return "blind"
    return "fresh" if _age(heard) <= STALE_S else "stale"


def _verdict(endpoints: Mapping[str, _Endpoint]) -> Verdict:
    """Return what is to be said of endpoints of which there is at least one."""
    stale = sorted(address for address, each in endpoints.items() if each.told == "stale")
    blind = sorted(address for address, each in endpoints.items() if each.told == "blind")
    count = len(endpoints)
    if not stale and not blind:
        return FRESH
    words = []
    if stale:
        words.append(_of_stale([_since(each, endpoints[each]) for each in stale], count))
    if blind:
        words.append(_of_blind(blind, count))
    message = f"picked by the gateway's own counts alone: {' Also '.join(words)}"
    if stale:
        return Verdict("False", "MetricsStale", message)
    if len(blind) == count:
        return Verdict("Unknown", "NoMetrics", message)
    return Verdict("True", "SomeWithoutMetrics", message)


def _of_stale(stale: list[str], count: int) -> str:
    return (
        f"{len(stale)} of {count} endpoints, whose metrics are older than {STALE_S:g} s: "
        f"{_some(stale)}. Does /metrics answer there within a second? The gateway's log has the "
        "errors of scrapes."
    )


def _of_blind(blind: list[str], count: int) -> str:
    return (
        f"{len(blind)} of {count} endpoints, which answer without metrics that the gateway knows: "
        f"{_some(blind)}. If they have metrics, is spec.engine of their ModelServer right? Some "
        "servers show them only after the first request."
    )


def _since(address: str, endpoint: _Endpoint) -> str:
    at = endpoint.heard_at
    return (
        f"{address} (never since the workers started)"
        if at is None
        else f"{address} (since {timestamp(at)})"
    )


def _some(words: list[str]) -> str:
    more = len(words) - FEW
    return ", ".join(words[:FEW]) + (f" and {more} more" if more > 0 else "")
