"""A model that no endpoint of a pool lists: look again, load it if the pool allows, then decide.

Lists of models are some seconds old, so a model that was just loaded is missing from them.
Before a client hears that it isn't there, the endpoints are asked anew, at most once a second a
pool. Where the pool says where its adapters lie, one that nobody has is then loaded on the
endpoint with the least to do, once however many requests wait for it.

What couldn't be had is remembered for `REFUSED_S`, so wrong names cost nothing but a look-up.
Names come from clients and end up in a path: only plain ones are ever loaded.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Final

import msgspec
import structlog

from tidegate.gateway.framing import AnswerHead
from tidegate.gateway.upstream import Failed, Upstream, UpstreamPool
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Nobody, Request
from tidegate.picker.schedule import schedule
from tidegate.picker.state import Event, Listed, Model

log = structlog.get_logger("tidegate.gateway")

LOOK_S: Final = 1.0
"""How long new lists are waited for."""
STEP_S: Final = 0.01
REFUSED_S: Final = 5.0
MOST_REFUSED: Final = 10_000
MOST_LOADING: Final = 4
"""Adapters that one worker loads at once; a name more is refused for now."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ALREADY: Final = b"already"

Done = Callable[[], None]


class Adapters:
    """What one worker does about missing models."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connections: UpstreamPool,
        rng: Random,
        clock: Callable[[], float],
        *,
        refresh: Callable[[Iterable[str]], None],
        note: Callable[[str, Event], None],
    ) -> None:
        """Make it.

        Args:
            loop: For waiting.
            connections: To the endpoints.
            rng: Chooses among equals.
            clock: As endpoints' events are given.
            refresh: Has the models of these endpoints listed soon.
            note: Takes what is known of an endpoint, for all workers.

        """
        self._loop = loop
        self._connections = connections
        self._rng = rng
        self._clock = clock
        self._refresh = refresh
        self._note = note
        self._waiting: dict[tuple[str, str], list[Done]] = {}
        self._refused: dict[tuple[str, str], float] = {}
        self._looked: dict[str, float] = {}
        self._loading = 0

    def want(self, pool: Pool, path: str, model: str, done: Done) -> bool:
        """Find `model`; return False if there is no hope.

        Args:
            pool: Where.
            path: Where its adapters lie, `{adapter}` for the name; '' loads none.
            model: As no endpoint lists it.
            done: Called once, when it is there or isn't to be had.

        """
        key = (pool.name, model)
        if key in self._waiting:
            self._waiting[key].append(done)
            return True
        now = self._clock()
        if self._refused.get(key, 0.0) > now:
            return False
        self._waiting[key] = [done]
        if now - self._looked.get(pool.name, -LOOK_S) >= LOOK_S:
            self._looked[pool.name] = now
            self._refresh([endpoint.address for endpoint in pool.members])
        self._look(pool, path, model, now)
        return True

    def _look(self, pool: Pool, path: str, model: str, began: float) -> None:
        """Wait until all lists are newer than the question, or one has the model."""
        if pool.residency.knows(model):
            self._end(pool, model, found=True)
        elif self._clock() - began < LOOK_S and not self._all_new(pool):
            self._loop.call_later(STEP_S, self._look, pool, path, model, began)
        elif path and _PLAIN.fullmatch(model) and self._loading < MOST_LOADING:
            self._load(pool, path, model)
        else:
            self._end(pool, model, found=False)

    def _all_new(self, pool: Pool) -> bool:
        since = self._looked.get(pool.name, 0.0)
        return all(one.state.listed_at >= since for one in pool.members)

    def _load(self, pool: Pool, path: str, model: str) -> None:
        pick = schedule(pool, Request(self._clock()), self._rng)
        if isinstance(pick, Nobody):
            self._end(pool, model, found=False)
            return
        self._loading += 1
        address = pick.endpoint.address
        log.info("loading adapter", pool=pool.name, endpoint=address, adapter=model)
        fields = {"lora_name": model, "lora_path": path.replace("{adapter}", model)}
        loaded = partial(self._loaded, pool, model, pick.endpoint)
        self._connections.send(address, _post(address, fields), _Call(loaded))

    def _loaded(self, pool: Pool, model: str, endpoint: Endpoint, problem: str) -> None:
        self._loading -= 1
        if problem:
            log.warning(
                "adapter not loaded", endpoint=endpoint.address, adapter=model, error=problem
            )
        else:
            models = endpoint.state.models
            parent = next((one.id for one in models if one.parent is None), "base")
            listed = (*models, Model(id=model, parent=parent))
            self._note(endpoint.address, Listed(listed))
        self._end(pool, model, found=not problem)

    def _end(self, pool: Pool, model: str, *, found: bool) -> None:
        key = (pool.name, model)
        if not found:
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused[key] = self._clock() + REFUSED_S
        for done in self._waiting.pop(key, ()):
            done()


def _post(address: str, fields: dict[str, str]) -> bytes:
    body = msgspec.json.encode(fields)
    head = (
        f"POST /v1/load_lora_adapter HTTP/1.1\r\nhost: {address}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Call:
    """Receives the answer to one call: says what went wrong, '' for nothing."""

    def __init__(self, done: Callable[[str], None]) -> None:
        self._done = done
        self._status = 0
        self._body = b""

    def upstream_started(self, connection: Upstream) -> None:
        """It is being sent."""

    def upstream_head(self, head: AnswerHead, length: int | None) -> None:
        """Remember how it was answered."""
        self._status = head.status

    def upstream_body(self, data: bytes) -> None:
        """Remember the beginning of the text."""
        self._body = (self._body + data)[:1000]

    def upstream_chunk(self, data: bytes, size: int) -> None:
        """As `upstream_body`."""
        self.upstream_body(data[-2 - size : -2])

    def upstream_flush(self) -> None:
        """Nothing to write."""

    def upstream_end(self) -> None:
        """Judge the answer; an adapter that is there already is there."""
        fine = self._status == 200 or _ALREADY in self._body.lower()
        text = self._body.decode(errors="replace")
        self._done("" if fine else f"answered {self._status} {text}")

    def upstream_failed(self, failed: Failed) -> None:
        """It can't be reached."""
        self._done(failed.detail or failed.kind)
