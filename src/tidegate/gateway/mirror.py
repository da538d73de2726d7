"""Mirrored requests: a copy goes to another backend, its answer is dropped.

The client never waits for a mirror, and mirrors are the first to be left out: over
`Limits.mirrors` at once there are no more, and none where the pool is well used already.
"""

import asyncio

from tidegate.gateway.framing import AnswerHead
from tidegate.gateway.plane import Live, Plane
from tidegate.gateway.upstream import Dialing, Failed, Upstream
from tidegate.picker.request import Nobody, Request
from tidegate.picker.schedule import schedule
from tidegate.picker.ticket import Ticket, begin
from tidegate.routing.filters import mirror_drawn
from tidegate.routing.table import Mirror


def mirror(plane: Plane, live: Live, to: Mirror, payload: bytes, head_only: bool) -> None:
    """Send a copy of `payload` to `to`, if the draw and the limit say so."""
    if not mirror_drawn(to, plane.rng.getrandbits(64)):
        return
    full = plane.mirrors >= plane.settings.limits.mirrors or to.backend.h2c
    if full or not live.spare(to.backend, plane.clock()):
        plane.reject("MirrorDropped")
        return
    pool, asked = live.pool(to.backend), Request(plane.clock())
    pick = schedule(pool, asked, plane.rng)
    if not isinstance(pick, Nobody):
        ticket = begin(pool, pick.endpoint, asked, asked.now)
        _Copy(plane, ticket).send(payload, head_only=head_only)


class _Copy:
    """One mirrored request."""

    __slots__ = ("_handle", "_plane", "_ticket", "_timer")

    def __init__(self, plane: Plane, ticket: Ticket) -> None:
        self._plane = plane
        self._ticket = ticket
        self._handle: Upstream | Dialing | None = None
        self._timer: asyncio.TimerHandle | None = None

    def send(self, payload: bytes, *, head_only: bool) -> None:
        """Start; the copy ends by itself."""
        plane, endpoint = self._plane, self._ticket.endpoint
        plane.mirrors += 1
        self._timer = plane.loop.call_later(plane.settings.limits.answer_timeout_s, self._too_long)
        self._handle = plane.pool.send(endpoint.address, payload, self, head_only=head_only)

    def upstream_started(self, connection: Upstream) -> None:
        """Remember what to cancel."""
        self._handle = connection

    def upstream_head(self, head: AnswerHead, length: int | None) -> None:
        """Dropped."""

    def upstream_body(self, data: bytes) -> None:
        """Dropped."""

    def upstream_chunk(self, data: bytes, size: int) -> None:
        """Dropped."""

    def upstream_flush(self) -> None:
        """Nothing to write."""

    def upstream_end(self) -> None:
        """The copy was answered."""
        self._end()

    def upstream_failed(self, failed: Failed) -> None:
        """The copy was lost: nobody waits for it."""
        self._end()

    def _too_long(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._end()

    def _end(self) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._plane.mirrors -= 1
        self._ticket.ended(self._plane.clock(), ok=None)
