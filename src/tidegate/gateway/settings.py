"""What a worker is told at its start."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client and an endpoint may take from a worker. Times in seconds."""

    header_bytes: int = 64 * 1024
    """Request line and headers together; more is answered 431."""
    headers: int = 128
    """Header fields of a request; more is answered 431."""
    body_bytes: int = 32 * 1024 * 1024
    """A request body is kept whole, so that it can be routed by content and sent again;
    more is answered 413. Images in chats come to a few MiB."""
    bodies_bytes: int = 1024 * 1024 * 1024
    """Bodies that one worker holds at once, until their answers begin; one that doesn't fit is
    answered 503. A worker takes up to three times as much for the moment of a copy."""
    header_timeout_s: float = 10.0
    """From a request's first byte to the end of its headers; longer is answered 408."""
    body_timeout_s: float = 30.0
    """How long a body may make less than `body_rate` of progress; longer is answered 408."""
    body_rate: int = 1024
    """Bytes a second that a body must bring after `body_timeout_s`."""
    keep_alive_s: float = 75.0
    """How long an idle client connection stays open."""
    client_stall_s: float = 60.0
    """How long a client may take nothing of the answer that waits for it; longer is cut."""
    linger_s: float = 2.0
    """How long a client may go on sending after its last answer before it is cut off."""
    connections: int = 10_000
    """Client connections of one worker; one more is answered 503."""
    pipelined: int = 16
    """Requests that may wait on one connection behind the one that is served."""
    connect_timeout_s: float = 2.0
    """To an endpoint. They are near: a connect that takes longer will not come."""
    answer_timeout_s: float = 600.0
    """From the request to the answer's head, where the route sets no timeout. An answer that
    is not streamed comes whole, after all its tokens."""
    silence_timeout_s: float = 300.0
    """Between two pieces of an answer."""
    upstream_idle_s: float = 4.0
    """How long an idle connection to an endpoint is kept. uvicorn, and so vLLM, closes after
    5 s: stay below it."""
    upstream_idle: int = 256
    """Idle connections kept to one endpoint."""
    upstream_head_bytes: int = 64 * 1024
    """Headers of an answer; more is a protocol error."""
    mirrors: int = 64
    """Mirrored requests under way at once; more are dropped, the client's come first."""
    drain_s: float = 30.0
    """How long requests may go on after SIGTERM."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker's place and habits."""

    kubeconfig: Path
    """Which API to watch."""
    worker_id: str
    admin_socket: Path
    """A Unix socket for readiness and metrics; the siblings' lie in the same folder."""
    host: str = "127.0.0.1"
    """Address that listeners bind."""
    metrics_port: int = 0
    """TCP port of `/metrics`, shared by all workers; 0 serves none."""
    access_log: bool = False
    record: Path | None = None
    """The folder that requests are recorded to."""
    log_format: Literal["json", "console"] = "console"
    log_level: str = "info"
    answer_headers: bool = True
    """Whether answers say `x-tidegate-pool` and `x-tidegate-endpoint`."""
    trust_client_headers: bool = False
    """Whether `x-gateway-*` and `x-tidegate-*` headers of clients are believed."""
    limits: Limits = field(default_factory=Limits)
