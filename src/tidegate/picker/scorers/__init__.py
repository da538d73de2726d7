"""Scorers: how good an endpoint is. The table is the list of those that a profile can name."""

from collections.abc import Mapping
from typing import Final

import msgspec

from tidegate.picker.scorers.active import ActiveRequestScorer
from tidegate.picker.scorers.kv_cache import KvCacheUtilizationScorer
from tidegate.picker.scorers.load import LeastLoadScorer
from tidegate.picker.scorers.lora import LoraAffinityScorer
from tidegate.picker.scorers.no_hit_lru import NoHitLruScorer
from tidegate.picker.scorers.predicted_latency import PredictedLatencyScorer
from tidegate.picker.scorers.prefix_cache import PrefixCacheScorer
from tidegate.picker.scorers.queue import QueueScorer
from tidegate.picker.scorers.running import RunningRequestsScorer
from tidegate.picker.scorers.session import SessionAffinityScorer
from tidegate.picker.scorers.tokens import TokenLoadScorer

SCORERS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "predicted-latency-scorer": PredictedLatencyScorer,
    "prefix-cache-scorer": PrefixCacheScorer,
    "least-load-scorer": LeastLoadScorer,
    "queue-scorer": QueueScorer,
    "running-requests-size-scorer": RunningRequestsScorer,
    "kv-cache-utilization-scorer": KvCacheUtilizationScorer,
    "active-request-scorer": ActiveRequestScorer,
    "token-load-scorer": TokenLoadScorer,
    "lora-affinity-scorer": LoraAffinityScorer,
    "session-affinity-scorer": SessionAffinityScorer,
    "no-hit-lru-scorer": NoHitLruScorer,
}
