"""What a worker knows of one endpoint, and how events change it.

The one idea: `fold(state, event, now)` is the only way a state changes, so a pick can be
replayed from a list of events.

**Load.** Two sources say how busy an endpoint is. The server's own numbers count everybody's
requests but are old by up to one scrape interval; this worker's in-flight count is exact but
knows nothing of others. Between them stand the siblings: the other workers of this gateway, who
say often what they have in flight. So a sample tells how many requests are *others'* (its total
less ours and the siblings' at that moment), and `load` is ours now, plus the siblings', plus
`others`. That is the sample plus what was started and less what was finished since, so nothing
is counted twice; and it is never less than `in_flight`, whatever a late, empty or missing sample
says. Tokens are only known of our own requests and the siblings'.

**Passive health.** `FAILURES_TO_EJECT` failed requests in a row (connect errors, resets and
5xx, as the gateway decides) eject the endpoint for 1 s. After that it is on trial: the first
request sent to it ejects it again for twice the time (up to `EJECTED_MAX_S`), so that one
request at a time risks it and not all at once because it looks idle. Any success ends all of
this. Failures while ejected don't prolong it: those requests began before.

**Active health.** `SCRAPES_TO_UNHEALTHY` failed scrapes in a row make it unhealthy, and what
the server last said of its load is forgotten: it would repel or attract for ever. One good
scrape restores it.

**Staleness** alone changes nothing: old numbers are still the best guess, and our own in-flight
count goes on correcting them. A broken metrics pipeline must not stop the traffic, so an
unhealthy endpoint is passed over only while a better one exists (`filters.healthy`).

Invariants: `in_flight` and `others` are never negative; `load` is their sum and the siblings';
without a success `ejected_until` never falls.
"""

import math
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

FAILURES_TO_EJECT: Final = 3
"""Failed requests in a row: one may be the request's own fault, three rarely are."""
EJECTED_FIRST_S: Final = 1.0
EJECTED_MAX_S: Final = 30.0
SCRAPES_TO_UNHEALTHY: Final = 3
"""Failed scrapes in a row; with the poller's pace about one second for a dead server."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model or adapter as an endpoint's `/v1/models` lists it."""

    id: str
    parent: str | None = None
    """An adapter's base model."""
    root: str | None = None
    created: int = 0
    owned_by: str = ""
    max_model_len: int | None = None


class Adapters(msgspec.Struct, frozen=True):
    """Adapters with requests at the endpoint; not all that it has loaded."""

    limit: int = 0
    """How many may run at once; 0 if unknown."""
    running: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()


class Sample(msgspec.Struct, frozen=True):
    """What a scrape saw. A server without metrics gives an empty sample: it lives."""

    waiting: int = 0
    running: int = 0
    kv_usage: float = 0.0
    """0..1."""
    adapters: Adapters | None = None
    resident: frozenset[str] | None = None
    """Adapters in the accelerator's memory; None where the server doesn't say."""
    capacity: int = 0
    """Tokens that the KV cache holds; 0 if unknown."""
    blind: bool = False
    """The server lives and says nothing of its load."""


class Listed(msgspec.Struct, frozen=True):
    """The endpoint listed its models."""

    models: tuple[Model, ...]


class ScrapeFailed(msgspec.Struct, frozen=True):
    """A scrape got no answer, or none that says that the server is well."""

    reason: str = ""


class Started(msgspec.Struct, frozen=True):
    """A request of this worker goes to the endpoint."""

    prefill: int = 0
    """Prompt tokens that it has to compute before the first token comes."""
    tokens: int = 0
    """All tokens that it is expected to hold: the prompt's and the answer's."""


class Prefilled(msgspec.Struct, frozen=True):
    """A started request's first token came: its prompt is computed."""

    prefill: int
    """As `Started` said."""


class Answered(msgspec.Struct, frozen=True):
    """The head of a good answer came: a success, seen before the answer ends.

    Only worth sending while `state.failures` is not 0: a long stream then doesn't keep its
    endpoint ejected until it ends.
    """


class Finished(msgspec.Struct, frozen=True):
    """A started request ended, one way or another: exactly one for each `Started`."""

    ok: bool | None
    """False: connect error, reset or 5xx. None: says nothing of the endpoint (client left)."""
    prefill: int = 0
    """As `Started` said, unless `Prefilled` came."""
    tokens: int = 0
    """As `Started` said."""


class Shared(msgspec.Struct, frozen=True):
    """What the siblings have at the endpoint now, all of them together."""

    in_flight: int
    prefill: int = 0
    tokens: int = 0


Event: TypeAlias = (
    Sample | Listed | ScrapeFailed | Started | Prefilled | Answered | Finished | Shared
)

STARTED: Final = Started()
ANSWERED: Final = Answered()
SUCCEEDED: Final = Finished(ok=True)
FAILED: Final = Finished(ok=False)
ABANDONED: Final = Finished(ok=None)


