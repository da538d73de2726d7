"""What is kept of one request: numbers and names, never prompts, answers or credentials."""

from enum import IntFlag
from typing import Final

import msgspec

ITL_BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25,
    0.5, 1.0, 2.5, 5.0,
)  # fmt: skip
"""Upper bounds of the inter-token histogram, in seconds; one more bucket holds the rest."""


class Record(msgspec.Struct):
    """One request, filled in while it runs and handed over when it ended. Times in seconds."""

    started_at: float = 0.0
    """Since the epoch, when the request's first byte was read."""
    route: str = ""
    """`namespace/name` of the HTTPRoute; '' when none matched."""
    rule: str = ""
    arm: str = ""
    """The backend that was drawn."""
    pool: str = ""
    """`namespace/name` of the InferencePool or Service."""
    endpoint: str = ""
    model: str = ""
    """As the client asked for it; '' when the body has none."""
    target: str = ""
    """The model that was sent for, where a rewrite names one."""
    split: str = ""
    """That rewrite: its rule's scope."""
    method: str = ""
    status: int = 0
    """What the client got; 499 when it left before the answer's head."""
    reason: str = ""
    """CamelCase cause of an error of ours; '' for answers of the endpoint."""
    features: int = 0
    """What it asked for beside text, as bits; see `routing.session.Feature`."""
    max_tokens: int = 0
    """The longest answer that it asked for; 0 where it didn't say."""
    asked_stream: bool = False
    """The client asked for a stream."""
    streamed: bool = False
    """The answer was `text/event-stream`."""
    broken: bool = False
    """The answer began and did not end well."""
    client_gone: bool = False
    retries: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    events: int = 0
    """SSE events with data, `[DONE]` not counted."""
    ttft_s: float | None = None
    """First byte of the request to the first body byte of the answer."""
    duration_s: float = 0.0
    itl_counts: list[int] | None = None
    """Gaps between SSE events by `ITL_BOUNDS`, one more at the end for the rest."""
    itl_sum_s: float = 0.0
    session: int = 0
    """A 64-bit hash of the session key, by another salt than the split's; 0 when there is none."""
    prompt_tokens: int = 0
    """0 when nobody counted: then the request's bytes say how long it is."""
    cached_tokens: int = 0
    """Tokens of the prompt that were in the endpoint's prefix cache, as far as anybody knows."""
    output_tokens: int = 0
    """As the answer says (`usage`); 0 when it doesn't: then events are counted."""
    finish: str = ""
    """The answer's `finish_reason`, where it was read."""
    failed_checks: int = 0
    """`Check` bits of the checks that the answer failed."""
    checked: bool = False
    """Checks looked at the answer."""
    noted: int = 0
    """What a `Folder` has counted of it before it ended."""


class Check(IntFlag):
    """What a check of an answer may find wrong."""

    INVALID = 1
    """Output that breaks the schema asked for, or a tool call that can't be parsed."""
    REFUSED = 2
    """The model refused."""
