"""One request at one endpoint: what its start, first token and end tell the pool.

    ticket = begin(pool, endpoint, request, now)
    ticket.answered(now)                      # its first token, of an answer that streams
    ticket.ended(now, ok=True, output=200)    # exactly once

The endpoint is charged at once with the request and its tokens, so the next pick knows of it
before any scrape could. Where the pool's scheduler needs neither prompts nor latencies, a ticket
only counts the request.
"""

from heapq import heappush
from itertools import count
from typing import Final

import msgspec

from tidegate.picker.endpoint import Endpoint
from tidegate.picker.latency import Observation
from tidegate.picker.pool import Pool
from tidegate.picker.request import Request
from tidegate.picker.state import STARTED, Finished, Prefilled, Started

SURELY: Final = 1.5
"""How many times its expected time a prompt whose first token can't be seen is waited for."""
_NUMBERS: Final = count()
"""Tell entries of one time apart."""


class Ticket(msgspec.Struct):
    """A request that was sent and isn't over."""

    pool: Pool
    endpoint: Endpoint
    began: float
    slot: int | None = None
    """None: the endpoint has left the pool."""
    prefill: int = 0
    """Tokens of its prompt that are still to be computed."""
    tokens: int = 0
    seen: Observation | None = None
    first: float | None = None
    """When its first token came."""
    partner: "Ticket | None" = None
    """Of the endpoint that computes the prompt for this one."""

    def answered(self, now: float) -> None:
        """Note the first token; later calls are ignored."""
        if self.first is not None:
            return
        self.first = now
        self.prefilled(now)
        (self.partner or self).learn_ttft(now)
        if self.partner is not None:
            self.partner.ended(now, ok=True)
            self.partner = None

    def learn_ttft(self, now: float) -> None:
        """Have the pool learn how long the prompt took, which was computed by `now`."""
        model = self.pool.latency
        if model is not None and self.seen is not None and self._seated():
            model.answered(self.slot or 0, self.seen, self.began, now)

    def prefilled(self, now: float) -> None:
        """Note that its prompt is computed, by what was seen or by what was to be expected."""
        if self.prefill:
            self.endpoint.note(Prefilled(self.prefill), now)
            self.prefill = 0

    def ended(self, now: float, *, ok: bool | None, output: int = 0) -> None:
        """Note the end.

        Args:
            now: When.
            ok: As in `state.Finished`.
            output: Tokens of the answer, if it came whole; 0 if it didn't, or nobody counted.

        """
        self.endpoint.note(Finished(ok, self.prefill, self.tokens), now)
        self.prefill = 0
        if output and self.seen is not None and self._seated():
            self._learn(self.seen, output, now)
        if self.partner is not None:
            self.partner.ended(now, ok=None)
            self.partner = None

    def _learn(self, seen: Observation, output: int, now: float) -> None:
        model, slot = self.pool.latency, self.slot or 0
        if model is None:
            return
        if self.first is not None:
            model.finished(slot, seen, output, self.first, now)
        elif self.partner is None:
            model.came_whole(slot, seen, output, self.began, now)

    def _seated(self) -> bool:
        return self.slot is not None and self.pool.slot_of(self.endpoint) == self.slot


def begin(
    pool: Pool, endpoint: Endpoint, request: Request, now: float, prefiller: Endpoint | None = None
) -> Ticket:
    """Charge `endpoint` with `request`, which is being sent there.

    `prefiller` computes its prompt, where that isn't `endpoint` itself, and is charged with that.
    """
    slot = pool.slot_of(endpoint)
    scheduler = pool.scheduler
    if slot is None or not scheduler.reads_prompts:
        endpoint.note(STARTED, now)
        if slot is not None:
            _sent(pool, slot, request)
        ticket = Ticket(pool, endpoint, now, slot)
    else:
        ticket = _charge(pool, endpoint, slot, request, now, computes=prefiller is None)
    if prefiller is not None:
        ticket.partner = begin(pool, prefiller, request, now)
    return ticket


def _charge(
    pool: Pool, endpoint: Endpoint, slot: int, request: Request, now: float, *, computes: bool
) -> Ticket:
    missing = _missing(pool, slot, request, now)
    _sent(pool, slot, request)
    if not pool.scheduler.counts_tokens:
        endpoint.note(STARTED, now)
        return Ticket(pool, endpoint, now, slot)
    model, seen = pool.latency, None
    prefill = missing if computes else 0
    length = model.output if model is not None else request.output
    tokens = request.prompt + int(min(request.output or length, length))
    if model is not None:
        compute = float(pool.pending[slot]) + prefill
        seen = Observation(compute, float(pool.load[slot]), float(pool.queue[slot]))
    endpoint.note(Started(prefill, tokens), now)
    ticket = Ticket(pool, endpoint, now, slot, prefill, tokens, seen)
    if not request.stream and prefill and seen is not None:
        _expect(pool, ticket, seen)
    return ticket


def _sent(pool: Pool, slot: int, request: Request) -> None:
    pool.picks[slot] += 1
    if request.model is not None:
        pool.residency.sent(slot, request.model)


def _missing(pool: Pool, slot: int, request: Request, now: float) -> int:
    """Note where the prompt goes; return how many of its tokens aren't cached there."""
    prefix, chain = pool.prefix, request.chain
    if prefix is None or not chain:
        return request.prompt
    cached = prefix.match_one(slot, chain)
    if not cached:
        pool.last_miss[slot] = now
    pool.prompt_tokens += request.prompt
    pool.cached_tokens += min(cached, request.prompt)
    fresh = prefix.note(slot, chain)
    if pool.news is not None and fresh < len(chain):
        pool.news.append((slot, fresh, chain[fresh:]))
    return max(1, request.prompt - cached)


def _expect(pool: Pool, ticket: Ticket, seen: Observation) -> None:
    """Have the pool take the prompt as computed when it should be: nobody will see it happen."""
    model = pool.latency
    if model is not None:
        expected = model.expected_ttft(ticket.slot or 0, seen)
        heappush(pool.expected, (ticket.began + SURELY * expected, next(_NUMBERS), ticket))
