"""A newcomer's walks: each example with plain kubectl and `tidegate load` at its defaults.

    python study/walks.py [--only node] [--out docs/results/walks.md]

    tidegate up -f examples/KIND/
    tidegate load --model NAME --duration 180
    kubectl apply -f examples/KIND/rollout.yaml
    kubectl wait --for=condition=Completed inferencerollout/KIND --timeout=180s

Fails where a walk takes longer than three minutes or ends otherwise than it should.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tidegate.testing.deployment import EXAMPLES, ROOT, Deployment, deployed

LIMIT_S: Final = 180


@dataclass(frozen=True, slots=True)
class Walk:
    """One example."""

    name: str
    model: str
    end: str = "Completed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a walk ended."""

    walk: Walk
    took_s: float
    status: Mapping[str, Any]
    table: str
    """As `kubectl get inferencerollouts` prints it."""
    requests: int
    failed: int

    @property
    def good(self) -> bool:
        """Whether it ended as it should, and only a bad canary failed requests."""
        return self.took_s <= LIMIT_S and (self.failed == 0 or self.walk.end == "RolledBack")


WALKS: Final = (
    Walk("node", "example/chat-8b"),
    Walk("base-model", "chat"),
    Walk("adapter", "food-review"),
    Walk("bad-canary", "example/chat-8b", "RolledBack"),
)


@contextmanager
def load(up: Deployment, walk: Walk, report: Path) -> Iterator[None]:
    """Run `tidegate load` beside; its report is in the file `report` afterwards."""
    command = [sys.executable, "-m", "tidegate", "load", "--url", up.url, "--model", walk.model]
    options = ["--duration", str(LIMIT_S), "-o", "json"]
    with report.open("wb") as out:
        process = subprocess.Popen([*command, *options], stdout=out, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.send_signal(2)
            process.wait(60)


def go(walk: Walk) -> Outcome:
    """Walk once."""
    with tempfile.TemporaryDirectory() as name:
        folder, report = Path(name), Path(name) / "load.json"
        with deployed(folder, [EXAMPLES / walk.name]) as up:
            with load(up, walk, report):
                took_s = _wait(up, walk)
            kubectl = up.kubectl
            table = kubectl("get", "inferencerollouts")
            status = kubectl.json("inferencerollout", walk.name)["status"]
        told = json.loads(report.read_text())
    return Outcome(walk, took_s, status, table, told["requests"], told["failed"])


def _wait(up: Deployment, walk: Walk) -> float:
    kubectl, begun = up.kubectl, time.perf_counter()
    kubectl("apply", "-f", EXAMPLES / walk.name / "rollout.yaml")
    condition = f"--for=condition={walk.end}"
    ran = kubectl.run(
        "wait",
        condition,
        f"inferencerollout/{walk.name}",
        f"--timeout={LIMIT_S}s",
        timeout_s=LIMIT_S + 20,
    )
    if ran.code:
        raise SystemExit(f"{ran.err}\n{kubectl('get', 'inferencerollouts', '-o', 'yaml')}")
    return time.perf_counter() - begun


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the results as a page."""
    rows = [
        f"| {each.walk.name} | {each.walk.end} | {each.took_s:.0f} | {each.requests:,} |"
        f" {each.failed} | {each.status['message']} |"
        for each in outcomes
    ]
    tables = "\n".join(each.table.rstrip() for each in outcomes)
    return f"""# A newcomer's walks

Each example with plain kubectl and `tidegate load` at its defaults (20 requests a second), the
judge deciding: seconds from `kubectl apply` of the rollout to the return of `kubectl wait`; the
aim is {LIMIT_S}. Only the bad canary may fail requests, until it is found.

| example | ends | seconds | requests | failed | says |
|---|---|---:|---:|---:|---|
{chr(10).join(rows)}

What `kubectl get inferencerollouts` says then:

```
{tables}
```

`python study/walks.py` walks them anew. This run: {platform.machine()},
{os.cpu_count()} cores that other work used too, Python {platform.python_version()}.
"""


def main() -> None:
    """Walk them all and write the page."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[walk.name for walk in WALKS])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "walks.md")
    options = parser.parse_args()
    outcomes = []
    for walk in WALKS:
        if options.only in (None, walk.name):
            outcomes.append(go(walk))
            print(f"{walk.name}: {outcomes[-1].took_s:.0f} s", file=sys.stderr)
    options.out.write_text(page(outcomes))
    if bad := [each.walk.name for each in outcomes if not each.good]:
        raise SystemExit(f"not as they should be: {', '.join(bad)}")


if __name__ == "__main__":
    main()
