"""How far the simulator agrees with published measurements, and how fast its virtual time is.

    python study/simulator.py          everything; writes docs/results/simulator.{md,json,*.png}
    python study/simulator.py --quick  see it work: fewer requests, nothing written

Needs matplotlib (dependency group `study`). Runs in virtual time: seconds, and no GPU.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from random import Random
from statistics import fmean, median

from tidegate.simulator.fleet import Fleet, Request
from tidegate.simulator.hardware import A100_40, H100, LLAMA_8B, LLAMA_70B, Deployment, Model
from tidegate.simulator.jobs import Job
from tidegate.simulator.profiles import DEPLOYMENTS, PROFILES, Profile, of

RESULTS = Path(__file__).parent.parent / "docs" / "results"
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PROMPTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)

# Other machines and models that somebody measured, by the same arithmetic.
QWEN_8B = Model(
    name="Qwen3-8B", parameters=8.19e9, layers=36, hidden=4096, intermediate=12288, kv_heads=8
)
EXTRA = {
    "a100-40gb-8b": of(Deployment(A100_40, LLAMA_8B)),
    "h100x2-70b-kv8": of(Deployment(H100, LLAMA_70B, gpus=2, weight_bytes=1, kv_bytes=1)),
    "h100-qwen3-8b": of(Deployment(H100, QWEN_8B)),
}

# Running a workload


@dataclass(frozen=True)
class Measured:
    """What a workload came to. Seconds, and a second."""

    ttft: float
    ttft_median: float
    itl: float
    itl_median: float
    tokens_per_s: float
    requests_per_s: float
    duration: float


def summary(requests: Sequence[Request], duration: float) -> Measured:
    ttfts = [one.ttft_s for one in requests if one.ttft_s is not None]
    itls = [one.itl_s for one in requests if one.itl_s is not None]
    tokens = sum(one.tokens for one in requests)
    return Measured(
        fmean(ttfts), median(ttfts), fmean(itls), median(itls),
        tokens / duration, len(requests) / duration, duration,
    )  # fmt: skip


def closed(profile: Profile, concurrency: int, prompt: int, output: int, rounds: int) -> Measured:
    """Keep `concurrency` requests in flight, as benchmark clients do; the first round warms up.

    Lengths of answers vary by a tenth: equal ones would stay in step for ever, and their prompts
    would always meet in pairs. Real ones drift apart.
    """
    fleet, rng = Fleet([profile], scrape_interval_s=inf), Random(1)
    done: list[Request] = []
    left = concurrency * (rounds - 1)

    def ended(request: Request) -> None:
        nonlocal left
        done.append(request)
        if left > 0:
            left -= 1
            fleet.submit(0, job(), on_end=ended)

    def job() -> Job:
        return Job(prompt, max(1, round(output * (0.9 + 0.2 * rng.random()))))

    for _ in range(concurrency):
        fleet.submit(0, job(), on_end=ended)
    fleet.run()
    kept = done[concurrency:] or done
    begin = min(one.submitted_at for one in kept)
    return summary(kept, max(one.ended_at or 0 for one in kept) - begin)


def at_once(profile: Profile, jobs: Iterable[Job]) -> Measured:
    """Send everything at the beginning."""
    fleet = Fleet([profile], scrape_interval_s=inf)
    requests = [fleet.submit(0, job) for job in jobs]
    fleet.run()
    return summary(requests, fleet.now)


def poisson(profile: Profile, rate: float, jobs: Iterable[Job], seed: int = 1) -> Measured:
    """Send jobs at random times, `rate` a second on average."""
    fleet, rng, at = Fleet([profile], scrape_interval_s=inf), Random(seed), 0.0
    requests = []
    for job in jobs:
        at += rng.expovariate(rate)
        requests.append(fleet.submit(0, job, at=at))
    fleet.run()
    return summary(requests, fleet.now)


def sharegpt(count: int) -> list[Job]:
    """Return prompts and answers about as long as vLLM's 200 of ShareGPT: 214 tokens each."""
    rng = Random(7)
    return [Job(4 + int(rng.expovariate(1 / 210)), 4 + int(rng.expovariate(1 / 210)))
            for _ in range(count)]  # fmt: skip


# What others measured


@dataclass(frozen=True)
class Published:
    """One number that somebody published, and how to ask the simulator for it."""

    source: str
    profile: str
    what: str
    unit: str
    value: float
    ask: Callable[[Profile], float]
    note: str = ""


