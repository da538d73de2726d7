"""The judge's validation study: writes docs/results/judge.json, judge.md and plots.

    python study/judge.py            about twenty minutes on one core
    python study/judge.py --full     five times as many rollouts
    python study/judge.py --jobs 8   on so many cores; the numbers are the same

Seeds are fixed, and nothing was tuned on them: settings were chosen with other seeds.
"""

import argparse
import json
import math
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from dataclasses import asdict, dataclass, replace
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from random import Random
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import perf_counter, process_time

import numpy as np
from judging import engines, plots, report
from judging.ladder import LADDER, Judge, Ours, Run, climb
from judging.rivals import MannWhitney, Threshold
from judging.traffic import BEFORE_S, Traffic, World
from judging.whole import Whole

from tidegate.api.rollout import InferenceRolloutSpec
from tidegate.controllers.case import Case
from tidegate.controllers.rollouts import LOOK_S
from tidegate.controllers.trail import Trail
from tidegate.controllers.verdicts import Decider
from tidegate.judge.block import Folder
from tidegate.judge.ledger import Ledger, Step
from tidegate.judge.metrics import METRICS, Settings
from tidegate.judge.record import Record
from tidegate.rollout.plan import plan_of
from tidegate.rollout.state import State
from tidegate.testing.records import traffic

SEED = 4242
SPAN_S = 10.0
RESULTS = Path(__file__).parents[1] / "docs" / "results"

INDEPENDENT = World()
WORLDS = (
    World("session-clustered", per_session=6, session_sigma=0.5),
    World("drifting", wave=0.4, ramp=2.0),
    World("heavy-tailed", heavy=True),
    World("missing blocks", missing=0.15),
    World("workers restarting", restart=True),
    World("bursty", burst=0.02, burst_times=4.0),
    World("very bursty", burst=0.05, burst_times=8.0),
    World("wandering 10 %", shock=0.1),
    World("wandering 30 %", shock=0.3),
)
"""At 4 requests a second. In the last four each arm has slow spells of its own."""

FOR_EVER = 1e6
"""Times the usual TTFT: longer than anybody waits."""


@dataclass(frozen=True)
class Row:
    """What came of one scenario."""

    group: str
    name: str
    judge: str
    rate: float
    runs: int
    aborted: int
    completed: int
    minutes: float
    """Median of all runs, inconclusive ones at their end."""
    slow_minutes: float
    """What nine of ten needed at most."""
    exposed: float
    """Canary requests until the end, median."""
    early: int
    """Aborted below a weight of 25 %."""
    within_twenty: int
    """Aborted within 20 canary requests."""
    why: dict[str, int]
    each: tuple[float, ...] = ()
    """Minutes of the runs that ended as they should; for plots."""

    @property
    def inconclusive(self) -> int:
        return self.runs - self.aborted - self.completed


@dataclass(frozen=True)
class Scenario:
    group: str
    name: str
    world: World
    runs: int
    make: Callable[[], Judge] = Ours
    judge: str = "ours"
    ladder: tuple[int, ...] = ()
    """By default the preset's."""


def only(*names: str) -> Callable[[], Judge]:
    settings = Settings(metrics=tuple(each for each in METRICS if each.name in names))
    return lambda: Ours(settings)


def identical() -> Iterator[Scenario]:
    thin = replace(INDEPENDENT, rate=1.0)
    yield Scenario("A/A", "independent", INDEPENDENT, 150)
    yield Scenario("A/A", "independent", replace(INDEPENDENT, rate=0.2), 20)
    yield Scenario("A/A", "independent", thin, 100)
    yield Scenario("A/A", "independent", replace(INDEPENDENT, rate=40.0), 20)
    yield Scenario("A/A", "all of 5-10-25-50", thin, 30, ladder=LADDER)
    for world in WORLDS:
        yield Scenario("A/A", world.name, world, 20)
    yield Scenario("A/A", "wandering 10 %", replace(WORLDS[7], rate=40.0), 10)


