"""The ways to pick that load balancers have had all along, to compare with.

They choose among the endpoints that are well, as anybody's health checks would tell them, and
know what they sent themselves. None looks at what a server says of its load.
"""

from bisect import bisect
from collections.abc import Callable, Mapping
from random import Random
from typing import Final, Protocol

import numpy as np
from xxhash import xxh3_64_intdigest

from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request

RING: Final = 128
"""Places of an endpoint on the hash ring."""
BOUND: Final = 1.25
"""An endpoint takes at most so many times the mean number of requests (Mirrokni, Thorup and
Zadimoghaddam, "Consistent hashing with bounded loads", 2016)."""


class Balancer(Protocol):
    """Chooses an endpoint."""

    def pick(self, pool: Pool, request: Request, rng: Random) -> Endpoint | None:
        """Return who serves `request`; None if nobody can."""


def _well(pool: Pool, now: float) -> np.ndarray:
    slots = np.arange(len(pool.endpoints))[pool.at]
    well = slots[pool.usable_from[pool.at] <= now]
    return well if len(well) else slots


class RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._last = -1

    def pick(self, pool: Pool, request: Request, rng: Random) -> Endpoint | None:
        """Return the next one."""
        slots = _well(pool, request.now)
        if not len(slots):
            return None
        place = int(np.searchsorted(slots, self._last, side="right"))
        self._last = int(slots[place % len(slots)])
        return pool.endpoints[self._last]


class Chance:
    """Any."""

    def pick(self, pool: Pool, request: Request, rng: Random) -> Endpoint | None:
        """Return one at random."""
        slots = _well(pool, request.now)
        return pool.endpoints[int(slots[int(rng.random() * len(slots))])] if len(slots) else None


class LeastRequests:
    """The one with the fewest of our requests under way."""

    def pick(self, pool: Pool, request: Request, rng: Random) -> Endpoint | None:
        """Return the least loaded one; chance decides among equals."""
        slots = _well(pool, request.now)
        if not len(slots):
            return None
        load = pool.requests[slots]
        least = np.flatnonzero(load == load.min())
        chosen = slots[least[int(rng.random() * len(least))]]
        return pool.endpoints[int(chosen)]


class BoundedHash:
    """Consistent hashing of the prompt's beginning, with bounded load."""

    def __init__(self) -> None:
        self._ring: list[tuple[int, int]] = []
        self._made_for: tuple[Endpoint | None, ...] = ()

    def pick(self, pool: Pool, request: Request, rng: Random) -> Endpoint | None:
        """Return the first one on the ring, from the prompt's place on, that has room."""
        slots = _well(pool, request.now)
        if not len(slots):
            return None
        if pool.endpoints is not self._made_for:
            self._build(pool)
        most = BOUND * (float(pool.requests[slots].sum()) + 1.0) / len(slots)
        well = set(slots.tolist())
        begin = request.chain[0] if request.chain else rng.getrandbits(64)
        ring, at = self._ring, bisect(self._ring, (_hash(begin), 0))
        for step in range(len(ring)):
            slot = ring[(at + step) % len(ring)][1]
            if slot in well and pool.requests[slot] + 1.0 <= max(1.0, most):
                return pool.endpoints[slot]
        return pool.endpoints[int(slots[0])]

    def _build(self, pool: Pool) -> None:
        self._made_for = pool.endpoints
        self._ring = sorted(
            (xxh3_64_intdigest(f"{one.address}/{place}".encode()), slot)
            for slot, one in enumerate(pool.endpoints)
            if one is not None
            for place in range(RING)
        )


def _hash(number: int) -> int:
    return xxh3_64_intdigest(number.to_bytes(16, "little"))


BALANCERS: Final[Mapping[str, Callable[[], Balancer]]] = {
    "round-robin": RoundRobin,
    "random": Chance,
    "least-requests": LeastRequests,
    "bounded-hash": BoundedHash,
}
"""By the names that the command line has for them."""