SOURCES = {
    "nim": (
        (
            "NVIDIA NIM LLMs benchmarking guide, performance page: Llama-3.3-70B-Instruct, "
            "NIM 1.8.0 (TensorRT-LLM), 2 x H100 80 GB, FP8, TP2"
        ),
        "https://docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance",
    ),
    "vllm-a100": (
        "vLLM's own performance benchmark, build 9523 (2024, about v0.6), A100-SXM4-80GB",
        "https://buildkite.com/vllm/performance-benchmark/builds/9523",
    ),
    "vllm-h200": (
        "vLLM's own performance benchmark, builds 9513 and 9515 (2024, about v0.6), H200",
        "https://buildkite.com/vllm/performance-benchmark/builds/9515",
    ),
    "musgrave": (
        "J. Musgrave, vLLM throughput-latency sweep: vLLM 0.23.0, A100-40GB, 1024 / 128 tokens",
        "https://johnmusgrave.com/p/vllm-throughput-latency-sweep-on",
    ),
    "yobitel": (
        (
            "InferenceBench recipe, concurrency sweep: vLLM 0.21.0, H100-80GB, fp16, short chats "
            "(their lengths are not given)"
        ),
        "https://yobitelcomm.github.io/bench/recipes/concurrency-sweep/",
    ),
    "qwen": (
        (
            "vLLM issue 25915: vLLM 0.10.2, Qwen3-8B in BF16, H100, `vllm bench throughput`, "
            "1024 / 2048 tokens"
        ),
        "https://github.com/vllm-project/vllm/issues/25915",
    ),
}


def published(rounds: int) -> list[Published]:
    """Return all comparisons; closed loops have so many rounds."""
    return [*_nim(rounds), *_vllm_2024(), *_single_gpus(rounds)]


NIM = (
    (1, 500, 2000, 47.77, 18.91, 52.85),
    (1, 5000, 500, 406.77, 18.58, 51.67),
    (5, 5000, 500, 546.7, 21.83, 218.48),
    (25, 5000, 500, 688.69, 38.75, 623.4),
    (50, 5000, 500, 834.51, 59.73, 814.37),
    (100, 5000, 500, 7996.25, 92.91, 917.26),
)
"""Concurrency, prompt, answer; TTFT and ITL in ms, output tokens a second."""


def _nim(rounds: int) -> Iterator[Published]:
    for concurrency, prompt, output, ttft, itl, tokens in NIM:

        def run(
            p: Profile, asked: tuple[int, int, int] = (concurrency, prompt, output)
        ) -> Measured:
            return closed(p, *asked, rounds)

        where = f"{prompt} / {output}, concurrency {concurrency}"
        note = "fitted" if concurrency == 1 else ""
        asks: tuple[tuple[str, str, float, Callable[[Profile], float]], ...] = (
            ("TTFT", "ms", ttft, lambda p, run=run: run(p).ttft * 1e3),
            ("ITL", "ms", itl, lambda p, run=run: run(p).itl * 1e3),
            ("output", "tokens/s", tokens, lambda p, run=run: run(p).tokens_per_s),
        )
        for name, unit, value, ask in asks:
            yield Published("nim", "h100x2-70b-kv8", f"{name}, {where}", unit, value, ask, note)


OLD = "v0.6 spent about 2 ms more a step on the host than vLLM does now"


def _vllm_2024() -> Iterator[Published]:
    def batch_of_8(profile: Profile) -> float:
        return at_once(profile, [Job(32, 128)] * 8).duration * 1e3

    def offline(profile: Profile) -> float:
        return at_once(profile, sharegpt(200)).requests_per_s

    def served(profile: Profile) -> Measured:
        return poisson(profile, 1.0, sharegpt(200))

    lengths = "lengths drawn with ShareGPT's means"
    for source, profile, latency, rate in (
        ("vllm-a100", "a100-8b", 1579.27, 11.0567),
        ("vllm-a100", "a100x4-70b", 3990.59, 4.78859),
        ("vllm-h200", "h200-8b", 833.421, 22.5674),
        ("vllm-h200", "h200x4-70b", 2077.53, 9.83905),
    ):
        what = "8 requests at once, 32 / 128: time"
        yield Published(source, profile, what, "ms", latency, batch_of_8, OLD)
        what = "200 of ShareGPT at once"
        yield Published(source, profile, what, "requests/s", rate, offline, lengths)
    what = "TTFT (median), ShareGPT, 1 request/s"
    http = "the simulator has no HTTP or tokenising of vLLM's"
    yield Published("vllm-h200", "h200x4-70b", what, "ms", 58.6838,
                    lambda p: served(p).ttft_median * 1e3, http)  # fmt: skip
    what = "ITL (median), ShareGPT, 1 request/s"
    yield Published("vllm-h200", "h200x4-70b", what, "ms", 15.9126,
                    lambda p: served(p).itl_median * 1e3, OLD)  # fmt: skip


