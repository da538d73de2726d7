"""Whole rollouts in virtual time: simulated servers, sticky split, real reducer, real judge.

Two pools of four servers each serve the same model. The reducer sets weights, sessions go to the
arm that their hash says, requests to the least loaded server of the arm; records are folded,
judged each five seconds, and the verdict goes back to the reducer.
"""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from tidegate.api.rollout import InferenceRolloutSpec
from tidegate.judge.block import Folder
from tidegate.judge.ledger import Ledger, Step, claim_of
from tidegate.judge.metrics import Settings
from tidegate.judge.record import Record
from tidegate.judge.verdict import decide
from tidegate.rollout.commands import HoldRollout, SetWeights
from tidegate.rollout.due import due
from tidegate.rollout.events import Announced, Checked, Judged, SpecSeen, Verdict, WorldSeen
from tidegate.rollout.observed import Observed, PoolSeen, TargetSeen, Warmth, Weights
from tidegate.rollout.plan import Plan, plan_of
from tidegate.rollout.state import OVER, State
from tidegate.rollout.step import step
from tidegate.simulator.fleet import Fleet, Request
from tidegate.simulator.jobs import Job, Pace
from tidegate.simulator.profiles import PROFILES

PROFILE = PROFILES["l4-8b"]
SERVERS = {"stable": (0, 1, 2, 3), "canary": (4, 5, 6, 7)}
EPOCH_S = 1_000_000.0
LOOK_S = 5.0
BEFORE_S = 300.0
LONGEST_S = 3 * 3600.0


@dataclass(frozen=True)
class Ending:
    """How a whole rollout ended."""

    stage: str
    minutes: float
    requests: int
    canary: int
    message: str
    weight: int
    """The greatest that it came to."""


