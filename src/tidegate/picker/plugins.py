"""The plugin seam: what filters, scorers and pickers take and give.

Plugins are values: no I/O, no await, no clock. State is folded in `picker.state`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from tidegate.picker.state import (
    UNSEEN,
    Answered,
    EndpointState,
    Event,
    Finished,
    Prefilled,
    Shared,
    Started,
    fold,
)

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


def _no_labels() -> Mapping[str, str]:
    return _NO_LABELS


LOAD_ONLY: Final = frozenset({Started, Prefilled, Answered, Finished, Shared})
"""Events after which only counts of requests and tokens, and the ejection, may differ."""


class Seating(Protocol):
    """A pool, as its endpoints see it."""

    def see_load(self, slot: int, state: EndpointState) -> None:
        """Take what a request's start or end changes."""

    def see_all(self, slot: int, state: EndpointState) -> None:
        """Take all that a state says."""


@dataclass(slots=True, eq=False)
class Endpoint:
    """One address of a model server. The object lives as long as the endpoint does."""

    address: str
    """`host:port`."""
    state: EndpointState = UNSEEN
    """Replaced as a whole by `state.fold`."""
    labels: Mapping[str, str] = field(default_factory=_no_labels)
    """Of its model server."""
    seats: tuple[tuple[Seating, int], ...] = ()
    """The pools that it is in, and its slot in each."""

    def note(self, event: Event, now: float) -> None:
        """Fold what happened into the state, and tell the pools. `now` as for `state.fold`."""
        state = self.state = fold(self.state, event, now)
        if type(event) in LOAD_ONLY:
            for pool, slot in self.seats:
                pool.see_load(slot, state)
        else:
            for pool, slot in self.seats:
                pool.see_all(slot, state)


class Request(msgspec.Struct, frozen=True, gc=False):
    """What a pick may depend on."""

    now: float
    """Seconds, on the clock that `state.fold` is given: ejections end by it."""
    model: str | None = None
    session: bytes | None = None


class Pick(msgspec.Struct, frozen=True):
    """The endpoint to use, and among whom it was chosen."""

    endpoint: Endpoint
    candidates: Sequence[Endpoint] = ()
    """All that were scored."""
    scores: Sequence[float] = ()
    """Their summed scores, in their order."""

    def fallbacks(self) -> list[Endpoint]:
        """Return whom to try next, best first; equals as they follow the endpoint on a ring."""
        # Few requests need one, so the order is made only for them.
        count, after = len(self.candidates), self.candidates.index(self.endpoint) + 1
        ring = [index % count for index in range(after, after + count - 1)]
        ring.sort(key=lambda index: -self.scores[index])
        return [self.candidates[index] for index in ring]


class Filter(Protocol):
    """Leaves out endpoints that had better not serve the request."""

    def filter(self, request: Request, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Return those of `endpoints` that should serve, in their order; nobody if none should.

        `endpoints` may be a part of the pool, so one must not be judged by the others.
        """


class Scorer(Protocol):
    """Says how good each endpoint is for the request."""

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> list[float]:
        """Return one score in [0, 1] per endpoint, in their order."""


class Picker(Protocol):
    """Chooses among the candidates by their summed scores."""

    def pick(self, scores: Sequence[float], endpoints: Sequence[Endpoint], rng: Random) -> int:
        """Return an index into `endpoints`, of which there is at least one."""
