"""A worker's own numbers: plain counters, fed by each finished request.

`observe` is on the path of every request, so it does one dictionary look-up and a few
additions. Everything else waits for `snapshot`. Numbers are never shared between processes:
whoever serves `/metrics` collects snapshots and renders them (`telemetry.snapshot`).

Clients choose model names, so only those that an endpoint lists (`know`) become labels, and
only so many; the others are "other". Rows are bounded too, for routes come and go.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from operator import add
from typing import Final, NamedTuple, TypeAlias

from tidegate.judge.record import Record
from tidegate.picker.endpoint import Endpoint
from tidegate.routing.table import RoutingTable
from tidegate.telemetry import families as f
from tidegate.telemetry.snapshot import Buckets, Snapshot, Value, encode, render
from tidegate.telemetry.weights import arm_weights

__all__ = ["Gauges", "Metrics", "render"]

VERSION: Final = version("tidegate")
OTHER: Final = "other"
MAX_MODELS: Final = 1_000
"""Different models in labels; upstream's picker has the same limit."""
MAX_ROWS: Final = 10_000
"""Different sets of labels of requests. All beyond share one, with "other" for everything."""

Labels: TypeAlias = tuple[str, str, str, str, str]
"""As `families.ROUTED`."""


class Queue(NamedTuple):
    """One priority of a pool, where any ever waited."""

    pool: str
    priority: int
    waiting: int
    waits: tuple[int, ...]
    """Requests that waited and went on, by how long: see `families.QUEUE_WAIT`."""
    waited_s: float
    refused: int


class Picking(NamedTuple):
    """What a pool's picking has to say of itself."""

    pool: str
    stale: int
    prefixes: int
    prompt_tokens: float
    cached_tokens: float


class Gauges(NamedTuple):
    """What is true now, read when a snapshot is taken."""

    requests_in_flight: int = 0
    connections: int = 0
    endpoints: Mapping[str, Sequence[Endpoint]] = {}
    """By pool."""
    clock: float = 0.0
    """Now, on the clock of the endpoints' states."""
    queues: Sequence[Queue] = ()
    picking: Sequence[Picking] = ()


class _Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, counts: list[int], total: float) -> None:
        self.counts = list(map(add, self.counts, counts))
        self.total += total


@dataclass(slots=True)
class _Sums:
    """What is kept per `Labels`."""

    duration: _Histogram = field(default_factory=lambda: _Histogram(f.DURATION.bounds))
    ttft: _Histogram = field(default_factory=lambda: _Histogram(f.TTFT.bounds))
    itl: _Histogram = field(default_factory=lambda: _Histogram(f.ITL.bounds))
    events: int = 0
    tokens: int = 0
    retries: int = 0
    broken: int = 0
    client_gone: int = 0
    request_bytes: int = 0
    response_bytes: int = 0


@dataclass(slots=True)
class _Row:
    """What is kept per labels and status; the sums are shared by all statuses."""

    sums: _Sums
    requests: int = 0


