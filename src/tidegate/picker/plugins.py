"""The plugin seam: what filters, scorers and pickers take and give.

Plugins are values: no I/O, no await, no clock. State is folded in `picker.state`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import msgspec

from tidegate.picker.state import UNSEEN, EndpointState


@dataclass(slots=True, eq=False)
class Endpoint:
    """One address of a model server. The object lives as long as the endpoint does."""

    address: str
    """`host:port`."""
    state: EndpointState = UNSEEN
    """Replaced as a whole by `state.fold`."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """What a pick may depend on."""

    now: float
    """Seconds, on the clock that `state.fold` is given: ejections end by it."""
    model: str | None = None
    session: bytes | None = None


class Pick(msgspec.Struct, frozen=True):
    """The endpoint to use, whom to try next (best first), and why."""

    endpoint: Endpoint
    fallbacks: tuple[Endpoint, ...] = ()
    scores: tuple[float, ...] = ()
    """The candidates' summed scores, endpoint first, then the fallbacks in their order."""


class Filter(Protocol):
    """Leaves out endpoints that must not serve the request."""

    def filter(self, request: Request, endpoints: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Return those of `endpoints` that may serve, in their order."""


class Scorer(Protocol):
    """Says how good each endpoint is for the request."""

    def score(self, request: Request, endpoints: Sequence[Endpoint]) -> list[float]:
        """Return one score in [0, 1] per endpoint, in their order."""


class Picker(Protocol):
    """Orders the candidates by their summed scores."""

    def pick(
        self, scores: Sequence[float], endpoints: Sequence[Endpoint], rng: Random
    ) -> Sequence[int]:
        """Return indexes into `endpoints`, the chosen one first."""
