"""Which metrics say what, per engine: one table, and a sample read by it.

Names: vLLM `vllm/v1/metrics/loggers.py` (KV usage was `gpu_cache_usage_perc` before 0.10),
SGLang `srt/metrics/collector.py`, TensorRT-LLM `tensorrt_llm/metrics/collector.py`. A server
that runs several engines (data parallel) has a series for each: counts are added, of the
KV-cache usage the fullest counts, for it is the one that preempts first.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.picker.state import Adapters, Sample
from tidegate.scrape.prometheus import find_series, parse_labels

MAX_COUNT: Final = 1_000_000
"""A server that says it has more requests than that is broken, and counts as this busy."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine's metrics are and what they are called, the newest name first."""

    waiting: tuple[bytes, ...]
    running: tuple[bytes, ...]
    kv_usage: tuple[bytes, ...]
    adapters: bytes | None = None
    tokens: tuple[bytes, ...] = ()
    """Counters of prompt and of generated tokens: all of them are added."""
    looked_up: tuple[bytes, ...] = ()
    """Counters of prompt tokens that were looked up in the prefix cache."""
    found: tuple[bytes, ...] = ()
    """Counters of those that were there."""
    path: str = "/metrics"


ENGINES: Final[Mapping[str, Engine]] = {
    "vllm": Engine(
        waiting=(b"vllm:num_requests_waiting",),
        running=(b"vllm:num_requests_running",),
        kv_usage=(b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
        adapters=b"vllm:lora_requests_info",
        tokens=(b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total"),
        looked_up=(b"vllm:prefix_cache_queries_total", b"vllm:gpu_prefix_cache_queries_total"),
        found=(b"vllm:prefix_cache_hits_total", b"vllm:gpu_prefix_cache_hits_total"),
    ),
    "sglang": Engine(
        waiting=(b"sglang:num_queue_reqs",),
        running=(b"sglang:num_running_reqs",),
        kv_usage=(b"sglang:token_usage",),
        tokens=(b"sglang:prompt_tokens_total", b"sglang:generation_tokens_total"),
        looked_up=(b"sglang:prompt_tokens_total",),
        found=(b"sglang:cached_tokens_total",),
    ),
    "trtllm": Engine(
        waiting=(b"trtllm_num_requests_waiting",),
        running=(b"trtllm_num_requests_running",),
        kv_usage=(b"trtllm_kv_cache_utilization",),
        # Its /metrics is a JSON list of iterations, emptied by whoever reads it.
        path="/prometheus/metrics",
    ),
}

ANY: Final = Engine(
    waiting=tuple(name for engine in ENGINES.values() for name in engine.waiting),
    running=tuple(name for engine in ENGINES.values() for name in engine.running),
    kv_usage=tuple(name for engine in ENGINES.values() for name in engine.kv_usage),
    adapters=ENGINES["vllm"].adapters,
)
"""For servers whose engine nobody named: the names of all differ, so the first found counts."""


def engine_named(name: str) -> Engine:
    """Return the engine called `name`, or `ANY`."""
    return ENGINES.get(name, ANY)


def read_sample(text: bytes, engine: Engine) -> Sample | None:
    """Return what an exposition says, or None if it has no metric that we know."""
    waiting = _values(text, engine.waiting)
    running = _values(text, engine.running)
    kv_usage = _values(text, engine.kv_usage)
    if not (waiting or running or kv_usage):
        return None
    return Sample(
        waiting=_count(waiting),
        running=_count(running),
        kv_usage=min(1.0, max(kv_usage, default=0.0)),
        adapters=_adapters(text, engine.adapters) if engine.adapters else None,
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """What a server has done since it started; None where it doesn't say."""

    tokens: float | None
    """Prompt and generated tokens."""
    looked_up: float | None
    found: float | None


def read_totals(text: bytes, engine: Engine) -> Totals:
    """Return what an exposition says of the work done so far."""
    counted = [sum(values) for name in engine.tokens if (values := _values(text, (name,)))]
    looked_up, found = _values(text, engine.looked_up), _values(text, engine.found)
    return Totals(
        tokens=sum(counted) if counted else None,
        looked_up=sum(looked_up) if looked_up else None,
        found=sum(found) if found else None,
    )


def _values(text: bytes, names: Iterable[bytes]) -> list[float]:
    """Return the values of the first name that has any; what can't be true is left out."""
    for name in names:
        values = [s.value for s in find_series(text, name) if 0.0 <= s.value < math.inf]
        if values:
            return values
    return []


def _count(values: list[float]) -> int:
    return int(min(sum(values), MAX_COUNT))


def _adapters(text: bytes, name: bytes) -> Adapters | None:
    """Return the newest of the series: old label sets stay exposed for ever.

    The value is the unix time of the last change (vLLM: `lora_requests_info`).
    """
    series = [s for s in find_series(text, name) if math.isfinite(s.value)]
    if not series:
        return None
    labels = parse_labels(max(series, key=lambda one: one.value).labels)
    limit = labels.get("max_lora", "")
    return Adapters(
        limit=int(limit) if limit.isdecimal() and len(limit) < 7 else 0,
        running=_names(labels.get("running_lora_adapters", "")),
        waiting=_names(labels.get("waiting_lora_adapters", "")),
    )


def _names(joined: str) -> frozenset[str]:
    return frozenset(name.strip() for name in joined.split(",") if name.strip())
