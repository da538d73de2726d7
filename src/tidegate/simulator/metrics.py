"""vLLM's metrics: what they are called, what they count, in which order they stand.

Names, labels and buckets are those that vLLM 0.32 was seen to answer with
(`vllm/v1/metrics/loggers.py`): one `engine` and the base model's name as labels. What a
simulator doesn't have (images, tiers of caches, sleep) is there and stays 0, since dashboards
and gateways ask for it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tidegate.simulator.engine import Engine
from tidegate.simulator.exposition import Family, Histogram, escaped, one_two_five
from tidegate.simulator.jobs import Progress
from tidegate.simulator.settings import Settings

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
STEP_BUCKETS: Final = (1.0, *(float(8 << power) for power in range(12)))
PREEMPTION_BUCKETS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
FINISH_REASONS: Final = ("stop", "length", "abort", "error", "repetition")
TIERS: Final = ("device", "host", "p2p", "disk", "external_unspecified")
CACHE_INFO: Final = ",".join(
    f'{name}="{value}"'
    for name, value in (
        ("_block_size_resolved", "True"),
        ("block_size", "{block}"),
        ("cache_dtype", "auto"),
        ("cache_hit_alignment_tokens", "None"),
        ("effective_attention_block_size", "{block}"),
        ("enable_mamba_shared_prefix_checkpoint", "False"),
        ("enable_prefix_caching", "True"),
        ("engine", "0"),
        ("gpu_memory_utilization", "0.92"),
        ("hash_block_size", "None"),
        ("is_attention_free", "False"),
        ("kv_cache_dtype_skip_layers", "[]"),
        ("kv_cache_layout", "None"),
        ("kv_cache_max_concurrency", "None"),
        ("kv_cache_memory_bytes", "None"),
        ("kv_cache_size_tokens", "{tokens}"),
        ("kv_offloading_backend", "native"),
        ("kv_offloading_size", "None"),
        ("kv_sharing_fast_prefill", "False"),
        ("mamba_block_size", "None"),
        ("mamba_cache_dtype", "auto"),
        ("mamba_cache_mode", "none"),
        ("mamba_page_size_padded", "None"),
        ("mamba_ssm_cache_dtype", "float32"),
        ("num_cpu_blocks", "None"),
        ("num_gpu_blocks", "{blocks}"),
        ("num_gpu_blocks_override", "None"),
        ("prefix_cache_retention_interval", "0"),
        ("prefix_caching_hash_algo", "sha256"),
        ("prefix_match_unit", "None"),
        ("replayssm_buffer_len", "16"),
        ("skip_page_size_padded", "None"),
        ("sliding_window", "None"),
        ("swa_bounded_replay", "True"),
        ("use_kda_recoverssm", "False"),
        ("use_replayssm", "False"),
        ("user_specified_block_size", "False"),
    )
)
"""`vllm:cache_config_info` has the whole configuration as labels."""
MOST_ADAPTER_SETS: Final = 1000
"""Sets of adapters that are shown; vLLM has no limit, but a simulator runs for weeks."""


class Metrics:
    """What the server counts beside the engine's own totals.

    Args:
        settings: The server's.
        created: When it began to count, in seconds since the epoch.

    """

    def __init__(self, settings: Settings, created: float = 0.0) -> None:
        self.settings = settings
        self.finished = Counter(dict.fromkeys(FINISH_REASONS, 0))
        self._model = f'model_name="{escaped(settings.models[0])}"'
        self._labels = f'engine="0",{self._model}'
        self._created = created
        self._families: dict[str, Family] = {}
        self._histograms: list[Histogram] = []
        self._make_histograms()
        self._stepped = 0
        """Tokens of the engine that were counted by steps."""
        self._adapters_seen: dict[tuple[str, str], float] = {}
        """When which adapters last ran and waited; the latest at the end."""

    def _make_histograms(self) -> None:
        tokens = one_two_five(self.settings.profile.max_model_len)
        new = self._histogram
        self.prompt = new("request_prompt_tokens", "Prefilled tokens.", tokens)
        self.generated = new("request_generation_tokens", "Generated tokens.", tokens)
        self.step = new("iteration_tokens_total", "Tokens of an engine's step.", STEP_BUCKETS)
        longest = "The longest of a request's choices."
        self.longest = new("request_max_num_generation_tokens", longest, tokens)
        self.choices = new("request_params_n", "Choices asked for.", one_two_five(20))
        self.limits = new("request_params_max_tokens", "Limits asked for.", tokens)
        self.ttft = new("time_to_first_token_seconds", "Arrival to first token.", TTFT_BUCKETS)
        self.itl = new("inter_token_latency_seconds", "Time between tokens.", ITL_BUCKETS)
        each = "Mean time between a request's tokens."
        self.per_token = new("request_time_per_output_token_seconds", each, ITL_BUCKETS)
        times = REQUEST_BUCKETS
        self.e2e = new("e2e_request_latency_seconds", "Arrival to last token.", times)
        self.queue = new("request_queue_time_seconds", "Time spent waiting.", times)
        self.inference = new("request_inference_time_seconds", "Time spent running.", times)
        self.prefill = new("request_prefill_time_seconds", "Time spent in prefill.", times)
        self.decode = new("request_decode_time_seconds", "Time spent decoding.", times)
        pushed = "How often it was pushed out."
        self.preempted = new("request_num_preemptions", pushed, PREEMPTION_BUCKETS)
        computed = "Prompt tokens that were not in the cache."
        self.computed = new("request_prefill_kv_computed_tokens", computed, tokens)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...]) -> Histogram:
        made = Histogram(f"vllm:{name}", text, bounds, self._labels, self._created)
        self._histograms.append(made)
        return made

    # What happens

    def progress(self, made: Progress) -> None:
        """Count tokens that the engine made."""
        sequence = made.sequence
        if made.gap is not None:
            self.itl.observe(made.gap, made.tokens)
        elif sequence.admitted_at is not None:
            self.ttft.observe(made.at - sequence.arrived_at)
            self.queue.observe(sequence.admitted_at - sequence.arrived_at)
        if made.last:
            self._ended(made)

    def _ended(self, made: Progress) -> None:
        sequence, job = made.sequence, made.sequence.job
        first = sequence.first_token_at or made.at
        admitted = sequence.arrived_at if sequence.admitted_at is None else sequence.admitted_at
        self.e2e.observe(made.at - sequence.arrived_at)
        self.inference.observe(made.at - admitted)
        self.prefill.observe(first - admitted)
        self.decode.observe(made.at - first)
        self.prompt.observe(job.prompt_tokens)
        self.generated.observe(job.output_tokens)
        self.computed.observe(job.prompt_tokens - sequence.cached_tokens)
        self.preempted.observe(sequence.preemptions)
        if job.output_tokens > 1:
            self.per_token.observe((made.at - first) / (job.output_tokens - 1))

    def answered(self, choices: int, limit: int | None, longest: int) -> None:
        """Count a request that ended well.

        Args:
            choices: How many it asked for.
            limit: How many tokens it allowed.
            longest: The tokens of its longest choice.

        """
        self.choices.observe(choices)
        self.longest.observe(longest)
        if limit is not None:
            self.limits.observe(limit)

    def stepped(self, engine: Engine) -> None:
        """Count the tokens of steps that are over."""
        totals = engine.totals
        made = totals.generated_tokens + totals.prompt_tokens - totals.prefix_hits
        if made > self._stepped:
            self.step.observe(made - self._stepped)
            self._stepped = made

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

    # The page

    def render(self, engine: Engine, wall: float) -> bytes:
        """Return the whole page; `wall` is the time in seconds since the epoch."""
        blocks = [*self._gauges(engine), *self._counters(engine)]
        blocks += [each.page() for each in self._histograms]
        return "".join((*blocks, self._adapters(wall))).encode()

    def _gauges(self, engine: Engine) -> Iterator[str]:
        labels, profile = self._labels, engine.profile
        waiting, passed = len(engine.waiting), engine.passed_over
        gauge = self._gauge
        yield gauge("num_requests_running", "Requests in the batch.", len(engine.running))
        yield gauge("num_requests_waiting", "Requests waiting to be run.", waiting)
        reasons = (("capacity", waiting - passed), ("deferred", passed))
        yield self._page(
            "num_requests_waiting_by_reason",
            "gauge",
            "Requests waiting, by why: no room, or no slot for their adapter.",
            [(f'{labels},reason="{why}"', float(count)) for why, count in reasons],
        )
        states = (("awake", 1.0), ("weights_offloaded", 0.0), ("discard_all", 0.0))
        yield self._page(
            "engine_sleep_state",
            "gauge",
            "Whether it sleeps: it never does.",
            [(f'{labels},sleep_state="{state}"', value) for state, value in states],
        )
        yield gauge("kv_cache_usage_perc", "KV-cache usage; 1 is 100 percent.", engine.cache.usage)
        info = CACHE_INFO.format(
            block=profile.block_size,
            blocks=profile.blocks,
            tokens=profile.blocks * profile.block_size,
        )
        yield self._page("cache_config_info", "gauge", "The KV cache's size.", [(info, 1.0)])

    def _counters(self, engine: Engine) -> Iterator[str]:
        labels, totals, count = self._labels, engine.totals, self._counter
        hits, prompts = totals.prefix_hits, totals.prompt_tokens
        yield count("prefix_cache_queries", "Prompt tokens looked up.", totals.prefix_queries)
        yield count("prefix_cache_hits", "Prompt tokens found in the cache.", hits)
        for name in ("external_prefix_cache", "mm_cache"):
            yield count(f"{name}_queries", "There is no such cache here.", 0)
            yield count(f"{name}_hits", "There is no such cache here.", 0)
        yield count("num_preemptions", "Requests pushed out of the batch.", totals.preemptions)
        yield count("prompt_tokens", "Prefilled tokens.", prompts)
        local = (("local_compute", prompts - hits), ("local_cache_hit", hits))
        sources = dict((*local, ("external_kv_transfer", 0)))
        yield self._by("prompt_tokens_by_source", "Prompt tokens by source.", "source", sources)
        yield count("prompt_tokens_cached", "Cached prompt tokens.", hits)
        tiers = {tier: hits if tier == "device" else 0 for tier in TIERS}
        yield self._by("prompt_tokens_cached_by_source", "Those by tier.", "source", tiers)
        yield count("generation_tokens", "Generated tokens.", totals.generated_tokens)
        why = self.finished
        yield self._by("request_success", "Finished requests.", "finished_reason", why)
        limits = ("max_num_queued_reqs", "max_num_queued_tokens")
        yield self._page(
            "admission_rejections",
            "counter",
            "Requests refused by a queue's limit: there is none here.",
            [(f'{self._model},reason="{limit}"', 0.0) for limit in limits],
        )
        for name in ("flops", "read_bytes", "write_bytes"):
            text = "Not estimated, as without vLLM's --enable-mfu-metrics."
            yield self._page(f"estimated_{name}_per_gpu", "counter", text, [(labels, 0.0)])

    def _adapters(self, wall: float) -> str:
        """Return every set of adapters that was ever seen: vLLM's gauge keeps them all."""
        limit = self.settings.max_loras
        labels = 'max_lora="{}",running_lora_adapters="{}",waiting_lora_adapters="{}"'
        series = [
            (labels.format(limit, running, waiting), at)
            for (running, waiting), at in (self._adapters_seen or {("", ""): wall}).items()
        ]
        text = "Adapters of running and waiting requests."
        return self._page("lora_requests_info", "gauge", text, series)

    def _gauge(self, name: str, text: str, value: float) -> str:
        return self._page(name, "gauge", text, [(self._labels, value)])

    def _counter(self, name: str, text: str, value: float) -> str:
        return self._page(name, "counter", text, [(self._labels, value)])

    def _by(self, name: str, text: str, label: str, values: "dict[str, int]") -> str:
        series = [(f'{self._labels},{label}="{key}"', float(n)) for key, n in values.items()]
        return self._page(name, "counter", text, series)

    def _page(self, name: str, kind: str, text: str, series: list[tuple[str, float]]) -> str:
        family = self._families.get(name)
        if family is None:
            family = Family(f"vllm:{name}", kind, text, self._created)
            self._families[name] = family
        return family.page(series)


def _listed(names: Iterable[str]) -> str:
    return ",".join(escaped(name) for name in names)
