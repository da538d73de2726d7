"""How a request's client is answered: by an endpoint's answer, or by ourselves.

The part of an exchange that looks at the client: heads, framing, errors, redirects, and the
list of models. What is said comes from `exchange`, which knows when.
"""

from abc import ABC, abstractmethod
from typing import Protocol

from tidegate.gateway import framing, models, reply
from tidegate.gateway.framing import AnswerHead, frame
from tidegate.gateway.hops import Headers
from tidegate.gateway.plane import Live, Plane
from tidegate.gateway.rename import Renamer
from tidegate.gateway.request import Incoming
from tidegate.gateway.sse import EventMeter
from tidegate.judge.record import Record
from tidegate.routing.filters import location
from tidegate.routing.match import Request as MatchRequest
from tidegate.routing.session import NO_HINTS, BodyHints
from tidegate.routing.table import Arm, Backend, Match, Redirect, Rule


class Client(Protocol):
    """The client's connection, as far as an exchange sees it."""

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""

    def done(self, *, keep_alive: bool) -> None:
        """The answer is out."""

    def abort(self) -> None:
        """Cut the connection."""


class Answering(ABC):
    """What an exchange knows of its client, and says to it."""

    __slots__ = (
        "_arm",
        "_chunked",
        "_client",
        "_head_sent",
        "_hints",
        "_keep_alive",
        "_match",
        "_meter",
        "_out",
        "_payload",
        "_plane",
        "_renamer",
        "record",
        "request",
    )

    def __init__(self, plane: Plane, client: Client, request: Incoming) -> None:
        self._plane = plane
        self._client = client
        self.request = request
        self._hints: BodyHints = NO_HINTS
        self._match: Match | None = None
        self._arm: Arm | None = None
        self._payload = b""
        self._head_sent = self._chunked = False
        self._keep_alive = request.keep_alive
        self._out: list[bytes] = []
        self._meter: EventMeter | None = None
        self._renamer: Renamer | None = None
        self.record = Record(method=request.method, request_bytes=len(request.body))

    @abstractmethod
    def _finish(self, *, ok: bool | None) -> None:
        """The answer is out."""

    # by an endpoint's answer

    def upstream_flush(self) -> None:
        """Write what one read brought, at once."""
        if self._out:
            self._client.write(b"".join(self._out))
            self._out.clear()

    def _append(self, data: bytes) -> None:
        out = self._out
        if self._chunked:
            out.append(b"%x\r\n" % len(data))
            out.append(data)
            out.append(b"\r\n")
        else:
            out.append(data)

    def _hold(self, payload: bytes) -> None:
        """Keep what is sent as long as it may be sent again; no longer, for it may be large."""
        self.request.body = b""
        self._plane.body_bytes += len(payload) - len(self._payload)
        self._payload = payload

    def _write_head(self, answer: AnswerHead, length: int | None) -> None:
        rule, arm, written, draining = self._rule(), self._arm, answer.written, self._plane.draining
        self._head_sent = True
        self._hold(b"")
        if self._renamer is not None:
            length = self._renamed_length(answer.headers, length)
        head = written.find(rule, arm) if written is not None and arm is not None else None
        if head is None:
            head = self._head(answer, rule, arm)
            if written is not None and arm is not None and self._meter is None:
                written.keep(rule, arm, head)
        keep_alive = self._keep_alive and not draining
        lines, self._chunked, self._keep_alive = frame(
            answer.status, length, self.request, keep_alive=keep_alive
        )
        self._out += (head, lines)

    def _head(self, answer: AnswerHead, rule: Rule, arm: Arm | None) -> bytes:
        """Return the head without what frames the body; prepare for a stream if it is one."""
        headers = framing.edited(answer.headers, rule, arm)
        if framing.is_stream(headers):
            self.record.streamed = True
            self._meter = EventMeter(self.record)
        head = framing.head(answer.status, headers)
        if self._plane.settings.answer_headers and arm is not None and self.record.endpoint:
            head += b"x-tidegate-pool: %b\r\nx-tidegate-endpoint: %b\r\n" % (
                arm.name.encode(),
                self.record.endpoint.encode(),
            )
        return head

    def _renamed_length(self, headers: Headers, length: int | None) -> int | None:
        """Return the length of an answer in which names are put back: nobody knows it."""
        if framing.is_coded(headers):
            self._renamer = None
            return length
        return None if length else length

    # by ourselves

    def _refuse(
        self, status: int, reason: str, message: str, *headers: tuple[bytes, bytes]
    ) -> None:
        """Answer with an error of our own."""
        self.record.reason = reason
        body = reply.error_body(status, reason, message)
        self._answer(status, body, (b"x-tidegate-reason", reason.encode()), *headers)

    def _redirect(self, redirect: Redirect) -> None:
        request = self.request
        scheme = "https" if request.secure else "http"
        where = location(redirect, self._asked(), scheme, request.port, self._prefix())
        self._answer(redirect.status, b"", (b"location", where.encode("latin-1")))

    def _list_models(self, pools: tuple[Backend, ...], live: Live) -> bool:
        """Answer `/v1/models` from what the endpoints listed; False if that isn't asked."""
        request = self.request
        if request.method not in {"GET", "HEAD"} or not models.asked(request.path):
            return False
        endpoints = [each for pool in pools for each in live.endpoints(pool)]
        rewrites = [pool.rewrites for pool in pools if pool.rewrites is not None]
        self._answer(*models.answer(request.path, endpoints, rewrites))
        return True

    def _answer(self, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Answer by ourselves."""
        self.record.status = status
        self._head_sent = True
        self._keep_alive = self._keep_alive and not self._plane.draining
        answer = reply.render(
            status,
            body,
            headers=headers,
            head_only=self.request.method == "HEAD",
            close=not self._keep_alive,
        )
        self._client.write(answer)
        self._finish(ok=None)

    # what the rule says

    def _asked(self) -> MatchRequest:
        request = self.request
        return MatchRequest(
            request.host,
            request.method,
            request.path,
            request.query,
            request.headers,
            self._hints.model,
        )

    def _where(self) -> str:
        """Name the endpoint to the client, unless its address is nobody's business."""
        shown = self._plane.settings.answer_headers
        return (self.record.endpoint if shown else "") or "the endpoint"

    def _rule(self) -> Rule:
        assert self._match is not None  # noqa: S101  # only asked once a rule was found
        return self._match.rule

    def _prefix(self) -> str:
        return self._match.prefix if self._match is not None else ""
