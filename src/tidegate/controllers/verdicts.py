"""What is said of the canary at each look: the seam between the counts and the reducer.

The judge decides. It may fail the canary at any time; a step passes once it has lasted as long
and seen as many requests as the spec asks for, and the judge has shown what the step must show.
Where the spec is content with `NotWorse`, the first two are enough, as long as nothing looks bad.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from tidegate.controllers.case import Case
from tidegate.controllers.trail import Trail
from tidegate.judge import verdict as judge
from tidegate.judge.ledger import Claim, Ledger, Step
from tidegate.rollout.decider import decide
from tidegate.rollout.events import Verdict
from tidegate.rollout.judged import claim_at, is_brisk, settings_of
from tidegate.rollout.state import State

RECENT_S: Final = 60.0
MEASURED: Final = 20
FAR_OFF: Final = 1.5
"""A median that is so many times the stable's is looked at until the tests have decided."""
DETAILS_S: Final = 10.0
DEMO_DETAILS_S: Final = 2.0
"""Numbers and sentences are made so often; whether something failed is asked at each look."""


class Decider:
    """One run of one rollout, judged by what came after the last failure that was forgiven."""

    def __init__(self, state: State, trail: Trail) -> None:
        self.run = state.run
        self.trail = trail
        since = self.since = state.forgiven_at
        self._ledger = Ledger(settings_of(state.plan), trail.stable, trail.canary, trail.scope)
        self._epoch = -1
        self._details_s = DEMO_DETAILS_S if is_brisk(state.plan) else DETAILS_S
        self._detailed_at = 0.0
        self._waiting = ""
        self._doubts: list[str] = []
        """What looks bad, though nothing is proven yet."""
        for step in _past(state):
            if step.at >= since:
                self._ledger.enter(step)
        self._ledger.absorb(trail.take_all())

    def verdict(self, case: Case, now: float) -> Verdict:
        """Return the verdict of this look."""
        state = case.state
        self._enter(case)
        details = now - self._detailed_at >= self._details_s
        found = self._judge(now, details=details)
        if found.outcome == "fail":
            return Verdict(
                outcome="fail",
                run=state.run,
                epoch=state.epoch,
                reason=found.reason,
                message=found.message,
                evidence=found.evidence,
            )
        simple = self._simple(case, now)
        if simple.outcome == "fail":
            return simple
        evidence = found.evidence if details else state.evidence
        if simple.outcome == "pass":
            simple = self._doubted(state, simple, found)
        return replace(simple, evidence=evidence)

    def _judge(self, now: float, *, details: bool) -> judge.Verdict:
        ledger = self._ledger
        ledger.absorb(self.trail.take())
        ledger.pairs = self.trail.pairs
        ledger.latest, ledger.unknown = self.trail.latest, self.trail.unknown
        ledger.advance(now)
        found = judge.decide(ledger, now, details=details)
        if found.outcome == "fail" and not details:
            # The last verdict is what people will look at: with all its numbers.
            found = judge.decide(ledger, now)
        if details:
            self._detailed_at = now
            self._waiting = found.message
            self._doubts = [each.label for each in found.findings if _is_doubtful(each)]
        return found

    def _doubted(self, state: State, simple: Verdict, found: judge.Verdict) -> Verdict:
        """Return `simple`, which is a pass, or what still speaks against it."""
        if state.plan.advance_when == "NotWorse":
            if not self._doubts:
                return simple
            message = f"{', '.join(self._doubts)}: worse so far, but not for certain"
            return replace(simple, outcome="continue", reason="Suspect", message=message)
        current = self._ledger.current
        if current is not None and current.claim == "watch":
            return simple
        if found.outcome == "pass" and self._epoch == state.epoch:
            return replace(simple, reason=found.reason, message=found.message)
        return replace(simple, outcome="continue", reason=found.reason, message=self._waiting)

    def _enter(self, case: Case) -> None:
        """Note that a step began, once all workers have its weight.

        One that goes on with the same weight goes on with the same evidence, so nothing is
        lost when a controller takes over.
        """
        state, steps = case.state, self._ledger.steps
        if state.epoch == self._epoch or case.epoch != state.epoch or not case.settled:
            return
        self._epoch = state.epoch
        claim = _claim(state)
        if not steps or (steps[-1].weight, steps[-1].claim) != (state.effective, claim):
            at = max(case.epoch_since, self.since)
            self._ledger.enter(Step(at, state.effective, claim))

    def _simple(self, case: Case, now: float) -> Verdict:
        state, trail = case.state, self.trail
        recent = trail.recent(max(now - RECENT_S, state.forgiven_at, state.run_since))
        epoch = trail.tally(case.epoch_since)
        if state.current is not None and state.current.kind == "Shadow":
            epoch = replace(epoch, canary=replace(epoch.canary, requests=trail.paired()))
        return decide(state, recent=recent, epoch=epoch, now=now)


def _claim(state: State) -> Claim:
    if state.current is not None and state.current.kind == "Shadow":
        return "pairs"
    return claim_at(state.plan, state.effective)


def _is_doubtful(finding: judge.Finding) -> bool:
    if finding.role != "required":
        return False
    canary, stable = finding.canary, finding.stable
    if canary is None or stable is None or finding.requests < MEASURED:
        return finding.suspect
    return finding.suspect or (finding.metric.endswith("_p50") and canary > FAR_OFF * stable)


def _past(state: State) -> Iterator[Step]:
    """Yield the weights of this run so far, as its history tells."""
    weight = -1
    for entry in state.history:
        at = datetime.fromisoformat(entry.time).timestamp()
        if at >= state.run_since - 1 and entry.weight != weight:
            weight = entry.weight
            yield Step(at, weight, claim_at(state.plan, weight))
