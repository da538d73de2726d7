"""What became of one request."""

from dataclasses import dataclass, field
from typing import Literal

ErrorKind = Literal[
    "", "connect", "reset", "truncated", "timeout", "status", "stream-error", "garbage", "overload"
]
"""Why a request failed; '' means that it didn't.

connect: no connection. reset: it broke before the answer's end. truncated: the answer ended as
it should by HTTP's rules, and was a stream without `data: [DONE]`. timeout: not over in time.
status: 400 or more. stream-error: an event says so. garbage: not HTTP. overload: never sent,
this client had too many in flight.
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
    """To the first event, or to the body's first byte where it isn't a stream."""
    gaps_s: list[float] = field(default_factory=list)
    """Between the events after the first one, as they arrived."""
    duration_s: float = 0.0
    events: int = 0
    """Events with data, `[DONE]` not counted."""
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
