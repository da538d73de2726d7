"""Faults that can be switched on while the server runs.

`POST /admin/faults` with any of the fields below sets those, `DELETE` sets all back, `GET`
shows them. They meet inference requests only, but for `refuse` and `unhealthy`; the admin
path itself always answers.
"""

from typing import Annotated

from msgspec import Meta, Struct

Factor = Annotated[float, Meta(gt=0, le=10_000)]


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with the server."""

    error_rate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """The share of requests that is answered with `status`."""
    status: Annotated[int, Meta(ge=400, le=599)] = 500
    ttft_factor: Factor = 1.0
    """Steps that only prefill, and the prefill part of others, take so many times as long."""
    itl_factor: Factor = 1.0
    """The decode part of steps takes so many times as long."""
    delay_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """Seconds that a request waits before the engine sees it."""
    hang: bool = False
    """Requests are taken and never answered."""
    reset_after_events: Annotated[int, Meta(ge=0)] | None = None
    """Streams are cut by a TCP reset after so many events; 0, and any answer that isn't
    streamed: before its first byte."""
    refuse: bool = False
    """Every request is met with a TCP reset, probes and scrapes too."""
    unhealthy: bool = False
    """`/health` and `/ping` answer 503."""


HEALTHY = Faults()
