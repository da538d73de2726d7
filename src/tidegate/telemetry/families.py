"""Every metric, once: name, type, labels, help. What is served and documented comes from here.

Each metric has the label `worker` as its last one: a worker that restarts begins again at 0,
and a counter of its own is how Prometheus copes with that. Sum over it.
"""

from dataclasses import dataclass
from typing import Final, Literal

from tidegate.judge.record import ITL_BOUNDS

ROUTED: Final = ("route", "rule", "arm", "pool", "model")
"""What most metrics are told apart by. `model` is "other" for names that no endpoint lists."""

DURATION_BOUNDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0,
    640.0,
)  # fmt: skip
"""Seconds: from an error of ours to a long generation."""
TTFT_BOUNDS: Final = (
    0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0,
    10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
"""Seconds: close together where interactive use decides, 0.03 to 2.5."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `labels` are without `worker`, which all have."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()
    """A histogram's upper bounds; one more bucket holds the rest."""


REQUESTS: Final = Family(
    "tidegate_requests_total",
    "counter",
    (*ROUTED, "code"),
    "Requests that ended, by the status that the client got; 499: it left before.",
)
DURATION: Final = Family(
    "tidegate_request_duration_seconds",
    "histogram",
    ROUTED,
    "From a request's first byte to its end, whatever the end was.",
    DURATION_BOUNDS,
)
TTFT: Final = Family(
    "tidegate_ttft_seconds",
    "histogram",
    ROUTED,
    "From a request's first byte to the first byte of the answer's body, of successful streams.",
    TTFT_BOUNDS,
)
ITL: Final = Family(
    "tidegate_inter_token_seconds",
    "histogram",
    ROUTED,
    "Between two events of a stream: about one a token.",
    ITL_BOUNDS,
)
EVENTS: Final = Family(
    "tidegate_stream_events_total",
    "counter",
    ROUTED,
    "Events relayed in streams: about one a token.",
)
OUTPUT_TOKENS: Final = Family(
    "tidegate_output_tokens_total",
    "counter",
    ROUTED,
    "Tokens of answers: of whole ones as they say themselves, of streams one an event.",
)
RETRIES: Final = Family(
    "tidegate_retries_total",
    "counter",
    ROUTED,
    "Times that a request was sent again, to the same endpoint or another.",
)
BROKEN: Final = Family(
    "tidegate_broken_answers_total",
    "counter",
    ROUTED,
    "Answers that began and didn't end well: the endpoint broke off or fell silent.",
)
CLIENT_GONE: Final = Family(
    "tidegate_client_gone_total",
    "counter",
    ROUTED,
    "Requests whose client left before the end.",
)
REQUEST_BYTES: Final = Family(
    "tidegate_request_bytes_total", "counter", ROUTED, "Bytes of request bodies."
)
RESPONSE_BYTES: Final = Family(
    "tidegate_response_bytes_total", "counter", ROUTED, "Bytes of answers' bodies."
)
ERRORS: Final = Family(
    "tidegate_errors_total",
    "counter",
    ("route", "rule", "arm", "pool", "reason"),
    "Requests answered by the gateway itself with an error, by its reason.",
)
REJECTED: Final = Family(
    "tidegate_rejected_total",
    "counter",
    ("reason",),
    "What was refused before it was a request (malformed, too large, too slow), by reason.",
)
IN_FLIGHT: Final = Family(
    "tidegate_requests_in_flight", "gauge", (), "Requests that are being served now."
)
CONNECTIONS: Final = Family("tidegate_connections", "gauge", (), "Open client connections.")
ENDPOINTS: Final = Family(
    "tidegate_endpoints",
    "gauge",
    ("pool", "state"),
    "Endpoints as this worker sees them: healthy, unhealthy (scrapes fail) or ejected "
    "(requests failed).",
)
STALE: Final = Family(
    "tidegate_endpoints_stale",
    "gauge",
    ("pool",),
    "Endpoints without metrics, or with metrics older than 5 s: they are picked by what the "
    "gateway itself has in flight there.",
)
PREFIXES: Final = Family(
    "tidegate_prefix_entries",
    "gauge",
    ("pool",),
    "Prefixes of prompts that are remembered, over all endpoints; 100 to 300 bytes each.",
)
PROMPT_TOKENS: Final = Family(
    "tidegate_prompt_tokens_total",
    "counter",
    ("pool",),
    "Tokens of the prompts that were sent, estimated from their bytes.",
)
CACHED_TOKENS: Final = Family(
    "tidegate_prompt_tokens_cached_total",
    "counter",
    ("pool",),
    "Those of them that the endpoint's prefix cache should have held.",
)
QUEUE: Final = Family(
    "tidegate_queue_size",
    "gauge",
    ("pool", "priority"),
    "Requests that wait because the pool has no room.",
)
QUEUE_WAIT: Final = Family(
    "tidegate_queue_wait_seconds",
    "histogram",
    ("pool", "priority"),
    "How long requests waited that then went on; those that found room aren't counted.",
    (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0),
)
QUEUE_REFUSED: Final = Family(
    "tidegate_queue_refused_total",
    "counter",
    ("pool", "priority"),
    "Requests that found no place in the queue, lost it, or waited too long: answered 429.",
)
ARM_WEIGHT: Final = Family(
    "tidegate_arm_weight",
    "gauge",
    ("route", "rule", "arm"),
    "The weight that is in effect. An arm's share is its weight by the sum of its rule's.",
)
TABLE_SWAPS: Final = Family(
    "tidegate_table_swaps_total", "counter", (), "Routing tables taken into use."
)
TABLE_TIME: Final = Family(
    "tidegate_table_timestamp_seconds",
    "gauge",
    (),
    "When the routing table in use was taken into use, in seconds since the epoch.",
)
BUILD: Final = Family("tidegate_build_info", "gauge", ("version",), "Always 1.")

FAMILIES: Final = (
    REQUESTS,
    DURATION,
    TTFT,
    ITL,
    EVENTS,
    OUTPUT_TOKENS,
    RETRIES,
    BROKEN,
    CLIENT_GONE,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    ERRORS,
    REJECTED,
    IN_FLIGHT,
    CONNECTIONS,
    ENDPOINTS,
    STALE,
    PREFIXES,
    PROMPT_TOKENS,
    CACHED_TOKENS,
    QUEUE,
    QUEUE_WAIT,
    QUEUE_REFUSED,
    ARM_WEIGHT,
    TABLE_SWAPS,
    TABLE_TIME,
    BUILD,
)
