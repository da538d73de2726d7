"""How well several workers pick beside one, with real processes: hits, balance, first tokens.

    make study-sharing STUDY="--workers 1 2 4 --rounds 3 --seconds 60"

A whole gateway (`tidegate up`), six simulated servers, conversations whose turns come on
connections of their own, so that each turn may meet another worker. Hits are what the servers
say of their prefix caches; balance is the mean of their requests over the most of one. Rounds
are interleaved, so that what the machine does meanwhile meets all alike.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final
from urllib.request import urlopen

from tidegate.testing.deployment import ROOT, deployed

SERVERS: Final = 6
MODEL: Final = "study/chat-8b"
MANIFESTS: Final = f"""
apiVersion: tidegate.dev/v1alpha1
kind: ModelServer
metadata: {{name: llm, labels: {{app: llm}}}}
spec:
  replicas: {SERVERS}
  simulator: {{models: [{MODEL}], profile: a100-8b}}
---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: llm}}
spec: {{selector: {{matchLabels: {{app: llm}}}}, targetPorts: [{{number: 8000}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: llm}}
spec:
  parentRefs: [{{name: tidegate}}]
  rules:
  - backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: llm}}]
"""
LOAD: Final = (
    "--rate", "25", "--turns", "4", "--think", "0.5", "--user-words", "150", "--system-words",
    "150", "--max-tokens", "48", "--identity", "none", "--output", "json",
)  # fmt: skip
PAGE: Final = """\
# Several workers beside one

Conversations of four turns at 25 requests a second for {seconds:g} s, {servers} simulated
servers (A100, 8B), every request on whichever worker the system gave its connection to. Means of
{rounds} interleaved rounds. Written by `make study-sharing`; all processes share {cores} cores
({machine}).

| workers | hits | balance | by round | TTFT p50 | TTFT p95 | requests | failed |
|---|---|---|---|---|---|---|---|
{rows}

Hits: the share of prompt tokens that the servers found in their prefix caches. Balance: requests
of a server on average, over those of the one that got the most. It is one worker's own balance
that several are held against: conversations stay where they are cached, so it is below 1.
"""


def counters(address: str) -> dict[str, float]:
    """Return a server's counters by name, labels left out."""
    with urlopen(f"http://{address}/metrics") as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(vllm:[a-z_]+)\{[^}]*\} ([0-9.e+]+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def measure(workers: int, seconds: float) -> dict[str, Any]:
    """Return what one run with so many workers gave."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pool.yaml").write_text(MANIFESTS)
        with deployed(folder, [folder / "pool.yaml"], "--workers", str(workers)) as up:
            listed = json.loads(up.kubectl.run("get", "modelserver", "llm", "-o", "json").out)
            addresses = [one["address"] for one in listed["status"]["endpoints"]]
            command = [sys.executable, "-m", "tidegate", "load", "--url", up.url, "--model", MODEL]
            command += [*LOAD, "--duration", str(seconds)]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            report = json.loads(run.stdout)
            return {"report": report, **_servers([counters(one) for one in addresses])}


def _servers(found: Sequence[dict[str, float]]) -> dict[str, float]:
    served = [one.get("vllm:request_success_total", 0.0) for one in found]
    asked = sum(one.get("vllm:prefix_cache_queries_total", 0.0) for one in found)
    hits = sum(one.get("vllm:prefix_cache_hits_total", 0.0) for one in found)
    return {"hits": hits / asked, "balance": sum(served) / len(served) / max(served)}


def main() -> None:
    """Measure, and write the page."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/sharing.md")
    args = parser.parse_args()
    found: dict[int, list[dict[str, Any]]] = {workers: [] for workers in args.workers}
    for number in range(args.rounds):
        for workers in args.workers:
            one = measure(workers, args.seconds)
            found[workers].append(one)
            print(number + 1, _row(workers, [one]), file=sys.stderr, flush=True)
    page = PAGE.format(
        seconds=args.seconds,
        servers=SERVERS,
        rounds=args.rounds,
        machine=platform.system(),
        cores=os.cpu_count(),
        rows="\n".join(_row(workers, some) for workers, some in found.items()),
    )
    args.out.write_text(page)


def _row(workers: int, rounds: Sequence[dict[str, Any]]) -> str:
    reports = [one["report"] for one in rounds]
    balances = [one["balance"] for one in rounds]
    cells = [workers, f"{fmean(one['hits'] for one in rounds):.1%}", f"{fmean(balances):.2f}"]
    cells.append(" / ".join(f"{one:.2f}" for one in balances))
    for name in ("p50", "p95"):
        cells += [f"{fmean(one['ttft'][name] for one in reports) * 1000:.0f} ms"]
    cells += [sum(one[name] for one in reports) for name in ("requests", "failed")]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
