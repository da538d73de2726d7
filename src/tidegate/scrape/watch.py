"""Look at one endpoint again and again, and say what was seen.

A server that answers below 500 lives, with metrics or without: many good servers have none.
No answer in time, a broken one or a 5xx is a failed scrape. What is seen goes out as events
of `picker.state`; what they mean for the endpoint is decided there.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from tidegate.api.errors import UnavailableError
from tidegate.picker.state import (
    SCRAPES_TO_UNHEALTHY,
    Event,
    Listed,
    Sample,
    ScrapeFailed,
)
from tidegate.scrape.engines import engine_named, read_sample
from tidegate.scrape.http import Answer, Client
from tidegate.scrape.models import parse_models
from tidegate.scrape.pace import MODELS_S, NO_METRICS_S, UNKNOWN_METRICS_S, Pace

log = structlog.get_logger()

BLIND: Final = Sample(blind=True)


class Watch:
    """Watches one endpoint while `run` runs."""

    def __init__(
        self, address: str, engine: str, pace: Pace, on_event: Callable[[str, Event], None]
    ) -> None:
        self.address = address
        self.engine = engine
        self._names = engine_named(engine)
        self._pace = pace
        self._on_event = on_event
        self._client = Client(address)
        self._failures = 0
        self._models_due = 0.0
        self._known: frozenset[str] = frozenset()
        self._woken: asyncio.Future[None] | None = None

    def refresh_models(self) -> None:
        """List the models at once."""
        self._models_due = 0.0
        self._wake()

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            await self._pause(self._pace.start())
            while True:
                await self._pause(self._pace.spread(await self._look()))
        finally:
            self._client.close()

    async def _look(self) -> float:
        """Scrape once; return how long to wait before the next time."""
        try:
            answer = await self._get(self._names.path)
            if answer.status >= 500:
                raise UnavailableError(f"{self._names.path} answered {answer.status}")
        except UnavailableError as error:
            return self._failed(error)
        pause = self._seen(answer)
        if asyncio.get_running_loop().time() >= self._models_due:
            await self._list_models()
        return pause

    async def _get(self, path: str) -> Answer:
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                return await self._client.get(path)
        except TimeoutError as error:
            raise UnavailableError(f"no answer within {self._pace.timeout_s} s") from error

    def _failed(self, error: UnavailableError) -> float:
        self._failures += 1
        pause = self._pace.failing(self._failures)
        if self._failures == SCRAPES_TO_UNHEALTHY:
            log.warning(
                "endpoint unhealthy", endpoint=self.address, error=str(error), retry_in=pause
            )
        self._on_event(self.address, ScrapeFailed(str(error)))
        return pause

    def _seen(self, answer: Answer) -> float:
        if self._failures >= SCRAPES_TO_UNHEALTHY:
            log.info("endpoint healthy again", endpoint=self.address)
        self._failures = 0
        sample = read_sample(answer.body, self._names) if answer.status == 200 else None
        self._on_event(self.address, sample or BLIND)
        if sample is None:
            return UNKNOWN_METRICS_S if answer.status == 200 else NO_METRICS_S
        self._notice_adapters(sample)
        return self._pace.busy() if sample.waiting or sample.running else self._pace.idle()

    def _notice_adapters(self, sample: Sample) -> None:
        """Have the models listed when an adapter is named that they lacked: it was loaded since."""
        named = sample.adapters.running | sample.adapters.waiting if sample.adapters else None
        if named and not named <= self._known:
            self._known |= named
            self._models_due = 0.0

    async def _list_models(self) -> None:
        self._models_due = asyncio.get_running_loop().time() + MODELS_S
        try:
            answer = await self._get("/v1/models")
        except UnavailableError:
            return  # No matter of health: the next scrape says whether the server lives.
        models = parse_models(answer.body) if answer.status == 200 else None
        if models is not None:
            self._known = frozenset(model.id for model in models) | self._known
            self._on_event(self.address, Listed(models))

    async def _pause(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._woken = woken = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await woken
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._woken and not self._woken.done():
            self._woken.set_result(None)
