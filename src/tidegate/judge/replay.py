"""Testing the judge on one's own traffic: recorded requests, dealt anew to two arms.

Sessions are dealt at random, so both arms come from the same requests: every fail is a false
alarm. Or a harm is done to the canary's requests, and every pass is a miss. Time is that of
the records; the caller gives the chance.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from random import Random
from statistics import median

import msgspec

from tidegate.judge.block import Folder
from tidegate.judge.ledger import Claim, Ledger, Step
from tidegate.judge.metrics import Settings
from tidegate.judge.record import Record
from tidegate.judge.verdict import Verdict, decide


@dataclass(frozen=True, slots=True)
class Injection:
    """Harm for the canary's requests. The default does none."""

    ttft: float = 1.0
    """Times to the first byte are multiplied by this."""
    itl: float = 1.0
    errors: float = 0.0
    """This share of the requests fails with 500."""

    @property
    def harmless(self) -> bool:
        """Whether it does nothing."""
        return self == Injection()


@dataclass(frozen=True, slots=True)
class Trial:
    """One replay."""

    outcome: str
    """`completed`, `aborted` or `inconclusive`."""
    minutes: float
    """From the first step to the verdict."""
    weight: int
    exposed: int
    """Requests that the canary had by then."""
    reason: str
    """The metric that failed, or that was waited for."""


@dataclass(frozen=True, slots=True)
class Report:
    """All replays."""

    injection: Injection
    trials: tuple[Trial, ...]

    @property
    def wrong(self) -> str:
        """The outcome that is a mistake."""
        return "aborted" if self.injection.harmless else "completed"

    def share(self, outcome: str) -> float:
        """Return the share of trials that ended so."""
        return sum(each.outcome == outcome for each in self.trials) / max(1, len(self.trials))

    def tell(self) -> str:
        """Return it as a person would say it."""
        lines = [f"{len(self.trials)} replays, {_spell(self.injection)}:"]
        for outcome in ("completed", "aborted", "inconclusive"):
            ended = [each for each in self.trials if each.outcome == outcome]
            if ended:
                minutes = median(each.minutes for each in ended)
                exposed = median(each.exposed for each in ended)
                lines.append(
                    f"  {outcome:<12} {self.share(outcome):>6.1%}, after {minutes:.0f} minutes"
                    f" and {exposed:,.0f} requests of the canary (medians)"
                )
        reasons = Counter(each.reason for each in self.trials if each.outcome == "aborted")
        lines += [f"    {count} by {reason}" for reason, count in reasons.most_common(5)]
        name = "false aborts" if self.injection.harmless else "false passes"
        return "\n".join([*lines, f"  {name}: {self.share(self.wrong):.1%}"])


def _spell(injection: Injection) -> str:
    if injection.harmless:
        return "the canary being the stable"
    done = [
        f"TTFT x{injection.ttft:g}" * (injection.ttft != 1),
        f"inter-token x{injection.itl:g}" * (injection.itl != 1),
        f"{injection.errors:.1%} errors" * (injection.errors > 0),
    ]
    return "with " + ", ".join(each for each in done if each)


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """The rollout that is replayed. Times in seconds."""

    settings: Settings = Settings()
    weights: tuple[int, ...] = (10,)
    """The steps, in percent; at the last, the margins must be shown."""
    injection: Injection = Injection()
    span_s: float = 10.0
    """Of a block."""
    least_step_s: float = 300.0
    """What a step lasts at least."""
    warm_up_s: float = 600.0
    """Of the records, before the first step: the stable alone."""


def replay(
    records: Sequence[Record], rng: Random, setup: Setup, *, trials: int = 20
) -> Iterator[Trial]:
    """Yield how `trials` rollouts over the records would have ended, one after the other.

    Args:
        records: In any order; their arms don't matter. Those that never met an endpoint are
            left out.
        rng: Deals the sessions, and draws the errors.
        setup: The rollout.
        trials: How often to deal.

    """
    met = sorted((each for each in records if each.endpoint), key=lambda each: each.started_at)
    for _ in range(trials if met else 0):
        yield _Trial(met, rng, setup).run()


