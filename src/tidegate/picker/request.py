"""What is asked of a pick, and what comes of it."""

from collections.abc import Sequence

import msgspec

from tidegate.picker.endpoint import Endpoint
from tidegate.picker.vectors import Slots, Vector


class Request(msgspec.Struct):
    """What a pick may depend on. What nobody knows stays as it is by default."""

    now: float
    """Seconds, on the clock that endpoints' events are given: ejections end by it."""
    model: str | None = None
    session: bytes | None = None
    chain: Sequence[int] = ()
    """Hashes of the prompt's prefixes, the shortest first (`prefix.Blocks.chain`)."""
    prompt: int = 0
    """Tokens of the prompt, maybe estimated."""
    output: int = 0
    """The longest answer asked for, in tokens; 0 if it has no limit."""
    stream: bool = True
    """Whether the answer comes token by token, so that its first token can be seen."""
    order: Sequence[str] | None = None
    """Addresses to try in this order, where somebody in front of us has chosen already."""
    subset: frozenset[str] | None = None
    """Addresses that may serve, where somebody in front of us leaves only some."""


class Nobody(msgspec.Struct, frozen=True):
    """No endpoint may serve, and why."""

    reason: str
    """CamelCase, as clients get it."""


class Pick:
    """The endpoint to use; whom to try next is worked out when somebody asks."""

    __slots__ = ("_candidates", "_endpoints", "_totals", "endpoint", "matched", "prefill", "slot")

    def __init__(
        self, endpoints: tuple[Endpoint | None, ...], candidates: Slots, totals: Vector, index: int
    ) -> None:
        """Make a pick of `candidates` (slots: all, or an index vector) by their `totals`."""
        self._endpoints = endpoints
        self._candidates = candidates
        self._totals = totals
        self.slot: int = int(index if isinstance(candidates, slice) else candidates[index])
        endpoint = endpoints[self.slot]
        assert endpoint is not None  # noqa: S101  # an empty slot is never a candidate
        self.endpoint: Endpoint = endpoint
        self.matched: float = 0.0
        """Tokens of the prompt that its prefix cache should hold."""
        self.prefill: Pick | None = None
        """Who computes the prompt, where that is not `endpoint` itself."""

    def scores(self) -> tuple[float, ...]:
        """Return the candidates' summed scores: the endpoint's first, then the fallbacks'."""
        return tuple(total for _, total in self._ranked())

    def fallbacks(self) -> list[Endpoint]:
        """Return the other candidates, best first."""
        return [endpoint for endpoint, _ in self._ranked()[1:]]

    def _ranked(self) -> list[tuple[Endpoint, float]]:
        slots = self._candidates
        numbers = range(len(self._endpoints)) if isinstance(slots, slice) else slots.tolist()
        pairs = zip(numbers, self._totals.tolist(), strict=True)
        # The chosen one needn't have the highest score: pickers may draw.
        after = self.slot + 1
        # Equals as they follow the chosen one on a ring, so that retries spread too.
        order = sorted(
            pairs, key=lambda one: (one[0] != self.slot, -one[1], (one[0] - after) % (2**31))
        )
        ranked = ((self._endpoints[slot], total) for slot, total in order)
        return [(endpoint, total) for endpoint, total in ranked if endpoint is not None]
