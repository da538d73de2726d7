"""vLLM's metrics: what they are called, what they count, how they are written.

Names, labels and buckets are those of vLLM's V1 engine (`vllm/v1/metrics/loggers.py`), one
`engine` and the base model's name as labels. Written by hand: a scrape every 50 ms from every
gateway worker must cost next to nothing.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from tidegate.simulator.engine import Engine
from tidegate.simulator.jobs import Progress
from tidegate.simulator.settings import Settings

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

TTFT_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
)  # fmt: skip
ITL_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_BUCKETS: Final = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0,
    240.0, 480.0, 960.0, 1920.0, 7680.0,
)  # fmt: skip
FINISH_REASONS: Final = ("stop", "length", "abort", "error")
MOST_ADAPTER_SETS: Final = 1000
"""Sets of adapters that are shown; vLLM has no limit, but a simulator runs for weeks."""


class Histogram:
    """Counts of values by upper bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value` so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Yield the cumulative buckets, the count and the sum."""
        running = 0
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {running}'
        yield f"{name}_count{{{labels}}} {running}"
        yield f"{name}_sum{{{labels}}} {self.total}"


class Metrics:
    """What the server counts beside the engine's own totals."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.finished = Counter(dict.fromkeys(FINISH_REASONS, 0))
        self.ttft = Histogram(TTFT_BUCKETS)
        self.itl = Histogram(ITL_BUCKETS)
        self.e2e = Histogram(REQUEST_BUCKETS)
        self.queue = Histogram(REQUEST_BUCKETS)
        self._labels = f'engine="0",model_name="{_escaped(settings.models[0])}"'
        self._adapters_seen: dict[tuple[str, str], float] = {}
        """When which adapters last ran and waited; the latest at the end."""

    def progress(self, made: Progress) -> None:
        """Count tokens that the engine made."""
        sequence = made.sequence
        if made.gap is not None:
            self.itl.observe(made.gap, made.tokens)
        elif sequence.admitted_at is not None:
            self.ttft.observe(made.at - sequence.arrived_at)
            self.queue.observe(sequence.admitted_at - sequence.arrived_at)
        if made.last:
            self.e2e.observe(made.at - sequence.arrived_at)

    def render(self, engine: Engine, wall: float) -> bytes:
        """Return the whole page; `wall` is the time in seconds since the epoch."""
        blocks = (*self._gauges(engine), *self._counters(engine), *self._histograms())
        lines = [line for block in blocks for line in block]
        lines += self._adapters(wall)
        return "\n".join((*lines, "")).encode()

    def _gauges(self, engine: Engine) -> Iterator[Iterable[str]]:
        labels, profile = self._labels, engine.profile
        for name, value, text in (
            ("num_requests_running", len(engine.running), "Requests in the batch."),
            ("num_requests_waiting", len(engine.waiting), "Requests waiting to be run."),
            ("kv_cache_usage_perc", engine.cache.usage, "KV-cache usage; 1 is 100 percent."),
        ):
            yield _series(f"vllm:{name}", "gauge", text, [(labels, value)])
        info = (
            f'block_size="{profile.block_size}",enable_prefix_caching="True",engine="0",'
            f'num_gpu_blocks="{profile.blocks}"'
        )
        yield _series("vllm:cache_config_info", "gauge", "The KV cache's size.", [(info, 1.0)])

    def _counters(self, engine: Engine) -> Iterator[Iterable[str]]:
        labels, totals = self._labels, engine.totals
        for name, value, text in (
            ("prefix_cache_queries", totals.prefix_queries, "Prompt tokens looked up."),
            ("prefix_cache_hits", totals.prefix_hits, "Prompt tokens found in the cache."),
            ("num_preemptions", totals.preemptions, "Requests pushed out of the batch."),
            ("prompt_tokens", totals.prompt_tokens, "Prefilled tokens."),
            ("generation_tokens", totals.generated_tokens, "Generated tokens."),
        ):
            yield _series(f"vllm:{name}_total", "counter", text, [(labels, value)])
        by_reason = [(f'{labels},finished_reason="{why}"', n) for why, n in self.finished.items()]
        yield _series("vllm:request_success_total", "counter", "Finished requests.", by_reason)

    def _histograms(self) -> Iterator[Iterable[str]]:
        for name, histogram, text in (
            ("time_to_first_token_seconds", self.ttft, "Arrival to first token."),
            ("inter_token_latency_seconds", self.itl, "Time between tokens."),
            ("e2e_request_latency_seconds", self.e2e, "Arrival to last token."),
            ("request_queue_time_seconds", self.queue, "Time spent waiting."),
        ):
            yield _head(f"vllm:{name}", "histogram", text)
            yield histogram.lines(f"vllm:{name}", self._labels)

    def saw_adapters(self, engine: Engine, wall: Callable[[], float]) -> None:
        """Note which adapters run and wait, as vLLM does after each step.

        Args:
            engine: After a step.
            wall: Returns the time in seconds since the epoch.

        """
        running, seen = engine.adapters.in_use, self._adapters_seen
        if not running and not seen:  # nobody ever asked for one
            return
        waiting = dict.fromkeys(one.job.adapter for one in engine.waiting if one.job.adapter)
        now = (_listed(running), _listed(waiting))
        latest = next(reversed(seen.values()), 0.0)
        seen.pop(now, None)
        seen[now] = max(wall(), latest + 1e-6)  # two of the same time couldn't be told apart
        if len(seen) > MOST_ADAPTER_SETS:
            del seen[next(iter(seen))]

    def _adapters(self, wall: float) -> Iterator[str]:
        """Yield every set of adapters that was ever seen: vLLM's gauge keeps them all."""
        text = "Adapters of running and waiting requests."
        yield from _head("vllm:lora_requests_info", "gauge", text)
        for (running, waiting), at in (self._adapters_seen or {("", ""): wall}).items():
            info = (
                f'max_lora="{self.settings.max_loras}",running_lora_adapters="{running}",'
                f'waiting_lora_adapters="{waiting}"'
            )
            yield f"vllm:lora_requests_info{{{info}}} {at:.6f}"


def _listed(names: Iterable[str]) -> str:
    return ",".join(_escaped(name) for name in names)


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _series(
    name: str, kind: str, text: str, values: Iterable[tuple[str, float]]
) -> tuple[str, ...]:
    return *_head(name, kind, text), *(f"{name}{{{labels}}} {value}" for labels, value in values)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
