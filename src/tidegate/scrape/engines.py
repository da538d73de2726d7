"""Which metrics say what, per engine: one table, and a sample read by it.

Names: vLLM `vllm/v1/metrics/loggers.py` (KV usage was `gpu_cache_usage_perc` before 0.10),
SGLang `srt/metrics/collector.py`, TensorRT-LLM `tensorrt_llm/metrics/collector.py`, Triton's
TensorRT-LLM backend `custom_metrics_reporter`. A name may end in one label that the series must
have: `name{label="value"}`. A server that runs several engines (data parallel) has a series for
each: counts are added, of the KV-cache usage the fullest counts, for it is the one that preempts
first.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from tidegate.picker.state import Adapters, Sample
from tidegate.scrape.prometheus import find_series, parse_labels

MAX_COUNT: Final = 1_000_000
"""A server that says it has more requests than that is broken, and counts as this busy."""

MAX_TOKENS: Final = 1_000_000_000
"""The same for a KV cache."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine's metrics are and what they are called, the newest name first."""

    waiting: tuple[bytes, ...]
    running: tuple[bytes, ...]
    kv_usage: tuple[bytes, ...]
    adapters: bytes | None = None
    resident: bytes | None = None
    """Adapters by `adapter_name` and `level`, where the server says which it holds."""
    blocks: tuple[bytes, ...] = ()
    """Gauges whose product is the KV cache's size in tokens: blocks, and tokens of one."""
    cache_info: tuple[bytes, bytes, bytes] | None = None
    """A series whose labels say so: its name, the labels of blocks and of tokens of one."""
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
        resident=b"vllm:lora_adapter_loaded",
        cache_info=(b"vllm:cache_config_info", b"num_gpu_blocks", b"block_size"),
        tokens=(b"vllm:prompt_tokens_total", b"vllm:generation_tokens_total"),
        looked_up=(b"vllm:prefix_cache_queries_total", b"vllm:gpu_prefix_cache_queries_total"),
        found=(b"vllm:prefix_cache_hits_total", b"vllm:gpu_prefix_cache_hits_total"),
    ),
    "sglang": Engine(
        waiting=(b"sglang:num_queue_reqs",),
        running=(b"sglang:num_running_reqs",),
        kv_usage=(b"sglang:token_usage",),
        cache_info=(b"sglang:cache_config_info", b"num_pages", b"page_size"),
        tokens=(b"sglang:prompt_tokens_total", b"sglang:generation_tokens_total"),
        looked_up=(b"sglang:prompt_tokens_total",),
        found=(b"sglang:cached_tokens_total",),
    ),
    "trtllm": Engine(
        waiting=(b"trtllm_num_requests_waiting",),
        running=(b"trtllm_num_requests_running",),
        kv_usage=(b"trtllm_kv_cache_utilization",),
        blocks=(b"trtllm_kv_cache_max_blocks", b"trtllm_kv_cache_tokens_per_block"),
        # Its /metrics is a JSON list of iterations, emptied by whoever reads it.
        path="/prometheus/metrics",
    ),
    "triton": Engine(
        waiting=(b'nv_trt_llm_request_metrics{request_type="waiting"}',),
        running=(b'nv_trt_llm_request_metrics{request_type="scheduled"}',),
        kv_usage=(b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}',),
        blocks=(
            b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max"}',
            b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per"}',
        ),
    ),
}

ANY: Final = Engine(
    waiting=tuple(name for engine in ENGINES.values() for name in engine.waiting),
    running=tuple(name for engine in ENGINES.values() for name in engine.running),
    kv_usage=tuple(name for engine in ENGINES.values() for name in engine.kv_usage),
    adapters=ENGINES["vllm"].adapters,
    resident=ENGINES["vllm"].resident,
    cache_info=ENGINES["vllm"].cache_info,
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
        resident=_resident(text, engine.resident) if engine.resident else None,
        capacity=_capacity(text, engine),
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
        name, _, label = name.rstrip(b"}").partition(b"{")
        series = (s for s in find_series(text, name) if label in s.labels)
        values = [s.value for s in series if 0.0 <= s.value < math.inf]
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


def _resident(text: bytes, name: bytes) -> frozenset[str] | None:
    """Return the adapters in the accelerator's memory; None if the server doesn't say."""
    series = list(find_series(text, name))
    if not series:
        return None
    labels = [parse_labels(one.labels) for one in series if one.value > 0]
    return frozenset(
        one.get("adapter_name", "") for one in labels if "gpu" in one.get("level", "").lower()
    )


def _capacity(text: bytes, engine: Engine) -> int:
    """Return how many tokens the KV cache holds, all engines of a server together; 0: unknown."""
    if engine.blocks:
        blocks, tokens = (_values(text, (name,)) for name in engine.blocks)
        return int(min(sum(blocks) * tokens[0], MAX_TOKENS)) if blocks and tokens else 0
    if engine.cache_info is None:
        return 0
    name, blocks_label, tokens_label = engine.cache_info
    found = [parse_labels(one.labels) for one in find_series(text, name)]
    sizes = [_digits(one, blocks_label) * _digits(one, tokens_label) for one in found]
    return min(sum(sizes), MAX_TOKENS)


def _digits(labels: Mapping[str, str], name: bytes) -> int:
    value = labels.get(name.decode(), "")
    return int(value) if value.isdecimal() and len(value) < 10 else 0


def _names(joined: str) -> frozenset[str]:
    return frozenset(name.strip() for name in joined.split(",") if name.strip())
