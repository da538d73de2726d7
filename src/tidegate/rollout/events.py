"""What may happen to a rollout. A controller feeds these to `step`, one at a time."""

from dataclasses import dataclass
from typing import Literal

from tidegate.api.rollout import Evidence, FindingStatus
from tidegate.rollout.observed import Observed
from tidegate.rollout.plan import Plan

Outcome = Literal["pass", "fail", "continue", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecSeen:
    """The rollout's spec as it is now: fed first at each look."""

    uid: str
    generation: int
    plan: Plan
    paused: bool = False
    promote: str | None = None
    abort: bool = False
    undo: bool = False
    deleting: bool = False


@dataclass(frozen=True, slots=True)
class WorldSeen:
    """A look at the world."""

    observed: Observed


@dataclass(frozen=True, slots=True)
class Checked:
    """Preflight was run; see `preflight.preflight`."""

    findings: tuple[FindingStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the decider says of the canary. `judge` and `decider` fill this seam."""

    outcome: Outcome
    run: int
    """Of the state that was judged: a fail counts for its run."""
    epoch: int
    """Of the state that was judged: a pass counts for its epoch."""
    reason: str = ""
    """CamelCase."""
    message: str = ""
    """A sentence with numbers."""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """There is a verdict."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class GateAnswered:
    """The hooks of a gate were asked."""

    gate: str
    """As the command had it."""
    opened: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Announced:
    """Changes up to this number are known to the outside."""

    number: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = SpecSeen | WorldSeen | Checked | Judged | GateAnswered | Announced | Tick
