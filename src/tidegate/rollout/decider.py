"""The simple decider behind the verdict seam: a tripwire on errors, else time and counts.

No data holds and never fails. The judge fills the same seam with statistics.
"""

from dataclasses import dataclass
from typing import Final

from tidegate.api.rollout import Evidence
from tidegate.rollout.events import Outcome, Verdict
from tidegate.rollout.state import State

TRIP_ERRORS: Final = 10
TRIP_SHARE: Final = 0.2
TRIP_SESSIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Counts:
    """What one arm did in a span of time."""

    requests: int = 0
    errors: int = 0
    """Answers of 5xx, broken streams, timeouts; and 404 for a model that the stable serves."""
    sessions: int = 0
    """Sessions that had an error."""

    @property
    def error_share(self) -> float:
        """Errors per request; 0 without any."""
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Both arms in the same span of time."""

    canary: Counts = Counts()
    stable: Counts = Counts()


def decide(state: State, *, recent: Tally, epoch: Tally, now: float) -> Verdict:
    """Return what is to be said of the canary at `now`.

    Args:
        state: As it was when the tallies were taken.
        recent: The last 60 seconds.
        epoch: Since the state's epoch began.
        now: Seconds since the epoch.

    """
    evidence = (_errors(epoch, "continue"),)
    if _trips(recent):
        bad, base = recent.canary, recent.stable
        message = (
            f"{bad.errors} of {bad.requests} requests of the canary failed in a minute,"
            f" {base.errors} of {base.requests} of the stable"
        )
        return _verdict(state, "fail", "ErrorTripwire", message, (_errors(recent, "fail"),))
    step = state.current
    wanted_s = step.duration_s or 0.0 if step is not None else 0.0
    waited_s = state.waited_s(now)
    if epoch.canary.requests < state.plan.min_requests:
        message = (
            f"the canary has answered {epoch.canary.requests} requests,"
            f" {state.plan.min_requests} are needed"
        )
        return _verdict(state, "continue", "TooFewRequests", message, evidence)
    if waited_s < wanted_s:
        message = f"{wanted_s - waited_s:.0f} s of {wanted_s:.0f} s are left"
        return _verdict(state, "continue", "TooEarly", message, evidence)
    message = f"{epoch.canary.requests} requests of the canary, {epoch.canary.errors} failed"
    return _verdict(state, "pass", "NoTripwire", message, (_errors(epoch, "pass"),))


def _trips(recent: Tally) -> bool:
    """Whether the canary fails so much that no statistics are needed.

    The stable of the same minute must be clearly better: what hits both is not the canary's.
    """
    bad = recent.canary
    return (
        bad.errors >= TRIP_ERRORS
        and bad.sessions >= TRIP_SESSIONS
        and bad.error_share >= TRIP_SHARE
        and bad.error_share >= 2 * recent.stable.error_share
    )


def _errors(tally: Tally, outcome: Outcome) -> Evidence:
    bad, base = tally.canary, tally.stable
    return Evidence(
        metric="errors",
        outcome=outcome,
        message=f"canary {bad.errors}/{bad.requests}, stable {base.errors}/{base.requests}",
        canary=round(bad.error_share, 4),
        stable=round(base.error_share, 4),
        requests=bad.requests,
    )


def _verdict(
    state: State, outcome: Outcome, reason: str, message: str, evidence: tuple[Evidence, ...]
) -> Verdict:
    return Verdict(
        outcome=outcome,
        run=state.run,
        epoch=state.epoch,
        reason=reason,
        message=message,
        evidence=evidence,
    )
