"""A rollout's copies: the canary gets what the stable got, before anybody depends on it.

To warm its prefix caches, or to compare answers in pairs. Whole sessions are copied, those
that will come to the canary first: their prefixes are the ones it will need. The client never
waits for a copy, and copies are the first to be left out: at a limit, where the pool is well used
already, and whenever anything waits at the endpoint that would get one. Only requests without
side effects are copied.

Nothing of a prompt or an answer is kept: of a pair only which of both was worse.
"""

import asyncio
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from tidegate.gateway.answers import Answer, AnswerText
from tidegate.gateway.checks import Asked, check
from tidegate.gateway.framing import AnswerHead, is_stream
from tidegate.gateway.plane import Live, Plane
from tidegate.gateway.request import Incoming
from tidegate.gateway.sse import EventMeter
from tidegate.gateway.upstream import Dialing, Failed, Upstream
from tidegate.gateway.whole import note_piece
from tidegate.judge.record import Record
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.request import Nobody
from tidegate.picker.request import Request as PickRequest
from tidegate.picker.schedule import schedule
from tidegate.picker.ticket import Ticket, begin
from tidegate.routing.filters import mirror_drawn
from tidegate.routing.table import Mirror

PATHS: Final = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/v1/score",
        "/v1/messages",
    }
)
"""What has no side effects at a model server; `/v1/responses` stores what it answers."""
UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for a body that is no JSON, is too deep, or whose keys are no UTF-8."""
_TIMEOUT: Final = 504
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def wants(plane: Plane, live: Live, to: Mirror, point: int, request: Incoming) -> bool:
    """Whether a request at `point` of its split is copied to `to` now."""
    if request.method != "POST" or request.path not in PATHS or not mirror_drawn(to, point):
        return False
    full = plane.mirrors >= plane.settings.limits.mirrors or to.backend.h2c
    if full or not live.spare(to.backend, plane.clock()):
        plane.reject("MirrorDropped")
        return False
    return bool(live.endpoints(to.backend))


def shortened(request: Incoming) -> Incoming:
    """Return a request that fills a prefix cache and does little else: one token, no stream."""
    try:
        fields = _OBJECT.decode(request.body)
    except UNREADABLE:
        return request
    for name in ("stream", "stream_options", "n", "max_completion_tokens", "best_of"):
        fields.pop(name, None)
    fields["max_tokens"] = msgspec.Raw(b"1")
    return replace(request, body=msgspec.json.encode(fields))


class _Sampling(msgspec.Struct):
    temperature: float | None = None
    seed: Any = None


def repeatable(body: bytes) -> bool:
    """Whether a request asks for the same answer each time."""
    try:
        sampling = msgspec.json.decode(body, type=_Sampling)
    except UNREADABLE:
        return False
    return sampling.temperature == 0 or sampling.seed is not None


class Twin:
    """A copy under way at the canary, and the client's own request, which it is paired with."""

    __slots__ = (
        "_asked",
        "_handle",
        "_meter",
        "_ours",
        "_own",
        "_plane",
        "_same",
        "_started",
        "_theirs",
        "_ticket",
        "_timer",
        "record",
    )

    def __init__(self, plane: Plane, own: Record, asked: Asked | None, *, same: bool) -> None:
        """Make a copy.

        Args:
            plane: What sends it.
            own: The record of the client's own request.
            asked: What it asked for, if both are compared when they are over.
            same: Whether both answers should be the same.

        """
        compare = asked is not None
        self._asked = asked
        self._plane = plane
        self._own: Record | None = own if compare else None
        self._same = same
        self._ours = AnswerText() if compare else None
        self._theirs = AnswerText() if compare else None
        self._ticket: Ticket | None = None
        self._handle: Upstream | Dialing | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._meter: EventMeter | None = None
        self._started = plane.clock()
        self.record = Record(
            route=own.route,
            rule=own.rule,
            model=own.model,
            target=own.target,
            asked_stream=own.asked_stream,
        )

    def send(self, live: Live, to: Mirror, payload: bytes, session: bytes | None) -> bool:
        """Start; return False if no endpoint has room for it."""
        plane = self._plane
        model = self.record.target or self.record.model
        asked = PickRequest(plane.clock(), model, session)
        pool = live.pool(to.backend)
        pick = schedule(pool, asked, plane.rng)
        if isinstance(pick, Nobody) or _queue(pick.endpoint):
            plane.reject("MirrorDropped")
            return False
        self.record.arm, self.record.pool = to.backend.name, to.backend.key
        self.record.endpoint = pick.endpoint.address
        plane.mirrors += 1
        self._ticket = begin(pool, pick.endpoint, asked, asked.now)
        limit_s = plane.settings.limits.answer_timeout_s
        self._timer = plane.loop.call_later(limit_s, self._too_long)
        self._handle = plane.pool.send(pick.endpoint.address, payload, self)
        return True

    # the client's own answer

    def heard(self, data: bytes) -> None:
        """Note a piece of the client's own answer."""
        if self._theirs is not None:
            self._theirs.feed(data)

    def over(self) -> None:
        """The client's own request is over; if it left, there is nothing to compare."""
        if self._own is not None and self._own.client_gone:
            self._own = None
        self._pair()

    # the copy's answer

    def upstream_started(self, connection: Upstream) -> None:
        """Remember what to cancel."""
        self._handle = connection

    def upstream_head(self, head: AnswerHead, length: int | None) -> None:
        """Note how the answer began."""
        record = self.record
        record.status = head.status
        if is_stream(head.headers):
            record.streamed = True
            self._meter = EventMeter(record)

    def upstream_body(self, data: bytes) -> None:
        """Measure, and drop."""
        record, at = self.record, self._plane.clock()
        if record.ttft_s is None:
            record.ttft_s = at - self._started
        record.response_bytes += len(data)
        if self._meter is not None:
            self._meter.feed(data, at)
        else:
            note_piece(record, data)
        if self._ours is not None:
            self._ours.feed(data)

    def upstream_chunk(self, data: bytes, size: int) -> None:
        """A piece of the copy's answer."""
        self.upstream_body(data[-2 - size : -2])

    def upstream_flush(self) -> None:
        """Nothing to write."""

    def upstream_end(self) -> None:
        """The copy was answered, or cut short by a server that was stopped."""
        self.record.broken = self.record.finish == "abort"
        self._end()

    def upstream_failed(self, failed: Failed) -> None:
        """The copy was lost: nobody waits for it."""
        if self.record.status:
            self.record.broken = True
        else:
            self.record.status = 503
        self._end()

    def _too_long(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self.record.status = self.record.status or _TIMEOUT
        self.record.broken = True
        self._end()

    def _end(self) -> None:
        timer, self._timer = self._timer, None
        if timer is None:
            return
        timer.cancel()
        plane = self._plane
        plane.mirrors -= 1
        self.record.duration_s = plane.clock() - self._started
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.ended(plane.clock(), ok=None)
        self._pair()

    def _pair(self) -> None:
        """Compare both, once both are over."""
        own = self._own
        if own is None or self._timer is not None or not own.duration_s:
            return
        self._own = None
        ours, theirs = self._look(self._ours, self.record), self._look(self._theirs, own)
        differ: bool | None = None
        if self._same and own.status < 400 and ours is not None and theirs is not None:
            differ = ours.digest() != theirs.digest()
        self._plane.paired(self.record, own, differ)

    def _look(self, text: AnswerText | None, record: Record) -> Answer | None:
        """Read one of both answers, and note in its record what is wrong with it."""
        answer = text.read() if text is not None else None
        if answer is None or self._asked is None or record.status >= 400 or record.broken:
            return answer
        found = check(self._asked, answer)
        if found is not None:
            record.checked, record.failed_checks = True, int(found)
        return answer


def _queue(endpoint: Endpoint) -> bool:
    """Whether requests wait at an endpoint: a copy would take their turn."""
    return endpoint.state.waiting > 0
