"""What a request meets: listeners, rules, arms, backends. Frozen, plain, nothing of `api`.

A table is compiled from a snapshot and swapped as a whole; a request keeps the table that it
began with until it ends. `index` builds the part that `match` searches.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

T = TypeVar("T")


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
class Target:
    """A model that a name may stand for."""

    model: str
    weight: int


@dataclass(frozen=True, slots=True)
class ModelSplit:
    """What one rule makes of a model's name."""

    scope: str
    """`namespace/kind/name/rule`: what records say."""
    targets: tuple[Target, ...]
    """In the fixed order that splits need."""
    total: int
    """Sum of the targets' weights."""
    salt: bytes

    def choose(self, point: int) -> str:
        """Return the target whose interval holds `point`, in [0, 2**64)."""
        ticket = point * self.total >> 64
        for target in self.targets:
            if ticket < target.weight:
                return target.model
            ticket -= target.weight
        return self.targets[-1].model


@dataclass(frozen=True, slots=True)
class Rewrites:
    """What models' names stand for behind one pool."""

    by_model: Mapping[str, ModelSplit] = field(default_factory=dict)
    any: ModelSplit | None = None
    """For the names that nothing else is said of."""

    def find(self, model: str | None) -> ModelSplit | None:
        """Return what is said of `model`."""
        if model is None:
            return None
        return self.by_model.get(model, self.any)


@dataclass(frozen=True, slots=True)
class Objectives:
    """Which priority a request to a pool has: by the objective that it names, else by its model."""

    by_name: Mapping[str, int] = field(default_factory=dict)
    by_model: Mapping[str, int] = field(default_factory=dict)
    by_prefix: tuple[tuple[str, int], ...] = ()
    """Of models that begin so; the first counts."""

    def of_model(self, model: str | None) -> int:
        """Return the priority of requests for `model` that name no objective."""
        if model is None:
            return 0
        known = self.by_model.get(model)
        if known is not None:
            return known
        return next((p for prefix, p in self.by_prefix if model.startswith(prefix)), 0)


@dataclass(frozen=True, slots=True)
class Backend:
    """What a backendRef names, resolved."""

    kind: Literal["InferencePool", "Service"]
    namespace: str
    name: str
    endpoints: tuple[str, ...]
    """`host:port` of the endpoints that are ready, in a fixed order; may be empty."""
    engine: Mapping[str, str] = field(default_factory=dict)
    """Endpoint → engine ("vllm", "sglang", "trtllm", "triton"), which names its metrics. External
    names have none: nobody knows whether they have metrics."""
    h2c: bool = False
    """The servers speak HTTP/2 in clear text."""
    port: int | None = None
    """Of a Service, the port that the backendRef names: its ports may lead elsewhere."""
    rewrites: Rewrites | None = None
    """Of a pool, what models are called behind it."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Endpoint → the labels of its model server, for pools whose picking has a config."""
    picker: str = ""
    """The pool's `EndpointPickerConfig` as YAML; '' where it has none."""
    objectives: Objectives | None = None
    """Of a pool, whose requests are how important; None: all are alike."""
    adapter_path: str = ""
    """Where servers find adapters, `{adapter}` for the name; '': none are loaded for requests."""
    key: str = field(init=False, compare=False, repr=False)
    """`namespace/name`."""
    identity: str = field(init=False, compare=False, repr=False)
    """Tells all backends of a table apart: `kind:namespace/name:port`."""

    def __post_init__(self) -> None:
        # Every request asks for them.
        object.__setattr__(self, "key", f"{self.namespace}/{self.name}")
        identity = f"{self.kind}:{self.key}:{self.port or ''}"
        object.__setattr__(self, "identity", identity)


