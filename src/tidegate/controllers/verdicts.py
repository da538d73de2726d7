"""What is said of the canary at each look: the seam between the counts and the reducer.

The judge's sequential tests may fail a canary at any time; the simple decider says when a step
has lasted long enough and seen enough. In a shadow, pairs are what is counted.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from msgspec import structs

from tidegate.controllers.case import Case
from tidegate.controllers.trail import Trail
from tidegate.judge import verdict as judge
from tidegate.judge.ledger import Claim, Ledger, Step
from tidegate.judge.metrics import BRISK, Settings
from tidegate.judge.pairs import SHADOW, Paired
from tidegate.rollout.decider import decide
from tidegate.rollout.events import Verdict
from tidegate.rollout.plan import Plan
from tidegate.rollout.state import State

RECENT_S: Final = 60.0
SHORT_S: Final = 60.0
"""Steps that are shorter are a demo's."""
MEASURED: Final = 20
FAR_OFF: Final = 1.5
"""A median that is so many times the stable's is looked at until the tests have decided."""
DETAILS_S: Final = 2.0
"""Numbers and sentences are made so often; whether something failed is asked at each look."""
_DIFFERS: Final = Paired(name="differs", label="answers that differ, in pairs", margin=0.1)


class Decider:
    """One run of one rollout, judged."""

    def __init__(self, state: State, trail: Trail) -> None:
        self.run = state.run
        self.trail = trail
        self._ledger = Ledger(settings_of(state.plan), trail.stable, trail.canary, trail.scope)
        self._epoch = -1
        self._detailed_at = 0.0
        self._doubts: list[str] = []
        """What looks bad, though nothing is proven yet: no step passes meanwhile."""
        for step in _past(state):
            self._ledger.enter(step)

    def verdict(self, case: Case, now: float) -> Verdict:
        """Return the verdict of this look."""
        state = case.state
        self._enter(case)
        ledger = self._ledger
        ledger.absorb(self.trail.take())
        ledger.pairs = self.trail.pairs
        ledger.advance(now)
        details = now - self._detailed_at >= DETAILS_S
        if details:
            self._detailed_at = now
        found = judge.decide(ledger, now, details=details)
        if found.outcome == "fail" and case.forgiven < ledger.steps[-1].at:
            return Verdict(
                outcome="fail",
                run=state.run,
                epoch=state.epoch,
                reason=found.reason,
                message=found.message,
                evidence=found.evidence,
            )
        simple = self._simple(case, now)
        evidence = found.evidence if details else state.evidence
        if simple.outcome == "fail":
            return simple
        if details:
            self._doubts = [each.label for each in found.findings if _is_doubtful(each)]
        if self._doubts and simple.outcome == "pass":
            message = f"{', '.join(self._doubts)}: worse so far, but not for certain"
            simple = replace(simple, outcome="continue", reason="Suspect", message=message)
        return replace(simple, evidence=evidence)

    def _enter(self, case: Case) -> None:
        """Note that a step began, once all workers have its weight."""
        state = case.state
        if state.epoch == self._epoch or case.epoch != state.epoch or not case.settled:
            return
        self._epoch = state.epoch
        self._ledger.enter(Step(case.epoch_since, state.effective, _claim(state)))

    def _simple(self, case: Case, now: float) -> Verdict:
        state, trail = case.state, self.trail
        recent = trail.tally(max(now - RECENT_S, case.forgiven, state.run_since))
        epoch = trail.tally(case.epoch_since)
        if state.current is not None and state.current.kind == "Shadow":
            epoch = replace(epoch, canary=replace(epoch.canary, requests=trail.paired()))
        return decide(state, recent=recent, epoch=epoch, now=now)


def _claim(state: State) -> Claim:
    if state.current is not None and state.current.kind == "Shadow":
        return "pairs"
    return "watch" if state.effective in (0, 100) else "margin"


def _is_doubtful(finding: judge.Finding) -> bool:
    if finding.role != "required":
        return False
    canary, stable = finding.canary, finding.stable
    if canary is None or stable is None or finding.requests < MEASURED:
        return finding.suspect
    return finding.suspect or (finding.metric.endswith("_p50") and canary > FAR_OFF * stable)


def settings_of(plan: Plan) -> Settings:
    """Return how a plan's canary is judged; short steps are a demo's."""
    durations = [each.duration_s for each in plan.steps if each.kind in ("Analyze", "Shadow")]
    shortest = min((each for each in durations if each), default=300.0)
    # Another base model may well say other things: people look, the rollout goes on.
    differs = _DIFFERS if plan.type == "Node" else structs.replace(_DIFFERS, role="informative")
    settings = BRISK if shortest < SHORT_S else Settings()
    return structs.replace(settings, paired=(*SHADOW, differs))


def _past(state: State) -> Iterator[Step]:
    """Yield the weights of this run so far, as its history tells."""
    weight = -1
    for entry in state.history:
        at = datetime.fromisoformat(entry.time).timestamp()
        if at >= state.run_since - 1 and entry.weight != weight:
            weight = entry.weight
            yield Step(at, weight, "watch" if weight in (0, 100) else "margin")
