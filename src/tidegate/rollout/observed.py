"""The world as the controller sees it at one moment: what `step` learns and `due` compares.

Everything is a level: no field says what changed, so a look may be missed or repeated.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Weights:
    """Both sides' weights as they stand in the target."""

    stable: int
    canary: int

    @property
    def pair(self) -> tuple[int, int]:
        """(stable, canary)."""
        return self.stable, self.canary


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSeen:
    """The object whose weights move, as a strategy reads it."""

    name: str = ""
    """`HTTPRoute/name/rule`."""
    weights: Weights | None = None
    """None where they can't be read; then `problem` says why."""
    problem: str = ""
    """A sentence with what to mend."""
    total: int = 100
    """The sum that both weights shall have from beginning to end."""
    canary_gone: bool = False
    """The target can't send anything to the canary: there is nothing to take back."""
    writer: str = ""
    """The field manager that wrote the weights last."""
    ours: bool = False
    """Whether that was the rollout controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSeen:
    """One side's pool (of an Adapter, both sides are the same pool)."""

    exists: bool = True
    deleting: bool = False
    held: bool = False
    """It has our finalizer."""
    ready: int | None = None
    """Endpoints that are ready; None if nobody knows yet."""
    in_flight: int | None = None
    """Requests of this side that have not ended, over all workers; None if nobody knows."""
    shared: bool = False
    """Other rules send to it too: what is bound to it and its size stay as they are."""
    replicas: int | None = None
    """What its ModelServers are scaled to, where there are any."""


@dataclass(frozen=True, slots=True)
class Share:
    """What the data plane did, counted in sessions (single requests where they have none)."""

    epoch: int
    """The state's epoch during which it was counted."""
    canary: int
    total: int


@dataclass(frozen=True, slots=True)
class Warmth:
    """Prefix-cache hit rates in [0, 1] of the last minute."""

    canary: float
    stable: float


@dataclass(frozen=True, slots=True)
class Binding:
    """An object that binds one pool (`spec.poolRef`)."""

    kind: Literal["InferenceObjective", "InferenceModelRewrite"]
    name: str
    pool: str

    @property
    def identity(self) -> str:
        """`Kind/name`."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One look at the world."""

    target: TargetSeen = TargetSeen()
    owner: str = ""
    """Another rollout that has the target's rule; this one waits for it. See `claims`."""
    stable: PoolSeen = PoolSeen()
    canary: PoolSeen = PoolSeen()
    finalizer: bool = False
    """The rollout has our finalizer."""
    rate: float | None = None
    """Requests a second that the target's rule has had lately; None if nobody knows yet."""
    cap: int | None = None
    """Percent of today's traffic that the canary can carry; see `capacity`."""
    cap_message: str = ""
    stable_cap: int | None = None
    """The same of the stable, where it is known otherwise than by its ready endpoints."""
    share: Share | None = None
    warmth: Warmth | None = None
    adapters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each ready endpoint of the pool: the adapters that it lists."""
    bindings: tuple[Binding, ...] = ()
    """Objectives and rewrites that are bound to either pool."""
