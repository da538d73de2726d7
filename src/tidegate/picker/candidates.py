"""The plugin seam: what filters, scorers and pickers take and give.

A plugin is a value: a frozen struct whose fields are its parameters. It does no I/O, reads no
clock and keeps no state: that belongs to the pool, and stands there in vectors. A plugin sees
one request and the candidates that are left, and answers with a vector in their order.
"""

from random import Random
from typing import ClassVar, Protocol

import numpy as np

from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.vectors import Flags, Slots, Vector


class Candidates:
    """Who may still serve a request. `pool.VECTOR[candidates.at]` are their numbers."""

    __slots__ = ("_matched", "at", "count", "pool", "request")

    def __init__(self, pool: Pool, request: Request) -> None:
        """Begin with all endpoints of `pool`."""
        self.pool = pool
        self.request = request
        self.at: Slots = pool.at
        """Their slots."""
        self.count = pool.size
        self._matched: Vector | None = None

    def narrow(self, keep: Flags) -> None:
        """Leave those where `keep`, which stands in their order, is true."""
        self.at = self.pool.narrow(self.at, keep)
        self.count = len(self.at)

    @property
    def matched(self) -> Vector:
        """Tokens of the prompt in each slot's prefix cache; shape (slots,). Worked out once."""
        if self._matched is None:
            prefix = self.pool.prefix
            chain = self.request.chain
            if prefix is None:
                self._matched = np.zeros(len(self.pool.endpoints))
            else:
                self._matched = prefix.match(chain)
        return self._matched

    @property
    def compute(self) -> Vector:
        """Tokens of the prompt that each candidate would have to compute."""
        left: Vector = self.request.prompt - self.matched[self.at]
        # A prompt is never cached whole: its last token is computed for the first of the answer.
        return np.maximum(left, 1.0, out=left)


class Filter(Protocol):
    """Leaves out endpoints that must not serve the request."""

    reason: ClassVar[str]
    """CamelCase; what the client is told where the filter leaves nobody. '' if it never does."""

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return who may serve, in the candidates' order; None if all may."""


class Scorer(Protocol):
    """Says how good each endpoint is for the request."""

    def score(self, candidates: Candidates) -> Vector:
        """Return one score in [0, 1] for each candidate, in their order."""


class Picker(Protocol):
    """Chooses by the candidates' summed scores."""

    def pick(self, totals: Vector, rng: Random) -> int:
        """Return an index into `totals`, which has at least one."""
