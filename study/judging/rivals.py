"""What people use today, on the same traffic: a threshold rule, and Mann-Whitney.

Both are run as their documentation shows them, with the same ladder climbed by the clock:
fifteen minutes a step.
"""

from collections import deque

import numpy as np
from scipy import stats

from tidegate.judge.block import Block
from tidegate.judge.histogram import add_all, quantile, value_at

STEP_S = 900.0
TOO_SLOW = 1.2
TOO_MANY_ERRORS = 0.01


class Window:
    """Both arms over the last `span_s` seconds."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._kept: deque[Block] = deque()

    def add(self, blocks: list[Block], now: float) -> None:
        self._kept.extend(blocks)
        while self._kept and self._kept[0].place.start < now - self._span_s:
            self._kept.popleft()

    def ttft(self, arm: str, q: float) -> float | None:
        """A quantile over all requests, as a Prometheus histogram gives it."""
        total: dict[int, int] = {}
        for each in self._kept:
            if each.place.arm == arm:
                add_all(total, each.ttft)
        place = quantile(total, q)
        return None if place is None else value_at(place)

    def errors(self, arm: str) -> float | None:
        mine = [each for each in self._kept if each.place.arm == arm]
        requests = sum(each.requests for each in mine)
        return sum(each.bad for each in mine) / requests if requests else None


class _ByClock:
    def __init__(self) -> None:
        self.since: float | None = None
        self.looked = 0.0

    def enter(self, at: float, weight: int, *, last: bool) -> None:
        self.since = at

    def over(self, now: float) -> bool:
        return self.since is not None and now - self.since >= STEP_S


class Threshold(_ByClock):
    """As an AnalysisTemplate or a Canary with `interval: 1m` compares two queries.

    A check fails when the canary's p95 is beyond 1.2 times the stable's, or more than 1 % of
    its requests failed, over the last `window_s`; more than `limit` failed checks abort.
    """

    def __init__(self, window_s: float, limit: int) -> None:
        super().__init__()
        self._window = Window(window_s)
        self._limit = limit
        self._fails = 0

    def look(self, blocks: list[Block], now: float) -> tuple[str, str]:
        self._window.add(blocks, now)
        if self.since is None:
            return "continue", ""
        if now - self.looked >= 60:
            self.looked = now
            self._fails += self._check()
            if self._fails > self._limit:
                return "fail", "threshold"
        return ("pass" if self.over(now) else "continue"), ""

    def _check(self) -> bool:
        canary, stable = self._window.ttft("canary", 0.95), self._window.ttft("stable", 0.95)
        if canary is not None and stable is not None and canary > TOO_SLOW * stable:
            return True
        errors = self._window.errors("canary")
        return errors is not None and errors > TOO_MANY_ERRORS


class MannWhitney(_ByClock):
    """As Kayenta judges: one point a minute and metric, confidence 98 %, looked at again and again.

    A metric is High when the whole interval of the shift is above a quarter of its estimate
    and, with `effect`, the ratio of means at least that. High anywhere aborts.
    """

    def __init__(self, effect: float = 1.0, every_s: float = 120.0) -> None:
        super().__init__()
        self._minute = Window(60)
        self._effect = effect
        self._every_s = every_s
        self._points: dict[str, list[tuple[float, float]]] = {"p50": [], "p95": [], "errors": []}
        self._pointed = 0.0

    def enter(self, at: float, weight: int, *, last: bool) -> None:
        super().enter(at, weight, last=last)

    def look(self, blocks: list[Block], now: float) -> tuple[str, str]:
        self._minute.add(blocks, now)
        if self.since is None:
            return "continue", ""
        if now - self._pointed >= 60:
            self._pointed = now
            self._point()
        if now - self.looked >= self._every_s:
            self.looked = now
            for name, points in self._points.items():
                if len(points) >= 8 and self._is_high(np.array(points)):
                    return "fail", name
        return ("pass" if self.over(now) else "continue"), ""

    def _point(self) -> None:
        window = self._minute
        for name, read in (
            ("p50", lambda arm: window.ttft(arm, 0.5)),
            ("p95", lambda arm: window.ttft(arm, 0.95)),
            ("errors", window.errors),
        ):
            canary, stable = read("canary"), read("stable")
            if canary is not None and stable is not None:
                self._points[name].append((canary, stable))

    def _is_high(self, points: np.ndarray) -> bool:
        canary, stable = points[:, 0], points[:, 1]
        if np.ptp(points) == 0:
            return False
        shifts = np.sort((canary[:, None] - stable[None, :]).ravel())
        n = len(points)
        spread = stats.norm.ppf(0.99) * np.sqrt(n * n * (2 * n + 1) / 12)
        low = shifts[max(0, int(n * n / 2 - spread))]
        estimate = np.median(shifts)
        ratio = canary.mean() / stable.mean() if stable.mean() else np.inf
        return bool(low > 0.25 * abs(estimate) and ratio >= self._effect)
