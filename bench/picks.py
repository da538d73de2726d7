"""What a pick costs: CPU per request of the scheduler alone, by the pool's size.

No sockets: hash the prompt, pick, charge the endpoint, note its first token and its end, as the
gateway does for each request. Prompts have 4,000 tokens, of which half are a shared beginning,
and the index is warm: the costly case.
"""

import time
from pathlib import Path
from random import Random
from typing import TypeAlias

from tidegate.picker.config import Scheduler, default_scheduler, parse_config, simple_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Pick, Request
from tidegate.picker.schedule import schedule
from tidegate.picker.state import Listed, Model, Sample
from tidegate.picker.ticket import begin

Growth: TypeAlias = dict[str, list[dict[str, float]]]
"""By profile: `pick_us` and `request_us` for each of `SIZES`."""
SIZES = (1, 10, 100, 1_000, 4_000)
PROMPT_BYTES = 16_000
LLM_D = """
plugins:
- {type: queue-scorer}
- {type: kv-cache-utilization-scorer}
- {type: prefix-cache-scorer}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
"""


def profiles() -> dict[str, Scheduler]:
    """Return what is measured: the default, upstream's default, the simplest."""
    return {
        "default": default_scheduler(),
        "queue 2, kv 2, prefix 3": parse_config(LLM_D),
        "least load": simple_scheduler(),
    }


def _pool(size: int, scheduler: Scheduler) -> Pool:
    rng = Random(size)
    pool = Pool("bench/pool", scheduler)
    endpoints = [Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}:8000") for i in range(size)]
    pool.set_endpoints(endpoints)
    for endpoint in endpoints:
        endpoint.note(Listed((Model(id="m"),)), 0.0)
        running = rng.randrange(40)
        sample = Sample(rng.randrange(3), running, rng.random(), capacity=400_000)
        endpoint.note(sample, 0.0)
    return pool


def _prompts(rng: Random) -> list[bytes]:
    shared = [rng.randbytes(PROMPT_BYTES // 2) for _ in range(20)]
    return [rng.choice(shared) + rng.randbytes(PROMPT_BYTES // 2) for _ in range(400)]


def cost(size: int, scheduler: Scheduler, *, requests: int = 4_000) -> dict[str, float]:
    """Return microseconds of CPU per request: of the pick with its hashing, and of all."""
    pool, rng = _pool(size, scheduler), Random(1)
    prompts = _prompts(rng)
    picking = 0.0
    whole = 0.0
    for number in range(requests + requests // 4):
        if number == requests // 4:
            picking = whole = 0.0
        now = number * 0.001
        began = time.process_time()
        chain, tokens = (), 0
        if pool.blocks is not None:
            text = prompts[number % len(prompts)]
            chain, tokens = pool.blocks.chain(text, 7), len(text) // 4
        request = Request(now, "m", None, chain, tokens, 200)
        pick = schedule(pool, request, rng)
        picked = time.process_time()
        assert isinstance(pick, Pick)
        ticket = begin(pool, pick.endpoint, request, now)
        ticket.answered(now + 0.1)
        ticket.ended(now + 0.3, ok=True, output=20)
        ended = time.process_time()
        picking += picked - began
        whole += ended - began
    return {"pick_us": picking / requests * 1e6, "request_us": whole / requests * 1e6}


def growth(*, requests: int = 4_000) -> Growth:
    """Return the costs of each profile at each size."""
    return {
        name: [cost(size, one, requests=requests) for size in SIZES]
        for name, one in profiles().items()
    }


SECTION = """\
## A pick

CPU of a pick by the size of the pool, in µs: of the pick itself with hashing a prompt of 4,000
tokens, and (in brackets) of all that a request costs the picker: charging the endpoint, noting
the prompt, learning from its times. One process, no sockets.

{table}

![Cost of a pick by the size of the pool](picks.svg)
"""


def table(found: Growth) -> list[list[str]]:
    """Return rows of text: a profile each."""
    rows = [["endpoints", *(f"{size:,}" for size in SIZES)]]
    for name, costs in found.items():
        rows.append([name, *(f"{one['pick_us']:.0f} ({one['request_us']:.0f})" for one in costs)])
    return rows


def plot(found: Growth, path: Path) -> None:
    """Draw the costs over the size."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "tidegate"
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 3.6))
    for name, costs in found.items():
        axis.plot(SIZES, [one["pick_us"] for one in costs], marker="o", label=name)
    axis.set_xscale("log")
    axis.set_ylim(0)
    axis.set_xlabel("endpoints")
    axis.set_ylabel("µs of CPU")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    for row in table(growth()):
        print("".join(cell.ljust(26 if not at else 12) for at, cell in enumerate(row)))
