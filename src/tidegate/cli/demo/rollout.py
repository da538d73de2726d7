"""The rollout itself: load that never pauses, weights that move, phases that are measured."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Protocol

from tidegate.api.errors import NotFoundError, UnavailableError
from tidegate.api.gateway import HTTPRoute
from tidegate.api.meta import Key
from tidegate.api.tidegate import ModelServer
from tidegate.cli.demo.gateway import Gateway, StartError
from tidegate.cli.demo.phases import CANARY, STABLE, Phase, file, schedule
from tidegate.cli.demo.probe import Prober
from tidegate.load.arrivals import poisson
from tidegate.load.client import Client, Clock, parse_target
from tidegate.load.loop import OpenLoop
from tidegate.load.result import Result
from tidegate.load.sessions import Workload
from tidegate.store.client import HttpStore

MODEL: Final = "example/chat-8b"
ROUTE: Final = Key("default", "routes-to-llm")
MANAGER: Final = "tidegate-demo"
START_S: Final = 60.0
DRAIN_S: Final = 30.0
CHAT: Final = Workload(model=MODEL, system_words=16, user_words=10, max_tokens=8, prefix="chat")
"""Short questions and answers: a new session each."""
STORY: Final = Workload(
    model=MODEL, system_words=16, user_words=10, max_tokens=400, ignore_eos=True, prefix="story"
)
"""Streams of some seconds, so that there is always one under way when weights change."""
STORIES_PER_S: Final = 0.5


@dataclass(slots=True)
class Show:
    """What there is to see, at any time."""

    rate: float
    sessions: int
    """To be counted in each phase."""
    clock: Clock
    phases: list[Phase] = field(default_factory=schedule)
    began: list[Phase] = field(default_factory=list)
    """Those that have begun; the last one runs."""
    in_flight: int = 0
    probe_failures: list[Result] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """All requests that are over, probes aside."""
        return [one for phase in self.began for one in phase.results]

    @property
    def failures(self) -> list[Result]:
        """Requests that failed, probes too."""
        return [one for one in self.results if one.failed] + self.probe_failures

    @property
    def good(self) -> bool:
        """Whether nothing failed and every phase was played and kept its share."""
        played = len(self.began) == len(self.phases)
        return played and not self.failures and all(phase.kept() for phase in self.began)

    def take(self, result: Result) -> None:
        """File a result under its phase."""
        result.pool = result.pool.rpartition("/")[2]
        file(result, self.began)


class Audience(Protocol):
    """Who is told what happens."""

    def began(self, phase: Phase) -> None:
        """A phase began, and its weights are in effect."""

    def ended(self, phase: Phase) -> None:
        """A phase has all its sessions."""


class Rollout:
    """Drives the demo against a running gateway.

    Args:
        gateway: Where requests go and whose API is written to.
        show: What is seen of it.
        audience: Told when a phase begins and ends.

    """

    def __init__(self, gateway: Gateway, show: Show, audience: Audience) -> None:
        self._gateway = gateway
        self._show = show
        self._audience = audience
        self._prober = Prober(parse_target(gateway.url), show.clock)
        self._loops = [
            self._loop(CHAT, show.rate - STORIES_PER_S, 1),
            self._loop(STORY, STORIES_PER_S, 2),
        ]

    async def run(self) -> None:
        """Play all phases and wait for the last answers.

        Raises:
            TidegateError: It can't be played; failed requests don't raise.

        """
        store = await self._ready()
        loads = [asyncio.ensure_future(loop.run()) for loop in self._loops]
        try:
            for phase in self._show.phases:
                await self._play(phase, store)
            for loop in self._loops:
                loop.stop()
            await asyncio.wait_for(asyncio.gather(*loads), DRAIN_S)
        finally:
            for load in loads:
                load.cancel()
            await asyncio.gather(*loads, return_exceptions=True)
            self._prober.close()
            await store.close()

    async def _ready(self) -> HttpStore:
        """Return the API once everything that it should serve is up. Raises StartError."""
        async with _patience("the gateway and its model servers", self._gateway):
            while not self._gateway.kubeconfig.exists():
                await self._look()
            store = HttpStore.from_kubeconfig(self._gateway.kubeconfig)
            while not await self._serving(store):
                await self._look()
        return store

    async def _serving(self, store: HttpStore) -> bool:
        with suppress(NotFoundError, UnavailableError):
            for name in (STABLE, CANARY):
                server = await store.get(ModelServer, Key("default", name))
                if server.status.ready_replicas < server.spec.replicas:
                    return False
            places = await self._prober.places()
            self._prober.failures.clear()
            return set(places.values()) == {STABLE}
        return False

    async def _look(self) -> None:
        self._gateway.check()
        await _pause(0.05)

    async def _play(self, phase: Phase, store: HttpStore) -> None:
        show = self._show
        if not show.began:
            phase.began_at = show.clock()
            show.began.append(phase)
        else:
            await self._change(phase, store)
        self._audience.began(phase)
        while len(phase.counted) < show.sessions:
            self._gateway.check()
            show.in_flight = sum(loop.in_flight for loop in self._loops)
            await _pause(0.05)
        self._audience.ended(phase)

    async def _change(self, phase: Phase, store: HttpStore) -> None:
        """Move the weights and wait until that is seen."""
        show, clock = self._show, self._show.clock
        before = await self._prober.places()
        phase.began_at = show.began[-1].ended_at = clock()
        show.began.append(phase)
        watching = asyncio.ensure_future(self._prober.effect_of(before, phase.began_at))
        try:
            fields = {"spec": _spec(phase)}
            await store.apply(HTTPRoute, ROUTE, fields, manager=MANAGER, force=True)
            phase.acknowledged_s = clock() - phase.began_at
            phase.effect_s = await watching
            phase.settled_at = clock()
        finally:
            watching.cancel()
            show.probe_failures = self._prober.failures

    def _client(self) -> Client:
        return Client(parse_target(self._gateway.url), self._show.clock, timeout_s=30.0)

    def _loop(self, workload: Workload, rate: float, seed: int) -> OpenLoop:
        return OpenLoop(
            self._client(),
            workload,
            poisson(Random(seed), rate),
            self._show.take,
            clock=self._show.clock,
            seed=seed,
        )


def _spec(phase: Phase) -> dict[str, Any]:
    """Return the route's spec with the phase's weights; lists are replaced as a whole."""
    pools = ((STABLE, phase.stable), (CANARY, phase.canary))
    group = "inference.networking.k8s.io"
    backends = [
        {"group": group, "kind": "InferencePool", "name": name, "weight": weight}
        for name, weight in pools
    ]
    return {"rules": [{"backendRefs": backends}]}


@asynccontextmanager
async def _patience(what: str, gateway: Gateway) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(START_S):
            yield
    except TimeoutError:
        raise StartError(f"{what}: not ready after {START_S:.0f} s:\n{gateway.log()}") from None


async def _pause(seconds: float) -> None:
    wake = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, wake.set)
    await wake.wait()
