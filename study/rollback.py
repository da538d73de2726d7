"""How fast a rollout is taken back: from kubectl's return to the canary's last request.

    python study/rollback.py [--repeat 10] [--out docs/results/rollback.md]

A whole gateway (`tidegate up`, two workers), simulated servers, open-loop streams at 100
requests a second; each abort is `kubectl patch inferencerollout … abort=true`, in every phase in
which the canary has traffic. The time is taken on the client: when each request began, against
when kubectl had ended.
"""

import os
import platform
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tidegate.testing.deployment import EXAMPLES, ROOT, Deployment, deployed
from tidegate.testing.moving import intend, start, until
from tidegate.testing.traffic import Traffic, long_answer, traffic

MODEL = "example/chat-8b"
RATE = 100.0
PHASES: Mapping[str, Mapping[str, Any]] = {
    "Progressing": {"steps": [{"setWeight": 50}, {"pause": {"duration": "5m"}}]},
    "Paused": {"steps": [{"setWeight": 50}, {"pause": {}}]},
    "Baking": {"steps": [{"setWeight": 100}], "bake": "5m"},
    "Draining": {"steps": [{"setWeight": 100}], "bake": "1s", "drain": "5m"},
}
QUICK = {"analysis": {"duration": "1s", "minRequests": 1, "advanceWhen": "NotWorse"}}


def abort_once(up: Deployment, load: Traffic, phase: str, number: int) -> float:
    """Return the seconds from kubectl's return to the canary's last new request."""
    name = f"{phase.lower()}-{number}"
    start(up, name, **{**QUICK, **PHASES[phase]})
    until(up, phase, name)
    load.more(20)
    aborted = intend(up, name, abort=True)
    load.more(60)
    until(up, "Aborted", name)
    ours = [result for result in list(load.results) if result.pool == "llm-new"]
    return max(result.started_at for result in ours) - aborted


def measure(repeat: int) -> dict[str, list[float]]:
    """Return the times of each phase, in seconds."""
    times: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        deployed(Path(folder), [EXAMPLES / "node"], "--workers", "2") as up,
        traffic(up.url, RATE, MODEL) as load,
    ):
        for phase in PHASES:
            for number in range(repeat):
                with long_answer(up.url, MODEL):
                    taken = abort_once(up, load, phase, number)
                times.setdefault(phase, []).append(taken)
                print(f"{phase} {number}: {1000 * taken:.0f} ms", file=sys.stderr)
        if load.failures:
            raise SystemExit(f"{len(load.failures)} requests failed: {load.failures[0]}")
    return times


def report(times: Mapping[str, list[float]]) -> str:
    """Return the results as a page."""
    rows = [
        f"| {phase} | {len(some)} | {1000 * median(some):.0f} | {1000 * max(some):.0f} |"
        for phase, some in times.items()
    ]
    worst = max(value for some in times.values() for value in some)
    return f"""# Taking a rollout back

From the return of `kubectl patch inferencerollout NAME --type=merge -p
'{{"spec":{{"abort":true}}}}'` to the beginning of the last request that the canary got, in
milliseconds. Negative: it was over before kubectl had ended. {RATE:.0f} streamed requests a second
through `tidegate up` with two workers; no request failed.
The worst of all: {1000 * worst:.0f} ms; the aim is 200.

| phase | aborts | median | worst |
|---|---|---|---|
{chr(10).join(rows)}

An abort is one write of the status (so that a crash can't forget it) and one of the weights;
workers hear of it by their watch and swap their table. Requests that had begun at the canary go
on to their end there.

`python study/rollback.py` measures it anew. This run: {platform.machine()},
{os.cpu_count()} cores that other work used too, Python {platform.python_version()}.
"""


def main() -> None:
    """Measure and write the page."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "rollback.md")
    options = parser.parse_args()
    options.out.write_text(report(measure(options.repeat)))


if __name__ == "__main__":
    main()
