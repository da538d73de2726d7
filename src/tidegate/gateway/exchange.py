"""One request's life: route → split → admit → pick → relay.

Everything that happens to a request happens here, in this order, on the table that it began
with; how its client is answered is in `answering`. An exchange ends exactly once: by `_finish`,
which hands its record over.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from msgspec.structs import replace

from tidegate.gateway import picking, reply
from tidegate.gateway.answering import Answering, Client
from tidegate.gateway.copies import Sent, copy
from tidegate.gateway.framing import AnswerHead
from tidegate.gateway.gate import Gate, as_routed, priority_of, tenant_of
from tidegate.gateway.payload import request_payload
from tidegate.gateway.plane import Live, Plane
from tidegate.gateway.rename import choose, renamed
from tidegate.gateway.request import Incoming
from tidegate.gateway.shadow import Twin
from tidegate.gateway.upstream import Dialing, Failed, Upstream
from tidegate.gateway.whole import note_piece
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.flow.waiter import Waiter
from tidegate.picker.pool import Pool
from tidegate.picker.request import Nobody, Pick
from tidegate.picker.request import Request as PickRequest
from tidegate.picker.schedule import schedule
from tidegate.picker.state import ANSWERED
from tidegate.picker.ticket import Ticket, begin
from tidegate.routing.match import match, misdirected
from tidegate.routing.session import parse_hints, session_key
from tidegate.routing.split import choose_arm, point
from tidegate.routing.table import Arm, Backend, Match, Rule

_CLIENT_LEFT: Final = 499
"""nginx's status for a client that left; it is recorded and never sent."""
_TIMEOUT: Final = 504
_FAILURES: Final = {"connect": (503, "ConnectFailed"), "reset": (503, "UpstreamReset")}
"""Gateway API wants 500 or 503 once the tries are used up (HTTPRouteRetryConnectionError)."""
_RECORD_SALT: Final = b"record"
"""Names sessions in records; another than any split's, so that counts don't depend on arms."""
_NOT_THE_SERVER: Final = frozenset({501, 505})
"""5xx that say nothing of an endpoint's health."""


class Way(NamedTuple):
    """Where a request goes, until an endpoint is chosen."""

    rule: Rule
    arm: Arm
    backend: Backend
    live: Live
    request: Incoming
    """As it is sent: a rewrite may have named another model."""
    draw: int