def _single_gpus(rounds: int) -> Iterator[Published]:
    def output(profile: Profile, concurrency: int) -> float:
        return closed(profile, concurrency, 1024, 128, rounds).tokens_per_s

    yield Published("musgrave", "a100-40gb-8b", "one stream's decoding", "tokens/s", 75,
                    lambda p: 1 / closed(p, 1, 1024, 128, rounds).itl, "fitted")  # fmt: skip
    what = "output at concurrency 8 over that at 1"
    yield Published("musgrave", "a100-40gb-8b", what, "x", 6.6,
                    lambda p: output(p, 8) / output(p, 1),
                    "its runs may share cached prompts")  # fmt: skip
    limit = "their output fell from 16 to 64 streams: another limit than the GPU"
    for concurrency, itl, note in ((1, 6.48, "fitted"), (4, 6.59, ""), (16, 10.94, limit)):

        def median_itl(p: Profile, concurrency: int = concurrency) -> float:
            return closed(p, concurrency, 128, 128, rounds).itl_median * 1e3

        what = f"ITL (median), concurrency {concurrency}"
        yield Published("yobitel", "h100-8b", what, "ms", itl, median_itl, note)
    yield Published("qwen", "h100-qwen3-8b", "output, 1000 requests at once", "tokens/s", 5408.88,
                    lambda p: at_once(p, [Job(1024, 2048)] * 1000).tokens_per_s,
                    "another model of that size")  # fmt: skip


# Virtual time


@dataclass(frozen=True)
class Speed:
    """How fast a fleet's virtual time was."""

    profile: str
    servers: int
    requests_per_s: float
    """Of the whole fleet."""
    prompt: int
    output: int
    batch: float
    """Mean sequences in a server's batch."""
    tokens_per_s: float
    routing: str
    factor: float
    """Virtual seconds in a second of processor time."""
    us_per_request: float


def speed(profile: str, rate: float, prompt: int, output: int, routing: str, seconds: float,
          servers: int = 100) -> Speed:  # fmt: skip
    """Load a fleet for so many virtual seconds; take the processor's time, not the wall's."""
    interval = inf if routing == "round robin" else 0.05
    fleet = Fleet([PROFILES[profile]] * servers, seed=1, scrape_interval_s=interval)
    rng = Random(2)
    ended: list[Request] = []
    count, busy = 0, 0.0

    def choose() -> int:
        if routing == "round robin":
            return count % servers
        one, other = rng.randrange(servers), rng.randrange(servers)
        views = fleet.snapshot(one), fleet.snapshot(other)
        loads = [view.running + view.waiting if view else 0 for view in views]
        return one if loads[0] <= loads[1] else other

    def arrive() -> None:
        nonlocal count
        count += 1
        job = Job(1 + int(rng.expovariate(1 / prompt)), 1 + int(rng.expovariate(1 / output)))
        fleet.submit(choose(), job, on_end=ended.append)
        at = fleet.now + rng.expovariate(rate)
        if at < seconds:
            fleet.call_at(at, arrive)

    fleet.call_at(0.0, arrive)
    begin = time.process_time()
    fleet.run(seconds)
    took = time.process_time() - begin
    busy = sum((one.ended_at or seconds) - one.submitted_at for one in ended) / seconds / servers
    tokens = sum(one.tokens for one in ended) / seconds
    return Speed(profile, servers, rate, prompt, output, busy, tokens, routing,
                 seconds / took, took / count * 1e6)  # fmt: skip


SPEEDS = (
    ("h100x2-70b", 10.0, 500, 1000, "round robin"),
    ("h100x2-70b", 25.0, 500, 1000, "round robin"),
    ("h100x2-70b", 25.0, 500, 1000, "two choices by scraped load"),
    ("h100x2-70b", 100.0, 500, 1000, "round robin"),
    ("a100x4-70b", 20.0, 500, 250, "two choices by scraped load"),
    ("l4-8b", 20.0, 500, 250, "two choices by scraped load"),
    ("h100-8b", 25.0, 500, 250, "two choices by scraped load"),
    ("h100-8b", 500.0, 500, 250, "round robin"),
)

# The page


def compare(rows: list[Published]) -> list[tuple[Published, float]]:
    profiles = {**PROFILES, **EXTRA}
    return [(one, one.ask(profiles[one.profile])) for one in rows]


