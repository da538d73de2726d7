"""Who competes: our scheduler as it is by default, and what others would do."""

from dataclasses import replace
from typing import Final

from tidegate.fleet.contestant import Contestant, default, described, rival
from tidegate.picker.flow.settings import parse_flow

OURS: Final = "tidegate"
LLMD: Final = "llm-d"
LLMD_CONFIG: Final = """
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
"""
"""llm-d's default profile as its documents describe it."""
TOLD: Final = {"saturationDetector": {"itlSeconds": 0.035}}
"""Flow control that knows the objective of 50 ms between tokens, with a third to spare."""


def ours() -> Contestant:
    return replace(default(), name=OURS)


def told() -> Contestant:
    return replace(ours(), flow=parse_flow(TOLD))


def rivals() -> list[Contestant]:
    """The others; llm-d scrapes every 50 ms and has no flow control, as it is by default."""
    llmd = replace(described(LLMD, LLMD_CONFIG, scrape_s=0.05), flow=None)
    return [llmd, *map(rival, ("round-robin", "random", "least-requests", "bounded-hash"))]
