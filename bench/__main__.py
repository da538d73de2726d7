"""Start everything, measure, write down, stop everything."""

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from bench import growth, picks, report
from bench.measure import Bench, Entry, Plan
from bench.ours import OURS
from bench.peers import PEERS
from bench.processes import ROOT, Cpus, Started, python
from bench.setup import Place, Running, Variant

VARIANTS: Final = (*OURS, *PEERS)
QUICK: Final = Plan(rounds=1, seconds=1.0, streams=64, events=50)
PROBE: Final = (
    b'{"model": "llama-3-8b", "messages": [{"role": "user", "content": "Are you there?"}]}'
)
CHAT: Final = "/v1/chat/completions"
ENDPOINTS: Final = 4
"""Three in the big pool, one in the small one."""


def main() -> None:
    """Run the benchmark."""
    args = _arguments()
    plan = QUICK if args.quick else Plan(rounds=args.rounds, seconds=args.seconds)
    variants = tuple(each for each in VARIANTS if not args.only or each.name in args.only)
    # A terminated run must stop what it started, as an interrupted one does.
    signal.signal(signal.SIGTERM, _interrupted)
    cpus = Cpus.divide()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        series = _rounds(plan, variants, cpus, Path(folder))
        grown = {} if args.no_growth else _growth(plan, cpus, Path(folder))
    _say("measuring picks")
    picked = {} if args.no_growth else picks.growth(requests=400 if args.quick else 4_000)
    results = report.Results(plan, variants, series, grown, picked)
    print(report.text(results))
    report.write(results, args.out)
    _say(f"written: {args.out}/performance.md, .json, .svg")


def _rounds(
    plan: Plan, variants: tuple[Variant, ...], cpus: Cpus, folder: Path
) -> dict[str, report.Series]:
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_backend(folder, ENDPOINTS, cpus))
        entries: list[Entry] = []
        for variant in variants:
            _say(f"starting {variant.title}")
            running = variant.start(place, place.free_port(), cpus)
            stack.callback(running.process.stop)
            running.process.wait_ready(running.port, CHAT, body=PROBE)
            entries.append((variant, running))
        bench = Bench(plan, cpus, place.backends[0], _say)
        bench.run(entries)
        return bench.series


def _growth(plan: Plan, cpus: Cpus, folder: Path) -> dict[str, list[float]]:
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_backend(folder, growth.MANY, cpus, growth.MANY))
        running: dict[growth.Size, Running] = {}
        for size in growth.SIZES:
            _say(f"starting a gateway with {size.name}")
            running[size] = growth.start(size, place, cpus)
            stack.callback(running[size].process.stop)
            model = b"model-0" if size.routes > 1 else b"llama-3-8b"
            probe = PROBE.replace(b"llama-3-8b", model)
            running[size].process.wait_ready(running[size].port, CHAT, body=probe)
        bench = Bench(plan, cpus, place.backends[0], _say)
        return growth.measure(bench, running, plan.rounds, _say)


@contextlib.contextmanager
def _backend(folder: Path, listeners: int, cpus: Cpus, models: int = 0) -> Iterator[Place]:
    command = python("-m", "bench.backend", str(listeners), str(models))
    started = Started(command, cpus=cpus.rest, log=folder / "backend.log")
    try:
        yield Place(folder, tuple(json.loads(started.line())))
    finally:
        started.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to see it work")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--only", nargs="*", metavar="VARIANT", help="of " + _names())
    parser.add_argument("--no-growth", action="store_true", help="skip 10 against 1,000")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    return parser.parse_args()


def _names() -> str:
    return ", ".join(each.name for each in VARIANTS)


def _interrupted(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
