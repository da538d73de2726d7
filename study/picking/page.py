"""docs/results/picker.md, from the numbers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from picking.contestants import OURS
from picking.plots import draw
from picking.verdicts import BETTER, HEAVY, WORSE, Compared, Score
from picking.workloads import CASES

HEAD = """# What the picker is worth

Written by `make study-picker` (study/picker.py), in virtual time: the gateway's own scheduler and
flow control on [the simulator's](simulator.md) servers. Reproduce it on any machine; the seeds
are in the file. Means over {seeds} seeds of {duration} s each, the first 10 s not counted.

{short}

![Time to first token, p95, by workload](picker-ttft.svg)

![Share of requests that met the objective, by workload](picker-good.svg)
"""

CACHES = """## What the servers' own word on their caches would add

vLLM can say by events what is in its KV cache. They speak of tokens, so whoever listens needs each
model's tokenizer and chat template in the path of every request. Here the picker is told exactly,
at once and for nothing; what is on its way to a server is still noted by itself.
"""

RULES = """## Who is compared, and how

- **tidegate**: what a pool without a configuration gets.
- **llm-d**: its default profile as its documents describe it (queue 2, KV cache 2, prefix cache 3,
  highest score), by the plugins of the same names here, with metrics scraped every 50 ms. Its flow
  control is off by default, and so it is here. What it sheds below priority 0 when all servers
  are saturated is left out. Our prefix index is not its index, though both remember blocks of 64
  tokens.
- **round-robin**, **random**, **least-requests** (of those that the gateway itself has under way),
  **bounded-hash**: consistent hashing of a prompt's first 64 tokens, at most 1.25 times the mean
  load (Mirrokni, Thorup and Zadimoghaddam, 2016).

All meet the same conversations, know which servers are down, and try a request again that found
a dead one. TTFT counts from the request's arrival at the gateway, queues included. "Good" is a
first token within 500 ms (1 s in *priorities*) and at most 50 ms between tokens, on average over
the answer. Balance is mean requests under way at a server over those at the busiest.

The workloads are in study/picking/workloads.py, in the form that `tidegate fleet simulate` reads.
"""

CAUTION = """## What this does not show

- The servers are simulated, and their prefix caches behave as the simulator's: blocks of
  prompts are shared, those of answers aren't.
- One gateway worker. Several know of each other's requests a little later.
- Lengths of prompts are exact here; over sockets they are estimated from bytes.
- The defaults were tuned on these kinds of workloads, by another seed (101). Other kinds of
  traffic may rank otherwise: measure yours with `tidegate fleet simulate`.
"""

TRIED = {
    "chat": """**chat** misses the 60 %. Its hits are near what is possible: a turn adds a message
and the answer before it, about 600 tokens that no cache holds, so they are computed wherever the
turn goes, and the long ones among them set the p95. Tried on seed 101, without gain:
`answerWeight` from 0.03 to 0.2; a fixed cost of each uncached token (half as balanced, 20 %
slower).
""",
}
"""Of misses, what is behind them and what was tried."""

Scores = Mapping[str, Mapping[str, Score]]
Priorities = Mapping[str, Mapping[str, Score]]


def write(
    folder: Path,
    scores: Scores,
    compared: Sequence[Compared],
    protected: Priorities,
    told: Scores,
    seeds: Sequence[int],
    duration_s: int,
) -> None:
    """Write the page and its plots."""
    draw(scores, [one.title for one in CASES], folder)
    short = " ".join(_short(compared, protected))
    parts = [HEAD.format(seeds=len(seeds), duration=duration_s, short=short)]
    parts += ["## Aims\n", *_aims(compared, protected), ""]
    parts += [TRIED[one] for one in _missed(compared) if one in TRIED]
    parts += ["## By workload\n", *_tables(scores), ""]
    parts += ["## Priorities\n", *_priorities(protected), ""]
    parts += [CACHES, *_caches(scores, told), ""]
    parts += [RULES, *_scale(folder), CAUTION]
    (folder / "picker.md").write_text("\n".join(parts))


def _heavy(compared: Sequence[Compared]) -> list[Compared]:
    heavy = {one.name for one in CASES if one.prefix_heavy}
    return [one for one in compared if one.case in heavy]


def _missed(compared: Sequence[Compared]) -> list[str]:
    return [one.case for one in _heavy(compared) if 1 - one.ttft_to_round_robin < HEAVY]


def _kept(protected: Priorities) -> float:
    return protected["at 130 %"]["high"].good / max(1e-9, protected["alone"]["high"].good)


def _short(compared: Sequence[Compared], protected: Priorities) -> Iterator[str]:
    holds = sum(one.holds for one in compared)
    beats = sum(one.beats_llmd for one in compared)
    heavy = sum(1 - one.ttft_to_round_robin >= HEAVY for one in _heavy(compared))
    yield f"**In short:** on {holds} of {len(compared)} workloads nobody is better by more than"
    yield f"{WORSE:.0%} in p95 TTFT or goodput; on {beats} we are at least {BETTER:.0%} better than"
    yield f"llm-d's defaults; on {heavy} of {len(_heavy(compared))} prefix-heavy ones p95 TTFT is"
    yield f"at least {HEAVY:.0%} below round robin's; priority 10 keeps {_kept(protected):.1%} of"
    yield "its goodput at 130 % load."


def _aims(compared: Sequence[Compared], protected: Priorities) -> Iterator[str]:
    yield "| aim | found | |"
    yield "|---|---|---|"
    missed = [one.case for one in compared if not one.holds]
    found = "on all" if not missed else f"not on {', '.join(missed)}"
    text = f"never worse than the best rival by more than {WORSE:.0%} in p95 TTFT or goodput"
    yield f"| {text} | {found} | {_met(not missed)} |"
    beats = [one.case for one in compared if one.beats_llmd]
    text = f"at least {BETTER:.0%} better than llm-d's defaults on at least four"
    yield f"| {text} | on {len(beats)}: {', '.join(beats)} | {_met(len(beats) >= 4)} |"
    text = f"p95 TTFT at least {HEAVY:.0%} below round robin's on prefix-heavy work"
    heavy = _heavy(compared)
    found = ", ".join(f"{one.case} {1 - one.ttft_to_round_robin:.0%}" for one in heavy)
    met = all(1 - one.ttft_to_round_robin >= HEAVY for one in heavy)
    yield f"| {text} | {found} | {_met(met)} |"
    kept = _kept(protected)
    text = "high-priority goodput at 130 % load at least 99 % of what it is alone"
    yield f"| {text} | {kept:.1%} | {_met(kept >= 0.99)} |"


def _met(yes: bool) -> str:
    return "met" if yes else "**missed**"


def _tables(scores: Scores) -> Iterator[str]:
    for case in CASES:
        of = f", traffic `{case.judged}`" if case.judged else ""
        yield f"### {case.title}{of}\n\n{case.says}\n"
        yield "| | TTFT p50 | p95 | by seed | ITL p95 | good | hits | balance | lost |"
        yield "|---|---:|---:|---|---:|---:|---:|---:|---:|"
        for one in scores[case.name].values():
            seeds = " / ".join(_ms(each) for each in one.ttft_p95s)
            name = f"**{one.name}**" if one.name == OURS else one.name
            yield (
                f"| {name} | {_ms(one.ttft_p50)} | {_ms(one.ttft_p95)} | {seeds} "
                f"| {_ms(one.itl_p95)} | {one.good:.1%} | {one.hits:.0%} | {one.balance:.2f} "
                f"| {one.lost:.1%} |"
            )
        yield ""


def _caches(scores: Scores, told: Scores) -> Iterator[str]:
    yield "| | TTFT p50 | told | p95 | told | hits | told |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for case in CASES:
        if case.name in told:
            ours, known = scores[case.name][OURS], told[case.name]["told"]
            yield (
                f"| {case.title} | {_ms(ours.ttft_p50)} | {_ms(known.ttft_p50)} "
                f"| {_ms(ours.ttft_p95)} | {_ms(known.ttft_p95)} "
                f"| {ours.hits:.1%} | {known.hits:.1%} |"
            )


def _priorities(protected: Priorities) -> Iterator[str]:
    yield (
        "Flow control protects an objective for the time between tokens only if it is told one:"
        " here `saturationDetector: {itlSeconds: 0.035}`, a third below the objective. Otherwise"
        " it fills servers until their KV caches or prompt queues are full.\n"
    )
    yield "| | traffic | good | TTFT p50 | p95 | ITL p95 | refused |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for name, kinds in protected.items():
        for kind, one in kinds.items():
            yield (
                f"| {name} | {kind} | {one.good:.1%} | {_ms(one.ttft_p50)} | {_ms(one.ttft_p95)} "
                f"| {_ms(one.itl_p95)} | {one.refused:.1%} |"
            )


def _scale(folder: Path) -> Iterator[str]:
    path = folder / "picker-scale.json"
    if not path.exists():
        return
    found: dict[str, Any] = json.loads(path.read_text())
    each = found["processor_s"] / found["requests"]
    yield (
        f"## Size\n\nA thousand servers and {found['requests']:,} requests"
        f" (`study/picker.py --scale {found['requests']}`) took"
        f" {found['processor_s']:.0f} s of one core:"
        f" {each * 1e6:.0f} us a request, simulation included, so a million takes about"
        f" {each * 1e6 / 60:.0f} minutes. {found['memory_mib']:,.0f} MiB ({found['machine']})."
        f" p95 TTFT was {_ms(found['ttft_p95_s'])}, hits {found['hits']:.0%}.\n"
    )


def _ms(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
