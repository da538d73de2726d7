"""Faults that can be switched on while the server runs.

`POST /admin/faults` with any of the fields below sets those, `DELETE` sets all back, `GET`
shows them. They meet inference requests only, but for `refuse`, `unhealthy`, the metrics' and
the adapters' faults; the admin path itself always answers, until the server has crashed.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from tidegate.simulator.errors import RequestError, bad_request, not_found

Factor = Annotated[float, Meta(gt=0, le=10_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=3600)]
Events = Annotated[int, Meta(ge=0)]
ErrorName = Literal[
    "rate_limit", "invalid_api_key", "context_length", "invalid_request", "model_not_found",
    "server_error", "unavailable",
]  # fmt: skip
Crash = Literal["", "oom", "exit"]


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with the server."""

    error_rate: Share = 0.0
    """The share of requests that is answered with `status`."""
    status: Annotated[int, Meta(ge=400, le=599)] = 500
    errors: dict[ErrorName, Share] = {}
    """Shares of requests that are refused as vLLM refuses them, by kind."""
    ttft_factor: Factor = 1.0
    """Steps that only prefill, and the prefill part of others, take so many times as long."""
    itl_factor: Factor = 1.0
    """The decode part of steps takes so many times as long."""
    ramp_s: Seconds = 0.0
    """The two factors grow from 1 to what they are over so many seconds."""
    delay_s: Seconds = 0.0
    """Seconds that a request waits before the engine sees it."""
    wrong_rate: Share = 0.0
    """The share of requests that get an answer from another seed: fluent, well-formed, wrong."""
    hang: bool = False
    """Requests are taken and never answered."""
    stall_after_events: Events | None = None
    """Streams fall silent after so many events, their connections stay open."""
    reset_after_events: Events | None = None
    """Streams are cut by a TCP reset after so many events; 0, and any answer that isn't
    streamed: before its first byte."""
    refuse: bool = False
    """Every request is met with a TCP reset, probes and scrapes too."""
    unhealthy: bool = False
    """`/health` and `/ping` answer 503."""
    metrics: Literal["live", "frozen", "broken"] = "live"
    """frozen: `/metrics` stays what it is now. broken: it answers 500."""
    metrics_delay_s: Seconds = 0.0
    """Seconds that a scrape waits for its page, which is that of its start."""
    missing_adapters: tuple[str, ...] = ()
    """Names whose load fails, as with a path that leads nowhere."""
    adapter_delay_s: Seconds = 0.0
    """Seconds that loading an adapter takes longer."""
    crash: Crash = ""
    """oom: the GPU is out of memory now: running requests get vLLM's error, the process ends
    with status 1. exit: it ends at once, without a word to anybody."""
    oom_at_usage: Annotated[float, Meta(gt=0, le=1)] | None = None
    """The share of the KV cache at which that happens."""


HEALTHY = Faults()

_REFUSALS: Final[dict[ErrorName, RequestError]] = {
    "rate_limit": RequestError(429, "RateLimitError", "Too many requests."),
    "invalid_api_key": RequestError(401, "Unauthorized", "Unauthorized"),
    "context_length": bad_request(
        "This model's maximum context length is 1 tokens. However, your prompt contains at least 2 "
        "input tokens, which exceeds this limit even without any output tokens. Please reduce the "
        "length of the input prompt. (parameter=input_tokens, value=2)",
        "input_tokens",
    ),
    "invalid_request": bad_request("The request is invalid."),
    "model_not_found": not_found("The model does not exist.", "model"),
    "server_error": RequestError(500, "InternalServerError", "Internal server error"),
    "unavailable": RequestError(503, "ServiceUnavailableError", "The server is overloaded."),
}

# What vLLM says when its engine process has died (`EngineDeadError`).
DEAD: Final = RequestError(
    500,
    "InternalServerError",
    "EngineCore encountered an issue. See stack trace (above) for the root cause.",
)
OUT_OF_MEMORY: Final = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total "
    "capacity of 23.65 GiB of which 214.00 MiB is free."
)


def refusal(faults: Faults, draw: float) -> RequestError | None:
    """Return how a request is refused; None where it isn't.

    Args:
        faults: What is wrong.
        draw: A number in [0, 1) that decides.

    """
    if draw < faults.error_rate:
        return RequestError(faults.status, "InternalServerError", "A fault was switched on.")
    draw -= faults.error_rate
    for name, share in faults.errors.items():
        if draw < share:
            return _REFUSALS[name]
        draw -= share
    return None
