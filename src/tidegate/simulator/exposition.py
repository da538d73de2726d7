"""Prometheus families in the text format, written as `prometheus_client` writes them.

A page has some 700 lines, as vLLM's has, and is scraped many times a second: a family that
hasn't changed since it was last asked is not written again.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Family:
    """A gauge, or a counter: what is told of one thing, by labels.

    Args:
        name: Without the `_total` of counters.
        kind: `gauge` or `counter`.
        text: What it is.
        created: When counting began, in seconds since the epoch; gauges don't say it.

    """

    __slots__ = ("_born", "_created", "_head", "_name", "_page", "_seen")

    def __init__(self, name: str, kind: str, text: str, created: float = 0.0) -> None:
        self._name = f"{name}_total" if kind == "counter" else name
        self._head = _head(self._name, kind, text)
        self._born = f"{name}_created" if kind == "counter" else ""
        self._created = f"{_head(self._born, 'gauge', text)}" if self._born else "", created
        self._seen: list[tuple[str, float]] | None = None
        self._page = ""

    def page(self, series: Iterable[tuple[str, float]]) -> str:
        """Return its lines.

        Args:
            series: Labels as they stand between the braces, and values.

        """
        values = list(series)
        if values != self._seen:
            self._seen = values
            lines = [f"{self._name}{{{labels}}} {float(value)}\n" for labels, value in values]
            if self._born:
                head, created = self._created
                lines.append(head)
                lines += [f"{self._born}{{{labels}}} {created}\n" for labels, _ in values]
            self._page = self._head + "".join(lines)
        return self._page


class Histogram:
    """Counts of values by upper bound."""

    __slots__ = ("_count", "_created", "_head", "_labels", "_name", "_page", "bounds", "counts",
                 "total")  # fmt: skip

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], labels: str, created: float
    ) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        self._name = name
        self._labels = labels
        self._count = 0
        self._head = _head(name, "histogram", text)
        born = f"{name}_created"
        self._created = f"{_head(born, 'gauge', text)}{born}{{{labels}}} {created}\n"
        self._page = ""

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value` so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times
        self._page = ""

    def page(self) -> str:
        """Return its lines: cumulative buckets, the count and the sum."""
        if not self._page:
            name, labels, running = self._name, self._labels, 0
            lines = [self._head]
            for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
                running += count
                lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {running}.0\n')
            lines.append(f"{name}_count{{{labels}}} {running}.0\n")
            lines.append(f"{name}_sum{{{labels}}} {self.total}\n")
            self._page = "".join((*lines, self._created))
        return self._page


def one_two_five(most: int) -> tuple[float, ...]:
    """Return 1, 2, 5, 10, … up to `most`."""
    bounds, power = [], 1
    while power <= most:
        bounds += [float(step * power) for step in (1, 2, 5) if step * power <= most]
        power *= 10
    return tuple(bounds)


def escaped(value: str) -> str:
    """Return a label's value as it stands between quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
