"""Our scheduler beside what others do, on nine workloads, in virtual time.

    python study/picker.py             everything; writes docs/results/picker.{md,json} and plots
    python study/picker.py --quick     see it work: short runs, one seed, nothing written
    python study/picker.py --only chat,lora    run these anew, keep the others' numbers
    python study/picker.py --only nothing      write the page anew, from the numbers
    python study/picker.py --scale N   a thousand servers, N requests: picker-scale.json

Needs matplotlib (dependency group `study`). No GPU, no network; one core.
"""

import argparse
import json
import platform
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from msgspec.structs import replace
from picking.contestants import ours, rivals, told
from picking.exact import exactly
from picking.verdicts import Score, as_json, compare, from_json, score
from picking.workloads import CASES, HIGH, SCALE, Case

from tidegate.fleet.outcome import Report
from tidegate.fleet.run import simulate
from tidegate.fleet.workload import parse

RESULTS = Path(__file__).parent.parent / "docs" / "results"
DATA = RESULTS / "picker.json"
SEEDS = (1, 2, 3)
DURATION_S = 50


def run_case(case: Case, seeds: Sequence[int], duration_s: int) -> dict[str, list[Report]]:
    """Return each contestant's reports, one for each seed."""
    we = told() if case.name == "priorities" else ours()
    found: dict[str, list[Report]] = {}
    for contestant in (we, *rivals()):
        began = time.process_time()
        found[contestant.name] = [
            simulate(case.workload(seed, duration_s), contestant) for seed in seeds
        ]
        one = score(contestant.name, found[contestant.name], case.judged)
        print(
            f"{case.name:12}{one.name:16}TTFT p95 {one.ttft_p95 * 1000:9,.0f} ms   "
            f"good {one.good:6.1%}   hits {one.hits:4.0%}   balance {one.balance:.2f}   "
            f"{time.process_time() - began:5.1f} s",
            flush=True,
        )
    return found


def priorities(seeds: Sequence[int], duration_s: int) -> dict[str, dict[str, Score]]:
    """Return how the high priority fares alone, beside the others, and unprotected."""
    case = next(one for one in CASES if one.name == "priorities")
    alone = Case(case.name, "", "", HIGH)
    rows: dict[str, list[Score]] = {}
    for name, what, contestant in (
        ("alone", alone, told()),
        ("at 130 %", case, told()),
        ("at 130 %, not told the objective", case, ours()),
        ("at 130 %, least requests", case, next(r for r in rivals() if r.name == "least-requests")),
    ):
        reports = [simulate(what.workload(seed, duration_s), contestant) for seed in seeds]
        rows[name] = [score(kind, reports, kind) for kind in reports[0].kinds]
        shown = ", ".join(f"{one.name} {one.good:.1%}" for one in rows[name])
        print(f"priorities  {name:34}{shown}", flush=True)
    return {name: {one.name: one for one in some} for name, some in rows.items()}


def told_of_caches(seeds: Sequence[int], duration_s: int) -> dict[str, dict[str, Score]]:
    """Return how we fare on prefix-heavy work if we know what is cached where."""
    rows = {}
    for case in CASES:
        if case.prefix_heavy:
            reports = [exactly(case.workload(seed, duration_s), ours()) for seed in seeds]
            rows[case.name] = {"told": score("told", reports, case.judged)}
            one = rows[case.name]["told"]
            print(
                f"{case.name:12}told of caches  TTFT p95 {one.ttft_p95 * 1000:9,.0f} ms", flush=True
            )
    return rows


def scale(requests: int) -> dict[str, object]:
    """Run a thousand servers once; return what that cost."""
    began = time.process_time()
    workload = replace(parse(SCALE), requests=requests)
    report = simulate(workload, ours(), lambda came: _note(came, began))
    spent = time.process_time() - began
    return {
        "servers": 1000,
        "requests": requests,
        "counted": report.all.requests,
        "processor_s": spent,
        "virtual_s": report.duration_s,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "ttft_p95_s": report.all.ttft.p95,
        "good": report.all.good,
        "hits": report.hit_rate,
        "balance": report.balance,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def _note(came: int, began: float) -> None:
    if came % 51_200 == 0:
        print(f"{came:,} requests, {time.process_time() - began:,.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--scale", type=int, metavar="N")
    options = parser.parse_args()
    if options.scale:
        found = json.dumps(scale(options.scale), indent=1)
        (RESULTS / "picker-scale.json").write_text(found + "\n")
        print(found)
        return
    seeds, duration_s = ((1,), 15) if options.quick else (SEEDS, DURATION_S)
    only = options.only.split(",") if options.only else [one.name for one in CASES]
    kept = json.loads(DATA.read_text()) if options.only and DATA.exists() else {}
    scores = from_json(kept.get("workloads", {}))
    for case in CASES:
        if case.name in only:
            reports = run_case(case, seeds, duration_s)
            scores[case.name] = {n: score(n, some, case.judged) for n, some in reports.items()}
    compared = [compare(one.name, scores[one.name]) for one in CASES if one.name in scores]
    for one in compared:
        print(
            f"{one.case:12}{'holds' if one.holds else 'MISSES':8}TTFT x{one.ttft_to_best:.2f} of "
            f"{one.best_ttft}, good x{one.good_to_best:.3f} of {one.best_good}; llm-d "
            f"x{one.ttft_to_llmd:.2f}, round robin x{one.ttft_to_round_robin:.2f}"
        )
    protected = from_json(kept.get("priorities", {}))
    if "priorities" in only:
        protected = priorities(seeds, duration_s)
    known = from_json(kept.get("caches", {}))
    if {"shared", "chat", "cold"} & set(only):
        known = told_of_caches(seeds, duration_s)
    if options.quick or len(compared) < len(CASES):
        return
    from picking.page import write

    write(RESULTS, scores, compared, protected, known, seeds, duration_s)
    data = {
        "seeds": seeds,
        "workloads": as_json(scores),
        "priorities": as_json(protected),
        "caches": as_json(known),
    }
    DATA.write_text(json.dumps(data, indent=1) + "\n")
    print(f"wrote {RESULTS / 'picker.md'}")


if __name__ == "__main__":
    main()