def at_the_margin() -> Iterator[Scenario]:
    for world in (INDEPENDENT, *WORLDS[:3], *WORLDS[5:8]):
        for metric, harm in (
            ("ttft_p50", {"ttft": 1.15}),
            ("ttft_p95", {"ttft": 1.2}),
            ("errors", {"errors": world.base_errors * 0.25 + 0.01}),
        ):
            yield Scenario(
                "at the margin",
                f"{world.name}, {metric}",
                world.with_harm(**harm),
                20,
                only(metric),
                ladder=(25,),
            )


HARMS: tuple[tuple[str, dict[str, float]], ...] = (
    ("TTFT x0.8", {"ttft": 0.8}),
    ("TTFT x1.1", {"ttft": 1.1}),
    ("TTFT x1.2", {"ttft": 1.2}),
    ("TTFT x1.5", {"ttft": 1.5}),
    ("TTFT x2", {"ttft": 2.0}),
    ("TTFT x3", {"ttft": 3.0}),
    ("TTFT x3 of a tenth", {"tail": 3.0}),
    ("inter-token x1.2", {"itl": 1.2}),
    ("inter-token x1.5", {"itl": 1.5}),
    ("errors +0.1 %", {"errors": 0.001}),
    ("errors +1 %", {"errors": 0.01}),
    ("errors +2 %", {"errors": 0.02}),
    ("errors +5 %", {"errors": 0.05}),
    ("errors +20 %", {"errors": 0.2}),
)


def harmed() -> Iterator[Scenario]:
    for name, harm in HARMS:
        runs = 80 if name == "TTFT x1.5" else 16
        yield Scenario("harm", name, INDEPENDENT.with_harm(**harm), runs)
    for world in WORLDS[:3]:
        name = f"TTFT x1.5, {world.name}"
        yield Scenario("harm", name, world.with_harm(ttft=1.5), 16)
    for rate in (1.0, 40.0):
        world = replace(INDEPENDENT, rate=rate)
        yield Scenario("harm", "TTFT x1.5", world.with_harm(ttft=1.5), 15)
    for rate in (0.2, 1.0, 4.0, 40.0):
        for errors in (0.5, 0.9):
            # Blocks of a second: what a tripwire sees is as fresh as what workers ship.
            world = replace(INDEPENDENT, rate=rate, hours=1.0, span_s=1.0)
            name = f"errors +{100 * errors:.0f} %"
            yield Scenario("harm", name, world.with_harm(errors=errors), 60)


def rivals() -> Iterator[Scenario]:
    for judge, make in (
        ("threshold, 5 min", lambda: Threshold(300, 3)),
        ("threshold, 1 min", lambda: Threshold(60, 5)),
        ("Mann-Whitney", MannWhitney),
        ("Mann-Whitney, effect 1.2", lambda: MannWhitney(1.2)),
    ):
        for world in (INDEPENDENT, replace(INDEPENDENT, rate=1.0), WORLDS[0], WORLDS[1], WORLDS[7]):
            yield Scenario("A/A", world.name, world, 30, make, judge)
        for name, harm in (
            ("TTFT x1.5", {"ttft": 1.5}),
            ("TTFT x3 of a tenth", {"tail": 3.0}),
            ("errors +5 %", {"errors": 0.05}),
        ):
            yield Scenario("harm", name, INDEPENDENT.with_harm(**harm), 20, make, judge)


def impatient() -> Iterator[Scenario]:
    """Yield what there is only with clients that give up before an answer begins."""
    heavy = World(heavy=True, impatient=0.5)
    for rate, runs in ((4.0, 60), (1.0, 40), (40.0, 20)):
        yield Scenario("A/A", "impatient, heavy-tailed", replace(heavy, rate=rate), runs)
    # Blocks of a second here as well: that they leave is known later than that others don't.
    bursty = replace(WORLDS[6], impatient=0.5, hours=1.0, span_s=1.0)
    yield Scenario("A/A", "impatient, very bursty", bursty, 20)
    for rate in (0.2, 1.0, 2.0, 4.0, 40.0):
        world = replace(INDEPENDENT, rate=rate, hours=1.0, span_s=1.0, impatient=1.0)
        harmed = world.with_harm(ttft=FOR_EVER)
        yield Scenario("harm", "hangs, clients give up after 5 s", harmed, 60)