@dataclass
class Whole:
    """One rollout."""

    rng: Random
    rate: float
    slow: float = 1.0
    """TTFT and inter-token times of the canary, times those of the stable."""
    state: State = field(default_factory=State)
    weights: Weights = field(default_factory=lambda: Weights(100, 0))
    finalizer: bool = False

    def __post_init__(self) -> None:
        self.fleet = Fleet([PROFILE] * 8, seed=self.rng.getrandbits(30), scrape_interval_s=1e9)
        for server in SERVERS["canary"]:
            self.fleet.set_pace(server, Pace(ttft=self.slow, itl=self.slow))
        self.folder = Folder(span_s=1.0)
        self.ledger = Ledger(Settings(), "stable", "canary")
        self.running: dict[int, Record] = {}
        self.load = Counter[int]()
        self.count = Counter[str]()
        self.plan = _plan()
        self.epoch = -1
        self.highest = 0

    def run(self) -> Ending:
        """Let it go until it is over."""
        self._arrive()
        self.fleet.run(BEFORE_S)
        began = self.fleet.now
        while self.state.stage not in OVER and self.fleet.now - began < LONGEST_S:
            self.fleet.run(self.fleet.now + LOOK_S)
            self._look(EPOCH_S + self.fleet.now)
        minutes = (self.fleet.now - began) / 60
        total = self.count["stable"] + self.count["canary"]
        why = self.state.why or self.state.reason
        return Ending(self.state.stage, minutes, total, self.count["canary"], why, self.highest)

    # traffic

    def _arrive(self) -> None:
        fleet, rng = self.fleet, self.rng
        session = rng.getrandbits(63) + 1
        for _ in range(min(8, 1 + int(rng.expovariate(0.7)))):
            at = fleet.now + rng.expovariate(1 / 20)
            prompt = min(6000, int(rng.lognormvariate(6, 1)) + 16)
            output = min(500, int(rng.lognormvariate(4.3, 0.7)) + 2)
            fleet.call_at(at, lambda p=prompt, o=output: self._send(session, p, o))
        # A session has 1.98 requests on average.
        fleet.call_at(fleet.now + rng.expovariate(self.rate / 1.98), self._arrive)

    def _send(self, session: int, prompt: int, output: int) -> None:
        digest = blake2b(session.to_bytes(8, "big"), digest_size=8, key=b"rollout").digest()
        point = int.from_bytes(digest, "big") / 2**64
        share = self.weights.canary / (self.weights.stable + self.weights.canary)
        arm = "canary" if point < share else "stable"
        server = min(SERVERS[arm], key=lambda each: (self.load[each], self.rng.random()))
        record = Record(
            started_at=EPOCH_S + self.fleet.now,
            arm=arm,
            session=session,
            prompt_tokens=prompt,
            streamed=True,
            status=200,
        )
        key = id(record)
        self.running[key] = record
        self.load[server] += 1
        self.count[arm] += 1
        self.fleet.submit(
            server,
            Job(prompt, output),
            on_first=lambda request: _note_first(record, request),
            on_end=lambda request: self._ended(key, server, request),
        )

    def _ended(self, key: int, server: int, request: Request) -> None:
        record = self.running.pop(key)
        self.load[server] -= 1
        record.events = record.output_tokens = request.job.output_tokens
        record.duration_s = (request.ended_at or 0.0) - request.submitted_at
        record.itl_sum_s = record.duration_s - (record.ttft_s or 0.0)
        self.folder.fold(record)

    # control

    def _look(self, now: float) -> None:
        self.folder.look(self.running.values(), now)
        self.ledger.absorb(self.folder.take())
        self.ledger.advance(now)
        self._feed(SpecSeen(uid="uid", generation=1, plan=self.plan), now)
        self._feed(WorldSeen(self._seen()), now)
        self._feed(Checked(()), now)
        if self.state.epoch != self.epoch and self.state.effective and self.state.confirmed:
            self.epoch = self.state.epoch
            self._enter(now)
        if self.epoch == self.state.epoch and self.ledger.steps:
            verdict = decide(self.ledger, now, details=False)
            self._feed(
                Judged(
                    Verdict(
                        outcome=verdict.outcome,
                        run=self.state.run,
                        epoch=self.state.epoch,
                        reason=verdict.reason,
                        message=verdict.message,
                    )
                ),
                now,
            )
        self._act(now)

    def _enter(self, now: float) -> None:
        """Tell the ledger of a new weight; steps that keep the weight keep the evidence."""
        steps, weight = self.ledger.steps, self.state.effective
        later = [each.weight for each in self.plan.steps if each.kind == "SetWeight"]
        if not steps or steps[-1].weight != weight:
            self.ledger.enter(Step(now, weight, claim_of(weight, later)))

    def _act(self, now: float) -> None:
        for command in due(self.state, self._seen()):
            if isinstance(command, SetWeights):
                self.weights = Weights(command.stable, command.canary)
                self.highest = max(self.highest, command.canary)
            elif isinstance(command, HoldRollout):
                self.finalizer = True
        self._feed(WorldSeen(self._seen()), now)
        self._feed(Announced(self.state.transition), now)

    def _feed(self, event: object, now: float) -> None:
        self.state = step(self.state, event, now)

    def _seen(self) -> Observed:
        flying = Counter(record.arm for record in self.running.values())
        return Observed(
            target=TargetSeen(name="HTTPRoute/routes/chat", weights=self.weights, ours=True),
            stable=PoolSeen(ready=4, held=True, in_flight=flying["stable"]),
            canary=PoolSeen(ready=4, held=True, in_flight=flying["canary"]),
            finalizer=self.finalizer,
            rate=self.rate,
            warmth=Warmth(1.0, 1.0),
        )


def _note_first(record: Record, request: Request) -> None:
    record.ttft_s = request.ttft_s


def _plan() -> Plan:
    """Return the default plan, but for the times after its last step."""
    return plan_of(InferenceRolloutSpec(stable="stable", canary="canary", bake="1m", drain="1m"))