class Exchange(Answering):
    """One request, from its last byte to its answer's last."""

    __slots__ = (
        "_asked_for",
        "_attempt_timer",
        "_attempts_left",
        "_chosen",
        "_fallbacks",
        "_gate",
        "_go_on",
        "_handle",
        "_heads",
        "_kept",
        "_live",
        "_over",
        "_paused",
        "_pool",
        "_progress",
        "_ticket",
        "_timer",
        "_twin",
        "_waiter",
    )

    def __init__(self, plane: Plane, client: Client, request: Incoming) -> None:
        super().__init__(plane, client, request)
        self._live: Live | None = plane.live
        self._heads: dict[int, bytes] | None = None
        self._pool: Pool | None = None
        self._gate: Gate | None = None
        self._waiter: Waiter | None = None
        self._go_on: Callable[[], None] | None = None
        self._kept = 0
        self._asked_for: PickRequest | None = None
        self._ticket: Ticket | None = None
        self._chosen: Pick | None = None
        self._fallbacks: list[Endpoint] = []
        self._handle: Upstream | Dialing | None = None
        self._attempts_left = 0
        self._paused = self._over = False
        self._twin: Twin | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._attempt_timer: asyncio.TimerHandle | None = None
        self._progress = request.began

    # the order of things

    def begin(self) -> None:
        """Find the rule, and do what it says."""
        plane, request, record = self._plane, self.request, self.record
        plane.in_flight += 1
        plane.running[id(self)] = record
        plane.budget.earn()
        record.started_at = plane.now() - (plane.clock() - request.began)
        live = self._live
        if live is None:
            self._refuse(503, "NotReady", "the gateway has no routes yet; try again in a moment")
            return
        if request.secure and misdirected(live.table, request.port, request.sni, request.host):
            self._refuse(421, "Misdirected", "this host has another certificate: connect anew")
            return
        if request.body:
            self._hints = parse_hints(request.body)
            record.model = self._hints.model or ""
            record.asked_stream = self._hints.stream
            record.features = self._hints.features
            record.max_tokens = self._hints.max_tokens
        found = self._find(live)
        if found is None:
            self._refuse(404, "RouteNotFound", "no HTTPRoute matches this host, path and method")
            return
        self._match = found
        self._follow(found.rule, live)

    def _find(self, live: Live) -> Match | None:
        """Return the rule; head, model and table are all that it depends on."""
        request, model = self.request, self._hints.model
        known = request.memo.find(live, model) if request.memo is not None else None
        if known is None:
            found = match(live.table, request.port, self._asked())
            if found is None or request.memo is None:
                return found
            known = request.memo.keep(model, found)
        self._heads = known.heads
        return known.match

    def _follow(self, rule: Rule, live: Live) -> None:
        self.record.route, self.record.rule = rule.route, rule.name
        if rule.request_timeout_s is not None:
            self._timer = self._plane.loop.call_later(rule.request_timeout_s, self._deadline)
        if rule.filters.redirect is not None:
            self._redirect(rule.filters.redirect)
        elif rule.failure is not None:
            self._refuse(rule.failure.status, rule.failure.reason, rule.failure.message)
        elif rule.pools and self._list_models(rule.pools, live):
            return
        else:
            self._split(rule, live)

    def _split(self, rule: Rule, live: Live) -> None:
        session = session_key(rule, self.request.headers, self._hints)
        if session is None:
            draw = self._plane.rng.getrandbits(64)
        else:
            draw = point(rule.salt, session)
            self.record.session = point(_RECORD_SALT, session)
        arm = choose_arm(rule, draw)
        if arm is None:
            self._refuse(500, "NoWeight", "all weights of the route's rule are 0")
            return
        self._arm = arm
        self.record.arm = arm.name
        if arm.filters.redirect is not None:
            self._redirect(arm.filters.redirect)
        elif arm.failure is not None:
            self._refuse(arm.failure.status, arm.failure.reason, arm.failure.message)
        elif arm.backend is not None:
            self._pick(rule, arm, arm.backend, live, session, draw)

    def _pick(
        self,
        rule: Rule,
        arm: Arm,
        backend: Backend,
        live: Live,
        session: bytes | None,
        draw: int,
    ) -> None:
        plane = self._plane
        self.record.pool = backend.key
        if backend.h2c:
            self._refuse(500, "UnsupportedProtocol", f"{backend.key} wants HTTP/2 (h2c)")
            return
        model, request = self._hints.model, self.request
        if backend.rewrites is not None and model is not None:
            model, self._renamer = choose(backend.rewrites, model, session, plane.rng, self.record)
            if self._renamer is not None:
                request = renamed(request, model)
        self._pool = pool = live.pool(backend)
        asked = picking.ask(pool, request, self._hints, model, session, plane.clock())
        if plane.settings.trust_client_headers:
            picking.respect(asked, request.headers)
        self._asked_for = asked
        way = Way(rule, arm, backend, live, request, draw)
        gate = self._gate = live.gates.get(backend.identity)
        if gate is not None:
            headers = as_routed(request.headers, rule, arm)
            priority = priority_of(backend, headers, self._hints.model)
            if not gate.open(priority, asked.now):
                tenant = tenant_of(headers, asked.model)
                self._wait(gate, priority, tenant, len(request.body), partial(self._go, way))
                return
        self._dispatch(way, schedule(pool, asked, plane.rng))

    def _dispatch(self, way: Way, pick: Pick | Nobody, *, looked: bool = False) -> None:
        plane, pool, asked = self._plane, self._pool, self._asked_for
        if pool is None or asked is None or self._over:
            return
        missing = isinstance(pick, Nobody) and pick.reason == "ModelNotFound"
        if missing and not looked and plane.adapters is not None:
            again = partial(self._go, way, looked=True)
            if plane.adapters.want(pool, way.backend.adapter_path, asked.model or "", again):
                return
        if missing and self._renamer:
            # A resource says that the model is there, and our list is some seconds old: it may
            # have been loaded since. The endpoint knows.
            asked.model = None
            pick = schedule(pool, asked, plane.rng)
        if isinstance(pick, Nobody):
            self._refuse(*picking.refusal(pick, way.backend, asked.model))
            return
        self._chosen = pick
        rule, arm, request = way.rule, way.arm, way.request
        self._attempts_left = rule.retry.attempts
        if pool.scheduler.roles is not None:
            request = picking.told(request, pick.prefill)
        body, session = request.body, asked.session
        heads = self._heads if request is self.request else None
        self._hold(request_payload(request, plane, rule, arm, self._prefix(), heads))
        self._send(pick.endpoint)
        if rule.filters.mirrors or arm.filters.mirrors:
            whole = replace(request, body=body)
            record, prefix = self.record, self._prefix()
            sent = Sent(whole, self._payload, rule, arm, prefix, session, way.draw, record)
            self._twin = copy(plane, way.live, sent)

    def _go(self, way: Way, *, looked: bool = False) -> None:
        """Go on once there is room, or (`looked`) once it is known whether the model is there."""
        if self._pool is not None and self._asked_for is not None and not self._over:
            self._asked_for.now = self._plane.clock()
            pick = schedule(self._pool, self._asked_for, self._plane.rng)
            self._dispatch(way, pick, looked=looked)

    # waiting for room

    def _wait(
        self, gate: Gate, priority: int, tenant: bytes, size: int, go_on: Callable[[], None]
    ) -> None:
        """Take a place in the pool's queue; `go_on` when it is its turn."""
        self._go_on, self._kept = go_on, size
        self._plane.body_bytes += self._kept
        assert self._asked_for is not None  # noqa: S101  # it was asked a moment ago
        waiter = self._waiter = gate.enter(self, priority, tenant, size, self._asked_for)
        if waiter.outcome == "dispatched":
            self.admitted()
        elif waiter.outcome == "rejected":
            self.turned_away("QueueFull", gate.flow.retry_after(priority))

    def admitted(self) -> None:
        """There is room."""
        go_on = self._waits_no_more()
        if go_on is not None:
            go_on()

    def turned_away(self, reason: str, retry_after_s: int) -> None:
        """There is no room, and no place to wait for it."""
        later = (b"retry-after", b"%d" % retry_after_s)
        self._refuse(429, reason, reply.REASONS[reason], later)

    def cut_short(self, retry_after_s: int) -> None:
        """A request that is more important needs the room."""
        self._cancel_upstream()
        self._end_attempt(ok=None)
        if self._head_sent:
            self._cut("Evicted")
        else:
            self.turned_away("Evicted", retry_after_s)

    def _waits_no_more(self) -> Callable[[], None] | None:
        go_on, self._go_on = self._go_on, None
        if go_on is not None:
            self._plane.body_bytes -= self._kept
        return go_on

    # sending

    def _send(self, endpoint: Endpoint, *, fresh: bool = False) -> None:
        plane = self._plane
        self.record.endpoint = endpoint.address
        self._progress = plane.clock()
        assert self._pool is not None  # noqa: S101  # set before anything is sent
        assert self._asked_for is not None  # noqa: S101
        partner = self._chosen.prefill if self._chosen is not None else None
        prefiller = partner.endpoint if partner is not None else None
        self._ticket = begin(self._pool, endpoint, self._asked_for, self._progress, prefiller)
        rule = self._rule()
        if rule.backend_timeout_s is not None:
            self._attempt_timer = plane.loop.call_later(
                rule.backend_timeout_s, self._attempt_over, "UpstreamTimeout"
            )
        self._handle = plane.pool.send(
            endpoint.address,
            self._payload,
            self,
            head_only=self.request.method == "HEAD",
            fresh=fresh,
        )

    def _may_retry(self) -> bool:
        """Take one retry from the policy and the budget, if both have one."""
        if self._head_sent or self._attempts_left < 1 or self._chosen is None:
            return False
        if not self._plane.budget.spend(self._plane.clock()):
            return False
        self._attempts_left -= 1
        self.record.retries += 1
        return True

    def _resend(self) -> None:
        """Send to the next endpoint; the one that failed comes last, maybe as the only one."""
        if self._chosen is not None and not self._fallbacks:
            self._fallbacks = [*self._chosen.fallbacks(), self._chosen.endpoint]
        following = self._fallbacks.pop(0)
        self._fallbacks.append(following)
        backoff = self._rule().retry.backoff_s
        if backoff:
            self._attempt_timer = self._plane.loop.call_later(backoff, self._send, following)
        else:
            self._send(following)

    def _end_attempt(self, *, ok: bool | None) -> None:
        """Settle the attempt under way with its endpoint."""
        if self._attempt_timer is not None:
            self._attempt_timer.cancel()
            self._attempt_timer = None
        self._handle = None
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            output = self.record.events or self.record.output_tokens
            ticket.ended(self._plane.clock(), ok=ok, output=output if ok else 0)

    # what the endpoint says

    def upstream_started(self, connection: Upstream) -> None:
        """The request is being sent."""
        self._handle = connection
        if self._paused:
            connection.pause()

    def upstream_head(self, head: AnswerHead, length: int | None) -> None:
        """Pass the head on, or try elsewhere."""
        status = head.status
        self._progress = self._plane.clock()
        if status in self._rule().retry.codes and self._may_retry():
            self._give_up(status)
            self._resend()
            return
        ticket = self._ticket
        if ticket is not None and ticket.endpoint.state.failures and _well(status):
            ticket.endpoint.note(ANSWERED, self._progress)
        self.record.status = status
        self._write_head(head, length)

    def upstream_body(self, data: bytes) -> None:
        """Pass a piece on."""
        record = self.record
        at = self._progress = self._plane.clock()
        if record.ttft_s is None:
            record.ttft_s = at - self.request.began
            # Of an answer that comes whole, the end tells.
            if record.streamed and self._ticket is not None:
                self._ticket.answered(at)
        record.response_bytes += len(data)
        if self._meter is not None:
            self._meter.feed(data, at)
        else:
            note_piece(record, data)
        if self._twin is not None:
            self._twin.heard(data)
        if self._renamer is not None:
            data = self._renamer.feed(data)
        if data:
            self._append(data)

    def upstream_chunk(self, data: bytes, size: int) -> None:
        """Pass a chunk on as it is, where the client gets an event stream in chunks."""
        meter = self._meter
        as_it_is = self._chunked and self._renamer is None and self._twin is None
        if meter is None or not as_it_is:
            self.upstream_body(data[-2 - size : -2])
            self.upstream_flush()
            return
        at = self._progress = self._plane.clock()
        self.record.response_bytes += size
        meter.feed_chunk(data, at)
        self._client.write(data)

    def upstream_end(self) -> None:
        """The answer is whole."""
        if self._renamer is not None and (rest := self._renamer.rest()):
            self._append(rest)
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self.upstream_flush()
        # A server that was stopped ends its answers as if they were whole: they are not.
        self.record.broken = self.record.finish == "abort"
        self._finish(ok=_well(self.record.status) and not self.record.broken)

    def upstream_failed(self, failed: Failed) -> None:
        """Try elsewhere, or say why not."""
        endpoint = self._ticket.endpoint if self._ticket is not None else None
        if failed.stale and endpoint is not None and self._attempts_left and not self._over:
            # Not the endpoint's fault, so no budget is spent. It is a try all the same: nobody
            # knows how far the endpoint got with the first.
            self._attempts_left -= 1
            self._end_attempt(ok=None)
            self._send(endpoint, fresh=True)
            return
        self._end_attempt(ok=None if failed.ours else False)
        status, reason = _FAILURES.get(failed.kind, (502, "UpstreamProtocolError"))
        if self._head_sent:
            self._cut(reason)
        elif self._may_retry():
            self._resend()
        else:
            self._refuse(status, reason, f"{self._where()}: {failed.detail}")

    def _give_up(self, status: int) -> None:
        """Leave an endpoint whose answer is not worth passing on."""
        if self._handle is not None:
            self._handle.cancel()
        self._end_attempt(ok=_well(status))

    # what the client does

    def pause(self) -> None:
        """The client is slow: stop reading from the endpoint."""
        self._paused = True
        if self._handle is not None:
            self._handle.pause()

    def resume(self) -> None:
        """The client caught up."""
        self._paused = False
        self._progress = self._plane.clock()
        if self._handle is not None:
            self._handle.resume()

    def can_inform(self) -> bool:
        """Whether the client may get an informational answer now."""
        return not self._head_sent and not self.request.http10

    def client_gone(self) -> None:
        """Cancel: the endpoint must not go on generating for nobody."""
        self.record.client_gone = True
        if not self._head_sent:
            self.record.status = _CLIENT_LEFT
        self._cancel_upstream()
        self._settle(ok=None)

    # time

    def sweep(self) -> None:
        """End an exchange whose endpoint is silent. Called about twice a second."""
        if self._paused:
            # It can't speak: the client takes nothing, and that is watched elsewhere.
            return
        limits = self._plane.settings.limits
        limit = limits.silence_timeout_s if self._head_sent else limits.answer_timeout_s
        if self._plane.clock() - self._progress > limit:
            self._attempt_over("UpstreamTimeout")

    def _deadline(self) -> None:
        self._attempts_left = 0
        self._attempt_over("RequestDeadline")

    def _attempt_over(self, reason: str) -> None:
        self._cancel_upstream()
        # An answer that is too long for its route is not the endpoint's fault.
        self._end_attempt(ok=None if self._head_sent and reason == "RequestDeadline" else False)
        if self._head_sent:
            self._cut(reason)
        elif _TIMEOUT in self._rule().retry.codes and self._may_retry():
            self._resend()
        else:
            self._refuse(504, reason, f"{self._where()} took too long")

    # the end

    def _cut(self, reason: str) -> None:
        """The answer can't be finished: the client must see that it isn't whole."""
        self.record.broken = True
        self.record.reason = reason
        self.upstream_flush()
        self._settle(ok=None)
        self._client.abort()

    def crash(self) -> None:
        """Answer for a bug of ours: this request fails, the worker goes on."""
        self._cancel_upstream()
        if self._head_sent:
            self._cut("InternalError")
        elif not self._over:
            self._refuse(500, "InternalError", "the gateway failed; its log says more")

    def _finish(self, *, ok: bool | None) -> None:
        if self._settle(ok=ok):
            self._client.done(keep_alive=self._keep_alive)

    def _settle(self, *, ok: bool | None) -> bool:
        """Let go of everything and hand the record over; False if that was done before."""
        if self._over:
            return False
        self._over = True
        self._end_attempt(ok=ok)
        if self._payload:
            self._hold(b"")
        if self._timer is not None:
            self._timer.cancel()
        plane = self._plane
        plane.in_flight -= 1
        plane.running.pop(id(self), None)
        self.record.duration_s = plane.clock() - self.request.began
        plane.emit(self.record)
        if self._twin is not None:
            self._twin.over()
        gate, waiter = self._gate, self._waiter
        if gate is not None and (waiter is not None or gate.flow.size):
            self._waits_no_more()
            gate.left(waiter)
        return True

    def _cancel_upstream(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.cancel()


def _well(status: int) -> bool:
    return status < 500 or status in _NOT_THE_SERVER