class EndpointState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One endpoint at one moment. A msgspec struct: `replace` costs a twentieth of dataclasses'.

    Times are seconds on the clock whose `now` is given to `fold`.
    """

    waiting: int = 0
    running: int = 0
    kv_usage: float = 0.0
    """0..1."""
    in_flight: int = 0
    """Requests of this worker."""
    prefill: int = 0
    """Prompt tokens of this worker's requests that have no first token yet."""
    tokens: int = 0
    """All tokens of this worker's requests."""
    siblings: Shared = Shared(0)
    """Requests and tokens of the other workers."""
    others: int = 0
    """Requests of everybody else, as of the last sample."""
    load: int = 0
    """Best guess of the requests at the endpoint now, waiting and running."""
    failures: int = 0
    """Failed requests in a row."""
    ejections: int = 0
    """Ejections since the last success."""
    ejected_until: float = 0.0
    scrape_failures: int = 0
    """In a row."""
    usable_from: float = 0.0
    """`ejected_until`, or infinity while unhealthy: one number for filters to look at."""
    sampled_at: float | None = None
    """None: never."""
    models: tuple[Model, ...] = ()
    listed_at: float = -math.inf
    """When it last listed its models."""
    adapters: Adapters | None = None
    resident: frozenset[str] | None = None
    """Adapters in the accelerator's memory; None where the server doesn't say."""
    capacity: int = 0
    """Tokens that the KV cache holds; 0 if unknown."""
    blind: bool = False
    """The server lives and says nothing of its load."""

    @property
    def healthy(self) -> bool:
        """Whether scrapes say so; ejection is something else."""
        return self.scrape_failures < SCRAPES_TO_UNHEALTHY


UNSEEN: Final = EndpointState()
"""An endpoint of which nothing is known yet: it may serve."""


def fold(state: EndpointState, event: Event, now: float) -> EndpointState:
    """Return the state after `event` at `now` (seconds, any clock, always the same one)."""
    match event:
        case Started():
            return _started(state, event, now)
        case Finished():
            return _finished(state, event, now)
        case Prefilled():
            return replace(state, prefill=max(0, state.prefill - event.prefill))
        case Shared():
            load = state.in_flight + event.in_flight + state.others
            return replace(state, siblings=event, load=load)
        case Answered():
            return _succeeded(state)
        case Sample():
            return _sampled(state, event, now)
        case ScrapeFailed():
            return _unseen(state)
        case Listed():
            return replace(state, models=event.models, listed_at=now)


def _started(state: EndpointState, event: Started, now: float) -> EndpointState:
    if state.failures >= FAILURES_TO_EJECT and state.ejected_until <= now:
        state = _ejected(state, now)
    return _holding(state, 1, event.prefill, event.tokens)


def _finished(state: EndpointState, event: Finished, now: float) -> EndpointState:
    state = _holding(state, -1, -event.prefill, -event.tokens)
    if event.ok:
        return _succeeded(state)
    return state if event.ok is None else _failed(state, now)


def _holding(state: EndpointState, requests: int, prefill: int, tokens: int) -> EndpointState:
    # Twice for every request: comparing costs a quarter of max().
    in_flight = state.in_flight + requests
    in_flight = in_flight if in_flight > 0 else 0  # noqa: FURB136
    prefill += state.prefill
    tokens += state.tokens
    return replace(
        state,
        in_flight=in_flight,
        prefill=prefill if prefill > 0 else 0,  # noqa: FURB136
        tokens=tokens if tokens > 0 else 0,  # noqa: FURB136
        load=in_flight + state.siblings.in_flight + state.others,
    )


def _succeeded(state: EndpointState) -> EndpointState:
    if not state.failures:
        return state
    usable_from = 0.0 if state.healthy else math.inf
    return replace(state, failures=0, ejections=0, ejected_until=0.0, usable_from=usable_from)


def _failed(state: EndpointState, now: float) -> EndpointState:
    state = replace(state, failures=state.failures + 1)
    if state.failures < FAILURES_TO_EJECT or now < state.ejected_until:
        return state
    return _ejected(state, now)


def _ejected(state: EndpointState, now: float) -> EndpointState:
    # The exponent is capped too: a server may be down for months.
    until = now + min(EJECTED_MAX_S, EJECTED_FIRST_S * 2 ** min(state.ejections, 16))
    return replace(
        state,
        ejections=state.ejections + 1,
        ejected_until=until,
        usable_from=until if state.healthy else math.inf,
    )


def _sampled(state: EndpointState, sample: Sample, now: float) -> EndpointState:
    known = state.in_flight + state.siblings.in_flight
    others = max(0, sample.waiting + sample.running - known)
    return replace(
        state,
        waiting=sample.waiting,
        running=sample.running,
        kv_usage=sample.kv_usage,
        adapters=sample.adapters,
        resident=sample.resident,
        capacity=sample.capacity or state.capacity,
        blind=sample.blind,
        others=others,
        load=known + others,
        scrape_failures=0,
        usable_from=state.ejected_until,
        sampled_at=now,
    )


def _unseen(state: EndpointState) -> EndpointState:
    failures = state.scrape_failures + 1
    if failures < SCRAPES_TO_UNHEALTHY:
        return replace(state, scrape_failures=failures)
    return replace(
        state,
        scrape_failures=failures,
        usable_from=math.inf,
        waiting=0,
        running=0,
        kv_usage=0.0,
        adapters=None,
        resident=None,
        others=0,
        load=state.in_flight + state.siblings.in_flight,
    )
