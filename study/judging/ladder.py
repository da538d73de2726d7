"""A rollout as a judge sees it: a ladder of weights, climbed on a pass, left on a fail."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from judging.traffic import BEFORE_S, Traffic, World
from tidegate.judge.block import Block
from tidegate.judge.ledger import Claim, Ledger, Step
from tidegate.judge.metrics import Settings
from tidegate.judge.verdict import decide
from tidegate.rollout.plan import floor_of

LADDER = (5, 10, 25, 50)
"""Of the preset `canary`, below 100 %."""
LEAST_STEP_S = 300.0


def preset(rate: float) -> tuple[int, ...]:
    """Return the ladder that a rollout climbs by default at `rate` requests a second."""
    return tuple(weight for weight in LADDER if weight >= floor_of(rate))


@dataclass(frozen=True)
class Run:
    """How a rollout ended."""

    outcome: str
    """completed, aborted or inconclusive."""
    minutes: float
    weight: int
    exposed: int
    """Requests that the canary had by then."""
    why: str = ""


class Judge(Protocol):
    """Anything that says pass, fail or continue."""

    def enter(self, at: float, weight: int, *, last: bool) -> None: ...

    def look(self, blocks: list[Block], now: float) -> tuple[str, str]:
        """Return the outcome and what it is because of."""
        ...


class Ours:
    """The judge of this product."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.ledger = Ledger(settings or Settings(), "stable", "canary")

    def enter(self, at: float, weight: int, *, last: bool) -> None:
        claim: Claim = "margin" if last else "gross"
        self.ledger.enter(Step(at, weight, claim))

    def look(self, blocks: list[Block], now: float) -> tuple[str, str]:
        self.ledger.absorb(blocks)
        self.ledger.advance(now)
        if not self.ledger.steps:
            return "continue", ""
        verdict = decide(self.ledger, now, details=False)
        if verdict.outcome != "fail":
            return verdict.outcome, verdict.waits_for
        if verdict.reason == "Tripwire":
            return "fail", "tripwire"
        failed = [each.metric for each in verdict.findings if each.outcome == "fail"]
        return "fail", failed[0]


def climb(
    world: World, rng: np.random.Generator, judge: Judge, ladder: tuple[int, ...] = ()
) -> Run:
    """Run one rollout of `world`, by default up the preset's ladder."""
    ladder = ladder or preset(world.rate)
    traffic = Traffic(world, rng)
    first = int(BEFORE_S / world.span_s)
    at, since, exposed, because = -1, 0.0, 0, ""
    for index in range(int(traffic.duration / world.span_s)):
        now = (index + 1) * world.span_s
        if index == first:
            at, since = 0, index * world.span_s
            judge.enter(since, ladder[0], last=len(ladder) == 1)
        weight = ladder[at] if at >= 0 else 0
        blocks = traffic.blocks(index, weight / 100)
        exposed += sum(each.requests for each in blocks if each.place.arm == "canary")
        outcome, because = judge.look(blocks, now)
        minutes = (now - BEFORE_S) / 60
        if outcome == "fail":
            return Run("aborted", minutes, weight, exposed, because)
        if at < 0 or outcome != "pass" or now - since < LEAST_STEP_S:
            continue
        if at == len(ladder) - 1:
            return Run("completed", minutes, weight, exposed)
        at, since = at + 1, now
        judge.enter(now, ladder[at], last=at == len(ladder) - 1)
    return Run("inconclusive", world.hours * 60, weight, exposed, because)
