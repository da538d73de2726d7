"""Where a rollout is: all that is remembered from one look to the next.

`stage` is how far it has come, `holds` are the reasons why it stands still there; what people
see as the phase is made of both. The state is encoded as it is (`status.memory`).
"""

from typing import Final, Literal

from tidegate.api.meta import Model
from tidegate.api.rollout import Evidence, FindingStatus, HistoryEntry, Phase
from tidegate.rollout.plan import Plan, PlanStep

Stage = Literal[
    "Pending",
    "Preflight",
    "Warming",
    "Progressing",
    "Baking",
    "Draining",
    "Completed",
    "Aborting",
    "Aborted",
    "RollingBack",
    "RolledBack",
]

OVER: Final[frozenset[Stage]] = frozenset(("Completed", "Aborted", "RolledBack"))
"""Stages that only a new spec or an undo leaves."""
BACKWARD: Final[frozenset[Stage]] = frozenset(("Aborting", "RollingBack"))
"""Stages in which everything goes back; nothing holds them up."""
MOVING: Final[frozenset[Stage]] = frozenset(("Warming", "Progressing", "Baking", "Draining"))
"""Stages in which the canary may have traffic and the weights are ours."""
BEFORE: Final[frozenset[Stage]] = frozenset(("Pending", "Preflight"))
"""Stages in which nothing has been touched."""

HoldReason = Literal[
    "Paused",
    "PauseStep",
    "Inconclusive",
    "Failed",
    "MaxDuration",
    "WeightsNotHonoured",
    "ForeignEdit",
    "GateClosed",
    "PreflightFailed",
    "StableDeleting",
    "StableReduced",
    "TargetUnusable",
]

STICKY: Final[frozenset[HoldReason]] = frozenset(
    ("PauseStep", "Inconclusive", "Failed", "MaxDuration", "WeightsNotHonoured")
)
"""Holds that stay until somebody promotes; the others go with their cause."""
OVERRIDABLE: Final[frozenset[HoldReason]] = frozenset(("StableDeleting", "StableReduced"))
"""Holds with a lasting cause that a promote sets aside."""


class Hold(Model, frozen=True, kw_only=True):
    """A reason to stand still."""

    reason: HoldReason
    message: str
    """A sentence for people."""


class State(Model, frozen=True, kw_only=True):
    """One rollout's state. Times are seconds since the epoch, weights percent."""

    uid: str = ""
    """Of the rollout: the salt of its split, and part of the names of its one-shot effects."""
    generation: int = 0
    """Of the spec that was last seen."""
    run: int = 0
    """Counts the plans that were started; verdicts of earlier runs are void."""
    plan: Plan = Plan()
    stage: Stage = "Pending"
    stage_since: float = 0.0
    reason: str = ""
    """Why it came to this stage, in CamelCase."""
    why: str = ""
    """The same in a sentence."""
    step: int = 0
    """Index into the plan's steps; their number once all are done."""
    step_since: float = 0.0
    run_since: float = 0.0
    """When the run began; `maxDuration` counts from here."""
    holds: tuple[Hold, ...] = ()
    held_since: float | None = None
    begun: bool = False
    """Preflight was passed in this run: the weights are ours."""
    floor: int = 0
    """Weights below this are passed over: the traffic is too thin for them."""
    desired: int = 0
    effective: int = 0
    cap: int | None = None
    """What the canary can carry; None while nobody has measured it."""
    cap_message: str = ""
    stable_cap: int | None = None
    observed: float | None = None
    epoch: int = 0
    """Counts effective weights and steps: a pass is only good for its own."""
    passed: int | None = None
    """The epoch that was judged good."""
    warm: bool = False
    """The current step's warm-up is done."""
    target: str = ""
    """`HTTPRoute/name/rule`."""
    total: int = 100
    """Sum of both sides' weights in the target, from beginning to end."""
    original: tuple[int, int] = (0, 0)
    """The target's weights before the rollout: stable, canary."""
    known: tuple[tuple[int, int], ...] = ()
    """Weights (stable, canary) of which we know: what was there, and what we wanted since."""
    foreign: tuple[int, int] | None = None
    """Weights that somebody else set."""
    at: tuple[int, int] | None = None
    """The target's weights (stable, canary) when it was last looked at."""
    stable_baseline: int | None = None
    """Ready endpoints of the stable when it carried everything."""
    stable_replicas: int | None = None
    """The stable's replicas before it was scaled down."""
    canary_down: bool = False
    """The canary has no ready endpoint."""
    owner: str = ""
    """Another rollout that has the target's rule."""
    problem: str = ""
    """Why the target can't be used."""
    target_gone: bool = False
    """The target can't send anything to the canary."""
    drained: bool = False
    """The stable has no request left."""
    loads: bool = False
    """The canary's adapter came to the servers by us, so it leaves them if it fails."""
    rebound: tuple[str, ...] = ()
    """`Kind/name` of the objects that we bound to the canary's pool."""
    cleaned: bool = False
    """After the end: all that is left to do was done."""
    paused: bool = False
    promoted: str | None = None
    """The last promote that was seen."""
    full: bool = False
    """All steps are to be skipped."""
    undo: bool = False
    deleting: bool = False
    forgiven_at: float = 0.0
    """When people said to go on in spite of a failure: what was before doesn't fail it again."""
    overridden: tuple[HoldReason, ...] = ()
    opened: tuple[str, ...] = ()
    """The gates that were opened: `BeforeIncrease/2`."""
    checked: bool = False
    """Preflight has passed, waived findings aside."""
    loadable: bool = False
    """All that is missing before the canary's adapter may be loaded is that adapter."""
    findings: tuple[FindingStatus, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    waiting: str = ""
    """What the last verdict of this epoch waits for, in a sentence."""
    shown: str = ""
    """What the last verdict that let a step pass has shown, in a sentence."""
    history: tuple[HistoryEntry, ...] = ()
    """The last changes, oldest first."""
    transition: int = 0
    """Number of the last change."""
    announced: int = 0
    """Number of the last change that was announced."""

    @property
    def phase(self) -> Phase:
        """What people see."""
        return "Paused" if self.held else self.stage

    @property
    def held(self) -> bool:
        """Whether it stands still; on the way back and after the end nothing holds."""
        return bool(self.holds) and self.stage not in OVER | BACKWARD

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.stage in OVER

    @property
    def current(self) -> PlanStep | None:
        """The step that it is at; None when all are done."""
        return self.plan.steps[self.step] if self.step < len(self.plan.steps) else None

    @property
    def confirmed(self) -> bool:
        """Whether the target was seen to have the effective weight."""
        return self.at == self.units(self.effective)

    @property
    def given_back(self) -> bool:
        """Whether the target was seen to send nothing to the canary."""
        return self.target_gone or self.at == self.units(0)

    def held_for(self, reason: HoldReason) -> Hold | None:
        """Return the hold with this reason, if there is one."""
        return next((hold for hold in self.holds if hold.reason == reason), None)

    def units(self, percent: int) -> tuple[int, int]:
        """Return the target's weights (stable, canary) for a canary's share."""
        canary = percent * self.total // 100
        return self.total - canary, canary

    def waited_s(self, now: float) -> float:
        """Return how long the current step has lasted at `now`, holds left out."""
        end = now if self.held_since is None else min(now, self.held_since)
        return max(0.0, end - self.step_since)
