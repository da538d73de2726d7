"""What the controller remembers of one rollout between two looks, beside what is persisted.

All of it can be lost: the state is restored from the status, counts from the disk, and what
was under way is begun again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec.structs import replace

from tidegate.controllers.jobs import Jobs
from tidegate.controllers.trail import Trail
from tidegate.judge.block import scope_of
from tidegate.rollout.events import Event
from tidegate.rollout.state import State

ADOPT_S: Final = 1.0
"""After a weight was seen in the API, all workers have it by then."""
REFRESH_S: Final = 2.0
"""Numbers that nothing hangs on are written that often."""


@dataclass(slots=True)
class Case:
    """One rollout under our eyes."""

    uid: str
    state: State
    persisted: State
    """The state as it was last written."""
    written: Mapping[str, Any]
    """The status as it was last written, as plain data."""
    written_at: float = 0.0
    trail: Trail | None = None
    jobs: Jobs | None = None
    inbox: list[Event] = field(default_factory=list)
    """What jobs brought since the last look."""
    epoch: int = -1
    epoch_since: float = math.inf
    """When all workers had the epoch's weight."""
    at: tuple[int, int] | None = None
    at_since: float = math.inf
    """When all workers had the target's weights as they are now."""
    down_since: float | None = None
    """Since when the canary has had no ready endpoint, while the stable has."""
    asked: dict[str, float] = field(default_factory=dict)
    """When each metric of people's own was asked for."""

    def note(self, now: float) -> None:
        """Keep the times that hang on the state as it is now."""
        state = self.state
        if state.epoch != self.epoch:
            self.epoch, self.epoch_since = state.epoch, math.inf
        if not state.confirmed:
            self.epoch_since = math.inf
        elif math.isinf(self.epoch_since):
            self.epoch_since = math.ceil(now + ADOPT_S)
        if state.at != self.at or math.isinf(self.at_since):
            self.at, self.at_since = state.at, now + ADOPT_S

    @property
    def settled(self) -> bool:
        """Whether the workers have the present weight, as far as can be told."""
        return not math.isinf(self.epoch_since)

    def to_write(self, now: float) -> bool:
        """Whether the state must be persisted before anything else is done."""
        if self.state == self.persisted:
            return False
        return _weighty(self.state) != _weighty(self.persisted) or (
            now - self.written_at >= REFRESH_S
        )


def _weighty(state: State) -> State:
    """Return the state without what only people look at."""
    return replace(
        state,
        evidence=(),
        waiting="",
        observed=None,
        cap=None,
        cap_message="",
        stable_cap=None,
        generation=0,
        announced=0,
    )


def trail_of(state: State, namespace: str) -> Trail | None:
    """Return an empty trail for a state's target and sides; None without a target."""
    kind, _, rest = state.target.partition("/")
    if not rest:
        return None
    name, _, rule = rest.partition("/")
    plan = state.plan
    if kind == "HTTPRoute":
        return Trail(scope_of(f"{namespace}/{name}", rule), plan.stable, plan.canary)
    return Trail(scope_of(f"{namespace}/{state.target}", ""), plan.stable, plan.canary)
