"""One address of a model server, its state, and the pools that it is in.

What happens to it is told to `note` and nowhere else: then its state and the pools' vectors say
the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

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