def curves(rounds: int) -> dict[str, dict[str, list[tuple[float, Measured]]]]:
    """Return each profile's course over batch size (512 / 256) and over prompt length."""
    found = {}
    for name in DEPLOYMENTS:
        profile = PROFILES[name]
        by_batch = [(n, closed(profile, n, 512, 256, rounds)) for n in BATCHES]
        by_prompt = [(n, closed(profile, 1, n, 64, 3)) for n in PROMPTS]
        found[name] = {"batch": by_batch, "prompt": by_prompt}
    return found


def plot_curves(found: dict[str, dict[str, list[tuple[float, Measured]]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    panels = (
        ("batch", "concurrency (512 / 256 tokens)", "between tokens, ms", lambda m: m.itl * 1e3),
        ("batch", "concurrency (512 / 256 tokens)", "output tokens/s", lambda m: m.tokens_per_s),
        ("batch", "concurrency (512 / 256 tokens)", "first token, ms", lambda m: m.ttft * 1e3),
        ("prompt", "prompt tokens, one stream", "first token, ms", lambda m: m.ttft * 1e3),
    )
    for axis, (kind, x, y, get) in zip(axes.flat, panels, strict=True):
        for name, both in found.items():
            points = [(n, get(m)) for n, m in both[kind]]
            axis.plot(*zip(*points, strict=True), marker="o", ms=3, lw=1.4, label=name)
        axis.set(xlabel=x, ylabel=y, xscale="log", yscale="log")
        axis.grid(alpha=0.25)
    axes[0, 0].legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=110)


def plot_published(rows: list[tuple[Published, float]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for source in SOURCES:
        some = [(one.value, value) for one, value in rows if one.source == source]
        left.scatter(*zip(*some, strict=True), s=22, label=source)
    left.axline((10, 10), (1000, 1000), color="grey", lw=0.8)
    for factor in (0.8, 1.25):
        left.axline((10, 10 * factor), (1000, 1000 * factor), color="grey", lw=0.6, ls=":")
    left.set(xscale="log", yscale="log", xlabel="published (ms, tokens/s or requests/s)",
             ylabel="simulated", title="all comparisons; dotted: -20 %, +25 %")  # fmt: skip
    left.legend(fontsize=8)
    nim = [(one, value) for one, value in rows if one.source == "nim" and "5000" in one.what]
    for name, colour in (("TTFT", "tab:blue"), ("ITL", "tab:orange")):
        some = [(int(one.what.rsplit(" ", 1)[1]), one.value, value)
                for one, value in nim if one.what.startswith(name)]  # fmt: skip
        xs = [x for x, _, _ in some]
        right.plot(xs, [p for _, p, _ in some], "o-", color=colour, label=f"{name}, published")
        right.plot(xs, [s for _, _, s in some], "x--", color=colour, label=f"{name}, simulated")
    right.set(xscale="log", yscale="log", xlabel="concurrency", ylabel="ms",
              title="Llama 70B, FP8, 2 x H100, 5000 / 500 tokens")  # fmt: skip
    right.legend(fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=110)


def page(
    rows: list[tuple[Published, float]],
    speeds: list[Speed],
    found: dict[str, dict[str, list[tuple[float, Measured]]]],
) -> str:
    fits = [value / one.value for one, value in rows if one.note != "fitted"]
    within = sum(0.8 <= ratio <= 1.25 for ratio in fits)
    fast = max(one.factor for one in speeds)
    cost = median(one.us_per_request for one in speeds)
    parts = [
        "# What the simulator's times are worth",
        "",
        (
            "Written by `make study-simulator` (study/simulator.py), in virtual time. How profiles "
            "are made is in [the simulator's page](../simulator.md#profiles); all numbers of GPUs "
            "and models are in `src/tidegate/simulator/hardware.py`."
        ),
        "",
        (
            f"**In short:** {within} of {len(fits)} published numbers that nothing was fitted to "
            f"are met within -20 % and +25 %. A fleet of 100 servers ran up to {fast:,.0f} times "
            f"as fast as real time; a request costs about {cost:.0f} us however many tokens it "
            f"has, so 1,000 times holds up to {1000 / cost:.0f} requests a second of the whole "
            "fleet."
        ),
        "",
        "## Beside published measurements",
        "",
        "![Simulated against published](simulator.published.png)",
        "",
        "| source | profile | what | published | simulated | ratio | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for one, value in rows:
        parts.append(
            f"| {one.source} | `{one.profile}` | {one.what} | {one.value:,.4g} {one.unit} | "
            f"{value:,.4g} | {value / one.value:.2f} | {one.note} |"
        )
    parts += ["", "Lengths are prompt / answer tokens. Sources:", ""]
    parts += [f"- **{name}**: {text}, <{url}>" for name, (text, url) in SOURCES.items()]
    parts += ["", HONESTY, "", "## Over batch size and prompt length", ""]
    parts += ["![Curves](simulator.curves.png)", "", *_curve_table(found), ""]
    parts += ["## Virtual time", "", *_speed_table(speeds), ""]
    return "\n".join(parts)


HONESTY = """What was fitted and what was not:

- Fitted by hand, once for all profiles: 85 % of the memory's bandwidth in decoding, 0.8 ms a step
  on the host (to musgrave's and yobitel's single streams), 46 % of the FP8 compute in prefill and
  70 us a layer for tensor parallelism (to nim's single streams). The A100's, H200's and 70B BF16
  numbers then follow from data sheets; nothing was fitted to them.
- Not backed by any measurement that was found: all of `l4-8b` (its compute share is a guess for a
  72 W card), BF16 prefill at 50 % of peak, what adapters take to load.
- The builds of vLLM's own benchmark are of 2024, when vLLM spent about 2 ms more a step on the
  host. The profiles are of today's vLLM, so they are faster there, most where steps are short.
- Not modelled: kernels that get better with batch size, CUDA graph boundaries, speculative
  decoding, noise. A real GPU's latencies spread; these don't."""


def _curve_table(found: dict[str, dict[str, list[tuple[float, Measured]]]]) -> list[str]:
    lines = [
        "| profile | ITL, 1 stream | ITL, 64 | output, 64 | TTFT, 64 | TTFT, 512 tokens | 8192 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, both in found.items():
        batch, prompt = dict(both["batch"]), dict(both["prompt"])
        lines.append(
            f"| `{name}` | {batch[1].itl * 1e3:.1f} ms | {batch[64].itl * 1e3:.1f} ms | "
            f"{batch[64].tokens_per_s:,.0f} tokens/s | {batch[64].ttft * 1e3:,.0f} ms | "
            f"{prompt[512].ttft * 1e3:,.0f} ms | {prompt[8192].ttft * 1e3:,.0f} ms |"
        )
    return lines


def _speed_table(speeds: list[Speed]) -> list[str]:
    lines = [
        (
            "Poisson arrivals, exponential lengths, 100 servers on one event heap in one process. "
            "Scrapes every 50 ms where routing reads them. Processor time, so that what else runs "
            f"on the machine doesn't count ({platform.machine()}, "
            f"Python {platform.python_version()})."
        ),
        "",
        (
            "| profile | requests/s | prompt / answer | batch | tokens/s | routing | us a request "
            "| times real time |"
        ),
        "|---|---:|---|---:|---:|---|---:|---:|",
    ]
    lines += [
        f"| `{one.profile}` | {one.requests_per_s:g} | {one.prompt} / {one.output} | "
        f"{one.batch:.1f} | {one.tokens_per_s:,.0f} | {one.routing} | {one.us_per_request:.0f} | "
        f"**{one.factor:,.0f}** |"
        for one in speeds
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows = compare(published(2 if quick else 12))
    for one, value in rows:
        print(f"{one.profile:14} {one.what:45} {one.value:10.4g} {value:10.4g} "
              f"{value / one.value:5.2f}")  # fmt: skip
    speeds = []
    for scenario in SPEEDS[:2] if quick else SPEEDS:
        seconds = max(60.0 if quick else 300.0, 5000 / scenario[1])
        best = max((speed(*scenario, seconds) for _ in range(1 if quick else 3)),
                   key=lambda one: one.factor)  # fmt: skip
        speeds.append(best)
        print(f"{best.profile:14} {best.requests_per_s:6g}/s batch {best.batch:5.1f} "
              f"{best.routing:28} {best.us_per_request:5.1f} us {best.factor:8,.0f} x")  # fmt: skip
    if quick:
        return
    found = curves(3)
    RESULTS.mkdir(exist_ok=True)
    plot_curves(found, RESULTS / "simulator.curves.png")
    plot_published(rows, RESULTS / "simulator.published.png")
    (RESULTS / "simulator.md").write_text(page(rows, speeds, found))
    numbers = {
        "published": [
            {**{k: v for k, v in asdict(one).items() if k != "ask"}, "simulated": value}
            for one, value in rows
        ],
        "speeds": [asdict(one) for one in speeds],
        "curves": {
            name: {kind: [[n, asdict(m)] for n, m in points] for kind, points in both.items()}
            for name, both in found.items()
        },
    }
    (RESULTS / "simulator.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print(f"wrote {RESULTS}/simulator.md")


if __name__ == "__main__":
    main()