def play(scenario: Scenario, number: int) -> Row:
    each = [
        climb(
            scenario.world,
            np.random.default_rng([SEED, number, index]),
            scenario.make(),
            scenario.ladder,
        )
        for index in range(scenario.runs)
    ]
    return _row(scenario, each)


def _row(scenario: Scenario, each: list[Run]) -> Row:
    aborted = [run for run in each if run.outcome == "aborted"]
    completed = [run for run in each if run.outcome == "completed"]
    minutes = [run.minutes for run in each]
    right = completed if scenario.group == "A/A" else aborted
    return Row(
        scenario.group,
        scenario.name,
        scenario.judge,
        scenario.world.rate,
        len(each),
        len(aborted),
        len(completed),
        round(float(np.median(minutes)), 1),
        round(float(np.quantile(minutes, 0.9)), 1),
        float(np.median([run.exposed for run in each])),
        sum(run.weight < 25 for run in aborted),
        sum(run.exposed <= 20 for run in aborted),
        dict(Counter(run.why for run in aborted).most_common(4)),
        tuple(round(run.minutes, 1) for run in right),
    )


WHOLE = (
    ("identical", 200, 4.0, 1.0),
    ("identical", 30, 1.0, 1.0),
    ("all times x1.3", 10, 4.0, 1.3),
    ("all times x2", 10, 4.0, 2.0),
)


def whole(name: str, runs: int, *, rate: float, slow: float) -> Row:
    """Run whole rollouts on simulated servers."""
    each = []
    for index in range(runs):
        ending = Whole(Random(SEED + index), rate, slow).run()
        outcome = {"Completed": "completed", "RolledBack": "aborted"}.get(ending.stage, "held")
        why = ending.message.partition(":")[0] if outcome == "aborted" else ""
        each.append(Run(outcome, ending.minutes, ending.weight, ending.canary, why))
    world = replace(INDEPENDENT, rate=rate)
    return _row(Scenario("whole", name, world, runs), each)


@dataclass(frozen=True)
class Cost:
    """CPU of judging 1,000 requests a second, in a worker and in the controller."""

    fold_us: float
    """A record, in a worker."""
    look_ms: float
    """One look in the controller: blocks taken in and counted, verdict, share of the weights;
    numbers and sentences at each twentieth."""

    @property
    def share(self) -> float:
        """Of one core."""
        return 1000 * self.fold_us / 1e6 + self.look_ms / 1e3 / LOOK_S


def cost() -> Cost:
    """Measure ten minutes, with blocks of a second as workers ship them."""
    busy = list(traffic(Random(SEED), seconds=60, rate=1000, weight=0.1))
    for index, record in enumerate(busy):
        record.request_bytes = (500, 3000, 9000, 40_000)[index % 4]
    trail = Trail("ns/r/", "stable", "canary")
    plan = plan_of(InferenceRolloutSpec(stable="stable", canary="canary"))
    state = State(run=1, plan=plan, stage="Progressing", step=2, effective=10, epoch=1)
    case = Case("uid", state, state, {}, trail=trail, epoch=1, epoch_since=0.0)
    decider, folder = Decider(state, trail), Folder(span_s=1.0)
    folding = looking = 0.0
    for look, blocks_s in enumerate(_half_seconds(busy, folder)):
        folding += blocks_s
        now = LOOK_S * (look + 1)
        began = process_time()
        trail.add("boot", look, folder.take())
        decider.verdict(case, now)
        trail.share(0.0)
        looking += process_time() - began
    looks = look + 1
    return Cost(1e6 * folding / (10 * len(busy)), 1e3 * looking / looks)


def _half_seconds(busy: list[Record], folder: Folder) -> Iterator[float]:
    """Fold a minute ten times over, half a second at once; yield the processor time of each."""
    for minute in range(10):
        at = 0
        for look in range(int(60 / LOOK_S)):
            began = process_time()
            while at < len(busy) and busy[at].started_at < LOOK_S * (look + 1):
                record = copy(busy[at])
                record.started_at += 60 * minute
                folder.fold(record)
                at += 1
            yield process_time() - began