@dataclass(frozen=True, slots=True)
class Mirror:
    """A share of the requests is copied to `backend`; `share` is in [0, 1]."""

    backend: Backend
    share: float
    purpose: Literal["", "Warm", "Shadow"] = ""
    """Why a rollout's canary gets the copies: of whole sessions, the first to come to it. A
    filter of a route has none, and copies request by request."""


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
    """In the fixed order that splits need: sorted by the backend's key, weight 0 included."""
    total: int
    """Sum of the arms' weights, failing arms included; 0 when nobody may serve."""
    salt: bytes
    """Makes this split's draw independent of all others'. Not longer than 64 bytes."""
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


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """A header that must be there, with this value or one that the pattern matches in full."""

    name: bytes
    value: bytes | re.Pattern[bytes]


@dataclass(frozen=True, slots=True)
class QueryTest:
    """A query parameter that must be there; its first value counts."""

    name: str
    value: str | re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One match of one rule whose path fits: what else must hold."""

    rank: int
    """Precedence among the candidates of one index: the lowest that holds wins."""
    match: Match
    method: str | None = None
    headers: tuple[HeaderTest, ...] = ()
    query: tuple[QueryTest, ...] = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """The candidates of one path, in their order.

    Those that want an exact value of the header `pivot` lie in a dictionary by that value, so
    that a thousand models on one path cost no more than one.
    """

    rest: tuple[Candidate, ...]
    pivot: bytes = b""
    by_value: Mapping[bytes, tuple[Candidate, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PathIndex:
    """All candidates of one hostname, by path."""

    exact: Mapping[str, Bucket] = field(default_factory=dict)
    patterns: tuple[tuple[re.Pattern[str], Candidate], ...] = ()
    prefixes: Mapping[str, Bucket] = field(default_factory=dict)
    """Without the slash at the end: '' stands for `/`."""
    depth: int = 0
    """The most segments that a prefix has."""


@dataclass(frozen=True, slots=True)
class Hosts(Generic[T]):
    """Values by hostname pattern: exact, `*.suffix`, or any."""

    exact: Mapping[str, T] = field(default_factory=dict)
    wildcard: Mapping[str, T] = field(default_factory=dict)
    """By what follows the star, beginning with a dot."""
    any: T | None = None

    def find(self, host: str) -> list[T]:
        """Return what matches `host` (lower case, no port), the most specific first."""
        found = [self.exact[host]] if host in self.exact else []
        if self.wildcard:
            dot = host.find(".")
            while dot >= 0:
                if host[dot:] in self.wildcard:
                    found.append(self.wildcard[host[dot:]])
                dot = host.find(".", dot + 1)
        if self.any is not None:
            found.append(self.any)
        return found


@dataclass(frozen=True, slots=True)
class Listener:
    """What is served for one hostname pattern of a port: one or more listeners of Gateways."""

    port: int
    protocol: Literal["HTTP", "HTTPS"]
    hostname: str
    """Exact, `*.suffix`, or '' for any."""
    gateways: tuple[str, ...]
    """`namespace/name/listener` of those merged here, the oldest Gateway first."""
    certificates: tuple[Certificate, ...] = ()
    """For HTTPS at least one."""
    routes: Hosts[PathIndex] = field(default_factory=Hosts)
    """By the routes' own hostnames; the listener's was checked before."""


@dataclass(frozen=True, slots=True)
class PortTable:
    """One port to bind."""

    port: int
    protocol: Literal["HTTP", "HTTPS"]
    listeners: Hosts[Listener]
    only: Match | None = None
    """The answer to every path, where there is nothing to choose."""

    @property
    def certificates(self) -> Mapping[str, tuple[Certificate, ...]]:
        """Chains and keys by listener hostname ('' = any), for choosing by SNI."""
        by_host = {**self.listeners.exact}
        by_host |= {f"*{suffix}": one for suffix, one in self.listeners.wildcard.items()}
        if self.listeners.any is not None:
            by_host[""] = self.listeners.any
        return {host: one.certificates for host, one in by_host.items() if one.certificates}


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Everything that workers serve, at one moment."""

    ports: Mapping[int, PortTable] = field(default_factory=dict)
    backends: tuple[Backend, ...] = ()
    """All that some rule may send to, mirrors included, each once."""
