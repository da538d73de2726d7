"""What became of one request."""

from dataclasses import dataclass, field
from typing import Literal

ErrorKind = Literal[
    "", "connect", "reset", "truncated", "timeout", "status", "stream-error", "garbage", "overload"
]
"""Why a request failed; '' means that it didn't.

connect: no connection. reset: it broke before the answer's end. truncated: the answer ended as
it should by HTTP's rules, and was a stream without `data: [DONE]`, or the server aborted it.
timeout: not over in time. status: 400 or more. stream-error: an event says so. garbage: not HTTP.
overload: never sent, this client had too many in flight.
"""


@dataclass(slots=True)
class Result:
    """One request, filled in while it runs. Durations in seconds."""

    session: int
    turn: int
    started_at: float
    """On the client's clock, before a connection was dialled or its bytes were sent."""
    lag_s: float = 0.0
    """How much later than due it started, which is the generator's own fault."""
    status: int = 0
    """0 when no answer began."""
    error: ErrorKind = ""
    detail: str = ""
    """More about the error, for people."""
    ttft_s: float | None = None
    """To the first event with a text, or to the body's first byte where it isn't a stream."""
    gaps_s: list[float] = field(default_factory=list)
    """Between the events with a text, as they arrived."""
    duration_s: float = 0.0
    events: int = 0
    """Events with a choice: neither `[DONE]` nor the one that has only the usage."""
    prompt_tokens: int = 0
    """As the answer's `usage` has it; 0 where it says nothing."""
    cached_tokens: int = 0
    """Of those, how many were in the prefix cache."""
    output_tokens: int = 0
    """As `usage` has it; else the events that had a text."""
    pool: str = ""
    """The header `x-tidegate-pool`."""
    endpoint: str = ""
    """The header `x-tidegate-endpoint`."""
    answer: list[bytes] = field(default_factory=list)
    """The events' data, or pieces of the body; dropped once the conversation has heard it."""

    @property
    def failed(self) -> bool:
        """Whether the client didn't get what it asked for."""
        return bool(self.error)