class Metrics:
    """All numbers of one worker."""

    def __init__(self) -> None:
        self._models = {"": ""}
        self._rows: dict[tuple[str, str, str, str, str, int], _Row] = {}
        self._sums: dict[Labels, _Sums] = {}
        self._errors: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._rejected: defaultdict[str, int] = defaultdict(int)
        self._weights: dict[tuple[str, ...], int] = {}
        self._swaps = 0
        self._swapped_at = 0.0
        self._read: Callable[[], Gauges] = Gauges

    def watch(self, read: Callable[[], Gauges]) -> None:
        """Have `read` say what is true now, whenever a snapshot is taken."""
        self._read = read

    def know(self, models: Iterable[str]) -> None:
        """Let these models stand in labels by their names, as long as there is room."""
        for model in models:
            if len(self._models) <= MAX_MODELS:
                self._models.setdefault(model, model)

    def swapped(self, table: RoutingTable, now: float) -> None:
        """Note that `table` was taken into use at `now` (seconds since the epoch)."""
        self._weights = arm_weights(table)
        self._swaps += 1
        self._swapped_at = now

    def reject(self, reason: str) -> None:
        """Count what was refused before it was a request."""
        self._rejected[reason] += 1

    def observe(self, record: Record) -> None:
        """Count a request that ended."""
        model = self._models.get(record.model, OTHER)
        key = (record.route, record.rule, record.arm, record.pool, model, record.status)
        row = self._rows.get(key) or self._row(key)
        row.requests += 1
        sums = row.sums
        sums.duration.add(record.duration_s)
        sums.request_bytes += record.request_bytes
        sums.response_bytes += record.response_bytes
        if record.streamed:
            _add_stream(sums, record)
        sums.tokens += record.output_tokens or record.events
        if record.retries:
            sums.retries += record.retries
        if record.broken:
            sums.broken += 1
        if record.client_gone:
            sums.client_gone += 1
        if record.reason:
            self._errors[(*key[:4], record.reason)] += 1

    def snapshot(self) -> bytes:
        """Return all numbers as they are now."""
        now = self._read()
        values = {
            f.REQUESTS.name: [
                Value((*key[:5], str(key[5])), row.requests) for key, row in self._rows.items()
            ],
            f.ERRORS.name: [Value(key, count) for key, count in self._errors.items()],
            f.REJECTED.name: [Value((key,), count) for key, count in self._rejected.items()],
            f.ARM_WEIGHT.name: [Value(key, weight) for key, weight in self._weights.items()],
            f.ENDPOINTS.name: _by_state(now),
            f.STALE.name: [Value((p.pool,), p.stale) for p in now.picking],
            f.PREFIXES.name: [Value((p.pool,), p.prefixes) for p in now.picking],
            f.PROMPT_TOKENS.name: [Value((p.pool,), p.prompt_tokens) for p in now.picking],
            f.CACHED_TOKENS.name: [Value((p.pool,), p.cached_tokens) for p in now.picking],
            f.QUEUE.name: [Value((q.pool, str(q.priority)), q.waiting) for q in now.queues],
            f.QUEUE_REFUSED.name: [Value((q.pool, str(q.priority)), q.refused) for q in now.queues],
            f.IN_FLIGHT.name: [Value((), now.requests_in_flight)],
            f.CONNECTIONS.name: [Value((), now.connections)],
            f.TABLE_SWAPS.name: [Value((), self._swaps)],
            f.TABLE_TIME.name: [Value((), self._swapped_at)],
            f.BUILD.name: [Value((VERSION,), 1)],
        }
        waits = [Buckets((q.pool, str(q.priority)), q.waits, q.waited_s) for q in now.queues]
        histograms = self._histograms() | {f.QUEUE_WAIT.name: waits}
        return encode(Snapshot(values | self._summed(), histograms))

    def _row(self, key: tuple[str, str, str, str, str, int]) -> _Row:
        if len(self._rows) >= MAX_ROWS:
            key = (OTHER, OTHER, OTHER, OTHER, OTHER, 0)
        sums = self._sums.setdefault(key[:5], _Sums())
        return self._rows.setdefault(key, _Row(sums))

    def _summed(self) -> dict[str, list[Value]]:
        named = {
            f.EVENTS.name: "events",
            f.OUTPUT_TOKENS.name: "tokens",
            f.RETRIES.name: "retries",
            f.BROKEN.name: "broken",
            f.CLIENT_GONE.name: "client_gone",
            f.REQUEST_BYTES.name: "request_bytes",
            f.RESPONSE_BYTES.name: "response_bytes",
        }
        return {
            name: [Value(labels, getattr(sums, what)) for labels, sums in self._sums.items()]
            for name, what in named.items()
        }

    def _histograms(self) -> dict[str, list[Buckets]]:
        named = {f.DURATION.name: "duration", f.TTFT.name: "ttft", f.ITL.name: "itl"}
        return {
            name: [
                Buckets(labels, tuple(histogram.counts), histogram.total)
                for labels, sums in self._sums.items()
                if any((histogram := getattr(sums, what)).counts)
            ]
            for name, what in named.items()
        }


def _add_stream(sums: _Sums, record: Record) -> None:
    sums.events += record.events
    # An error's first byte comes early and would flatter the arm that fails.
    if record.ttft_s is not None and record.status < 400:
        sums.ttft.add(record.ttft_s)
    if record.itl_counts is not None:
        sums.itl.merge(record.itl_counts, record.itl_sum_s)


def _by_state(now: Gauges) -> list[Value]:
    rows = []
    for pool, endpoints in now.endpoints.items():
        counts = {"healthy": 0, "unhealthy": 0, "ejected": 0}
        for endpoint in endpoints:
            counts[_state(endpoint, now.clock)] += 1
        rows += [Value((pool, state), count) for state, count in counts.items()]
    return rows


def _state(endpoint: Endpoint, clock: float) -> str:
    if not endpoint.state.healthy:
        return "unhealthy"
    return "ejected" if endpoint.state.ejected_until > clock else "healthy"