class _Trial:
    def __init__(self, records: Sequence[Record], rng: Random, setup: Setup) -> None:
        self._records = records
        self._setup = setup
        self._dealer = _Dealer(rng, setup.injection)
        self._ledger = Ledger(setup.settings, "stable", "canary")
        self._begin = records[0].started_at + setup.warm_up_s
        self._at = -1
        self._since = self._begin

    def run(self) -> Trial:
        """Return how it ends."""
        setup, ledger, exposed, verdict = self._setup, self._ledger, 0, None
        for now, folder, fresh in _play(self._records, setup, self._dealer):
            exposed += fresh
            ledger.absorb(folder.take())
            ledger.advance(now)
            if now < self._begin:
                continue
            verdict = decide(ledger, now, details=False) if self._at >= 0 else None
            if verdict is not None and verdict.outcome == "fail":
                return self._ended("aborted", now, exposed, verdict)
            if verdict is None or (
                verdict.outcome == "pass" and now - self._since >= setup.least_step_s
            ):
                if self._at == len(setup.weights) - 1:
                    return self._ended("completed", now, exposed, verdict)
                self._climb(now)
        return self._ended("inconclusive", self._records[-1].started_at, exposed, verdict)

    def _climb(self, now: float) -> None:
        weights = self._setup.weights
        self._at, self._since = self._at + 1, now
        self._dealer.weight = weights[self._at] / 100
        claim: Claim = "margin" if self._at == len(weights) - 1 else "gross"
        self._ledger.enter(Step(now, weights[self._at], claim))

    def _ended(self, outcome: str, now: float, exposed: int, verdict: Verdict | None) -> Trial:
        minutes = max(0.0, now - self._begin) / 60
        reason = _reason(verdict) if verdict is not None else ""
        return Trial(outcome, minutes, self._setup.weights[max(self._at, 0)], exposed, reason)


def _reason(verdict: Verdict) -> str:
    """Return what a verdict is because of: a metric's label."""
    if verdict.reason == "Tripwire":
        return "the tripwire"
    return verdict.waits_for or verdict.message.partition(":")[0]


class _Dealer:
    """Gives records to arms: a session keeps its place, and moves only when weights do."""

    def __init__(self, rng: Random, injection: Injection) -> None:
        self.weight = 0.0
        self._rng = rng
        self._injection = injection
        self._points: dict[int, float] = {}

    def deal(self, record: Record) -> Record:
        """Return a copy with an arm, harmed if that is the canary."""
        record = copy(record)
        record.route, record.rule, record.noted = "", "", 0
        point = self._rng.random()
        if record.session:
            point = self._points.setdefault(record.session, point)
        record.arm = "canary" if point < self.weight else "stable"
        return self._harm(record) if record.arm == "canary" else record

    def _harm(self, record: Record) -> Record:
        harm = self._injection
        if harm.errors and self._rng.random() < harm.errors:
            return Record(
                started_at=record.started_at,
                arm=record.arm,
                session=record.session,
                request_bytes=record.request_bytes,
                prompt_tokens=record.prompt_tokens,
                status=500,
                duration_s=0.01,
            )
        if record.ttft_s is not None:
            record.duration_s += record.ttft_s * (harm.ttft - 1)
            record.ttft_s *= harm.ttft
        record.duration_s += record.itl_sum_s * (harm.itl - 1)
        record.itl_sum_s *= harm.itl
        return record


def _play(
    records: Sequence[Record], setup: Setup, dealer: _Dealer
) -> Iterator[tuple[float, Folder, int]]:
    """Yield each span's end, what a worker has folded by then, and the canary's new requests."""
    span_s = setup.span_s
    folder = Folder(span_s=span_s, deadline_s=setup.settings.deadline_s)
    running: list[Record] = []
    now = records[0].started_at // span_s * span_s
    index = 0
    while index < len(records) or running:
        now += span_s
        fresh = 0
        while index < len(records) and records[index].started_at < now:
            dealt = dealer.deal(records[index])
            running.append(dealt)
            fresh += dealt.arm == "canary"
            index += 1
        still: list[Record] = []
        for each in running:
            if each.started_at + each.duration_s <= now:
                folder.fold(each)
            else:
                still.append(each)
        running = still
        # Their ends are known already, so only what has been by now may be shown.
        for each in running:
            _show(each, folder, now)
        yield now, folder, fresh


def _show(record: Record, folder: Folder, now: float) -> None:
    """Have `folder` look at a running record as it was at `now`."""
    first = record.ttft_s
    if first is not None and record.started_at + first > now:
        record.ttft_s = None
    folder.look((record,), now)
    record.ttft_s = first
