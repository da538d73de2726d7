"""What a request meets: listeners, rules, arms, backends. Frozen, plain, nothing of `api`.

A table is compiled from a snapshot and swapped as a whole; a request keeps the table that it
began with until it ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Certificate:
    """A chain and its key, both PEM."""

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """Headers to set (replace), add and remove, in this order; names are lower case."""

    set: tuple[tuple[bytes, bytes], ...] = ()
    add: tuple[tuple[bytes, bytes], ...] = ()
    remove: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


NO_EDITS = HeaderEdits()


@dataclass(frozen=True, slots=True)
class PathEdit:
    """Replace the whole path, or the prefix that the rule matched."""

    kind: Literal["full", "prefix"]
    value: str


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer with this status and a Location made of the request and these replacements."""

    status: int
    scheme: str | None = None
    hostname: str | None = None
    path: PathEdit | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What changes on the way to the backend."""

    hostname: str | None = None
    path: PathEdit | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """What a backendRef names, resolved."""

    kind: Literal["InferencePool", "Service"]
    namespace: str
    name: str
    endpoints: tuple[str, ...]
    """`host:port` of the endpoints that may serve: those not known to be starting or stopping."""
    engine: Mapping[str, str] = field(default_factory=dict)
    """Endpoint → engine ("vllm", "sglang", "trtllm"), which names its metrics; Services have none."""
    h2c: bool = False
    """The servers speak HTTP/2 in clear text."""

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Mirror:
    """A share of the requests is copied to `backend`; `share` is in [0, 1]."""

    backend: Backend
    share: float


@dataclass(frozen=True, slots=True)
class Filters:
    """What a rule or an arm does to a request and its answer."""

    request: HeaderEdits = NO_EDITS
    response: HeaderEdits = NO_EDITS
    rewrite: Rewrite | None = None
    redirect: Redirect | None = None
    mirrors: tuple[Mirror, ...] = ()


NO_FILTERS = Filters()


@dataclass(frozen=True, slots=True)
class Failure:
    """A configuration error that a request meets: an HTTP status and a CamelCase reason."""

    status: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a split. Exactly one of `backend` and `failure` is set."""

    name: str
    """The backend's `name`: what metrics, records and `x-tidegate-pool` say."""
    weight: int
    backend: Backend | None
    failure: Failure | None = None
    filters: Filters = NO_FILTERS


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is tried again: connect errors and resets always, these statuses too."""

    codes: frozenset[int] = frozenset({502, 503, 504})
    attempts: int = 2
    """Tries after the first."""
    backoff_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to the requests that match."""

    route: str
    """`namespace/name` of the HTTPRoute."""
    name: str
    """The rule's name, or its index as text."""
    arms: tuple[Arm, ...]
    """In the fixed order that splits need (sorted by the backend's key)."""
    total: int
    """Sum of the arms' weights, failing arms included; 0 when nobody may serve."""
    salt: bytes
    """Makes this split's draw independent of all others'."""
    filters: Filters = NO_FILTERS
    failure: Failure | None = None
    """Set when the whole rule can only fail (no backends, all weights 0, bad filter)."""
    request_timeout_s: float | None = None
    backend_timeout_s: float | None = None
    retry: RetryPolicy = RetryPolicy()
    session_header: bytes | None = None
    """Lower-case name of the header that names the session."""
    pools: tuple[Backend, ...] = ()
    """All InferencePools of the route: `/v1/models` answers with their models."""


@dataclass(frozen=True, slots=True)
class Match:
    """The rule for a request, and the path prefix that it matched ('' if not by prefix)."""

    rule: Rule
    prefix: str