def evidence() -> dict[str, object]:
    """Return how the evidence on TTFT p50 grows in two rollouts held at 10 %."""
    traces: dict[str, object] = {}
    for name, world in (("equal", INDEPENDENT), ("worse", INDEPENDENT.with_harm(ttft=1.3))):
        run = Traffic(replace(world, hours=0.7), np.random.default_rng([SEED, 1_000_000]))
        ledger = Ledger(Settings(), "stable", "canary")
        track = next(each for each in ledger.tracks if each.metric.name == "ttft_p50")
        minutes, values = [], []
        for index in range(int(run.duration / SPAN_S)):
            if index * SPAN_S == BEFORE_S:
                ledger.enter(Step(BEFORE_S, 10))
            ledger.absorb(run.blocks(index, 0.1 if ledger.steps else 0.0))
            ledger.advance((index + 1) * SPAN_S)
            log = track.step.log_pass if name == "equal" else track.step.log_fail
            if ledger.steps and log > -50:
                minutes.append(round(((index + 1) * SPAN_S - BEFORE_S) / 60, 2))
                values.append(round(log / math.log(10), 3))
        traces[name] = {"minutes": minutes, "evidence": values}
    required = sum(each.role == "required" for each in METRICS)
    traces["bar_pass"] = math.log10(1 / Settings().alpha_pass)
    traces["bar_fail"] = math.log10(2 * required / Settings().alpha_fail)
    return traces


@dataclass(frozen=True)
class Work:
    """All that is to be done, as calls that need no more than a number."""

    times: float

    def scenario(self, number: int) -> Row:
        scenario = SCENARIOS[number]
        runs = max(2, round(scenario.runs * self.times))
        return play(replace(scenario, runs=runs), number)

    def whole(self, number: int) -> Row:
        name, runs, rate, slow = WHOLE[number]
        return whole(name, max(1, round(runs * self.times)), rate=rate, slow=slow)


def measure(times: float, jobs: int) -> tuple[list[Row], list[engines.Scores]]:
    """Run everything, on `jobs` cores."""
    work, rows = Work(times), []
    with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
        # The long ones first, so that no core waits for another in the end.
        last = [pool.submit(work.whole, number) for number in range(len(WHOLE))]
        scores = pool.submit(_engines, max(8, round(60 * times)))
        futures = [pool.submit(work.scenario, number) for number in range(len(SCENARIOS))]
        for number, future in enumerate([*futures, *last], 1):
            rows.append(done := future.result())
            print(
                f"{number}/{len(futures) + len(last)} {done.judge}: {done.group}, {done.name},"
                f" {done.rate:g}/s: {done.aborted} aborted, {done.completed} completed"
                f" of {done.runs}",
                file=sys.stderr,
                flush=True,
            )
        return rows, scores.result()


def _engines(runs: int) -> list[engines.Scores]:
    return list(engines.compare(SEED, runs))


SCENARIOS = tuple(chain(identical(), at_the_margin(), harmed(), rivals(), impatient()))
"""A scenario's place seeds it: new ones go to the end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="five times as many rollouts")
    parser.add_argument("--quick", action="store_true", help="a twentieth, to try the study itself")
    parser.add_argument("--jobs", type=int, default=1, help="on so many cores")
    parser.add_argument("--render", action="store_true", help="write the page of judge.json anew")
    options = parser.parse_args()
    if options.render:
        render(json.loads((RESULTS / "judge.json").read_text()))
        return
    began, used = perf_counter(), _processor_s()
    measured = cost()
    rows, scores = measure(5 if options.full else 0.05 if options.quick else 1, options.jobs)
    result = {
        "seed": SEED,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "minutes": round((perf_counter() - began) / 60, 1),
        "processor_minutes": round((_processor_s() - used) / 60, 1),
        "rollouts": sum(row.runs for row in rows),
        "rows": [asdict(row) for row in rows],
        "engines": [asdict(score) for score in scores],
        "evidence": evidence(),
        "cost": asdict(measured) | {"share": measured.share},
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "judge.json").write_text(json.dumps(result, indent=1) + "\n")
    render(result)


def _processor_s() -> float:
    """Return the processor time of this process and of those that have ended."""
    own, others = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def render(result: dict[str, object]) -> None:
    (RESULTS / "judge.md").write_text(report.write(result))
    plots.draw(result, RESULTS)
    print(f"written to {RESULTS}", file=sys.stderr)


if __name__ == "__main__":
    main()
