"""Folds a worker's records into blocks, and hands them to the controller when it asks.

    GET /records?boot=B&after=N   parcels after number N, if B is this run of the worker

Nothing is sent by itself: without a controller, blocks add up in the folder, which is
bounded, and the requests go on.
"""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qs

from msgspec.structs import replace

from tidegate.judge.block import Folder, scope_of
from tidegate.judge.pairs import Pairs
from tidegate.judge.record import Record
from tidegate.telemetry.shipment import Demand, Parcel, Running, Shipment, encode

SPAN_S: Final = 1.0
"""Of a block: the shortest step of a rollout must have several."""
MOST_RULES: Final = 1000
MOST_MODELS: Final = 200
"""Of one rule; clients may ask for whatever comes to their minds."""
MOST_PARCELS: Final = 120
"""Parcels that wait for the controller to say that it has them; older ones are lost."""


class Recorder:
    """One worker's blocks."""

    def __init__(
        self, running: Mapping[int, Record], now: Callable[[], float], *, boot: str
    ) -> None:
        """Make a recorder.

        Args:
            running: The records of the requests under way.
            now: Seconds since the epoch.
            boot: Names this run of the worker.

        """
        self._running = running
        self._now = now
        self._boot = boot
        self._folder = Folder(span_s=SPAN_S)
        self._parcels: deque[Parcel] = deque(maxlen=MOST_PARCELS)
        self._number = 0
        self._pairs: dict[str, Pairs] = {}
        self._demands: dict[tuple[str, str], Demand] = {}

    def fold(self, record: Record) -> None:
        """Count a request that ended."""
        self._folder.fold(record)
        if record.arm:
            self._note(record)

    def pair(self, canary: Record, stable: Record, differ: bool | None) -> None:
        """Count a request that both arms have answered.

        `differ` says whether two answers differ that should be the same; None: they need not.
        """
        pairs = self._pairs.setdefault(scope_of(stable.route, stable.rule), Pairs())
        pairs.compare(canary, stable)
        if differ is not None:
            pairs.note("differs", canary=differ, stable=False)

    def answer(self, query: str) -> bytes:
        """Return what the controller doesn't have yet, as msgpack."""
        asked = parse_qs(query)
        after = asked.get("after", ["0"])[0]
        if asked.get("boot") == [self._boot] and after.isdecimal():
            self._forget(int(after))
        now = self._now()
        self._folder.look(self._running.values(), now)
        blocks = self._folder.take()
        if blocks or self._pairs:
            self._number += 1
            self._parcels.append(Parcel(self._number, blocks, self._pairs))
            self._pairs = {}
        demands = list(self._demands.values())
        return encode(Shipment(self._boot, now, list(self._parcels), self._count(), demands))

    def _note(self, record: Record) -> None:
        """Remember what was asked for."""
        key = record.route, record.rule
        demand = self._demands.get(key)
        if demand is None:
            if len(self._demands) >= MOST_RULES:
                return
            demand = self._demands[key] = Demand(scope_of(*key), {}, {}, 0)
        if record.model and (len(demand.models) < MOST_MODELS or record.model in demand.models):
            demand.models[record.model] = record.started_at
        rest = record.features
        while rest:
            bit = rest & -rest
            demand.features[bit] = record.started_at
            rest ^= bit
        needed = record.prompt_tokens + record.max_tokens if record.prompt_tokens else 0
        if needed > demand.longest:
            self._demands[key] = replace(demand, longest=needed)

    def _forget(self, number: int) -> None:
        while self._parcels and self._parcels[0].number <= number:
            self._parcels.popleft()

    def _count(self) -> list[Running]:
        counts = Counter(
            (record.pool, record.target or record.model)
            for record in self._running.values()
            if record.pool
        )
        return [Running(pool, model, count) for (pool, model), count in counts.items()]
