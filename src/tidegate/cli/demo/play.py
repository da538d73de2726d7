"""The three updates, played: load that never pauses, and rollouts that run themselves."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final, Protocol

from tidegate.api.errors import TidegateError
from tidegate.api.rollout import InferenceRollout
from tidegate.cli.demo.acts import Act, file, programme
from tidegate.cli.demo.gateway import Gateway, StartError
from tidegate.cli.rollout.client import Client as Api
from tidegate.cli.rollout.client import pause
from tidegate.cli.rollout.manifest import from_file
from tidegate.load.arrivals import poisson
from tidegate.load.client import Client, Clock, parse_target
from tidegate.load.loop import OpenLoop
from tidegate.load.result import Result
from tidegate.load.sessions import Workload
from tidegate.store.client import HttpStore

NAMESPACE: Final = "default"
START_S: Final = 60.0
ACT_S: Final = 120.0
"""An update that has not ended by then is given up."""
DRAIN_S: Final = 30.0
TURNS: Final = 6
"""Requests of a session: long enough to meet a change of weights."""
CHAT: Final = Workload(
    model="chat", turns=TURNS, system_words=16, user_words=10, max_tokens=8, think_s=1.0,
    prefix="chat",
)  # fmt: skip
REVIEW: Final = Workload(
    model="food-review", turns=TURNS, system_words=16, user_words=10, max_tokens=8, think_s=1.0,
    prefix="review",
)  # fmt: skip
SHARES: Final = ((CHAT, 0.6), (REVIEW, 0.4))


@dataclass(slots=True)
class Show:
    """What there is to see, at any time."""

    rate: float
    """Requests a second, as sessions of `TURNS` of them."""
    clock: Clock
    acts: list[Act] = field(default_factory=programme)
    began: list[Act] = field(default_factory=list)
    """Those that have begun; the last one runs."""
    in_flight: int = 0

    @property
    def good(self) -> bool:
        """Whether all was played and went as it should."""
        return len(self.began) == len(self.acts) and all(act.good for act in self.began)

    def take(self, load: str, result: Result) -> None:
        """File a result under its act."""
        result.pool = result.pool.rpartition("/")[2]
        file(load, result, self.began)


class Audience(Protocol):
    """Who is told what happens."""

    def began(self, act: Act) -> None:
        """An update was started."""

    def changed(self, act: Act) -> None:
        """Its rollout is another."""

    def ended(self, act: Act) -> None:
        """It is over."""


class Play:
    """Drives the demo against a running gateway.

    Args:
        gateway: Where requests go and whose API is written to.
        rollouts: The folder of the updates' manifests.
        show: What is seen of it.
        audience: Told what happens.

    """

    def __init__(self, gateway: Gateway, rollouts: Path, show: Show, audience: Audience) -> None:
        self._gateway = gateway
        self._rollouts = rollouts
        self._show = show
        self._audience = audience
        self._loops = [self._loop(work, share, n) for n, (work, share) in enumerate(SHARES)]

    async def run(self, at_end: Callable[[Act], None]) -> None:
        """Play all acts and wait for the last answers.

        Args:
            at_end: Called with each act that has ended.

        Raises:
            TidegateError: It can't be played; failed requests don't raise.

        """
        store = await self._ready()
        self._show.began.append(self._show.acts[0])
        self._show.acts[0].began_at = self._show.clock()
        loads = [asyncio.ensure_future(loop.run()) for loop in self._loops]
        try:
            for act in self._show.acts:
                await self._play(act, Api(store, NAMESPACE))
                at_end(act)
            for loop in self._loops:
                loop.stop()
            async with asyncio.timeout(DRAIN_S):
                await asyncio.gather(*loads)
        finally:
            await _ended(loads)
            await store.close()

    async def _ready(self) -> HttpStore:
        """Return the API once everything that it should serve is up. Raises StartError."""
        async with _patience("the gateway and its model servers", self._gateway, START_S):
            while not self._gateway.ready:
                self._gateway.check()
                await pause(0.05)
        return HttpStore.from_kubeconfig(self._gateway.kubeconfig)

    async def _play(self, act: Act, api: Api) -> None:
        show = self._show
        if act not in show.began:
            act.began_at = show.clock()
            show.began.append(act)
        (given,) = from_file(str(self._manifest(act)), NAMESPACE)
        act.rollout = await api.apply(act.name, given.fields)
        self._audience.began(act)
        async with _patience(f"the update {act.name}", self._gateway, ACT_S):
            await self._follow(act, api)
        act.ended_at = show.clock()
        self._audience.ended(act)

    def _manifest(self, act: Act) -> Path:
        found = sorted(self._rollouts.glob(f"*-{act.name}.yaml"))
        if not found:
            raise StartError(f"{self._rollouts}: found no manifest of the update {act.name}")
        return found[0]

    async def _follow(self, act: Act, api: Api) -> None:
        async with aclosing(api.follow(act.name)) as states:
            async for one in states:
                self._gateway.check()
                self._show.in_flight = sum(loop.in_flight for loop in self._loops)
                if one is None:
                    raise StartError(f"the rollout {act.name} was deleted")
                act.rollout = one
                self._audience.changed(act)
                if act.over and _is_settled(one):
                    return

    def _loop(self, workload: Workload, share: float, seed: int) -> OpenLoop:
        show = self._show
        return OpenLoop(
            Client(parse_target(self._gateway.url), show.clock, timeout_s=30.0),
            workload,
            poisson(Random(seed), show.rate * share / TURNS),
            partial(show.take, workload.prefix),
            clock=show.clock,
            seed=seed,
        )


def _is_settled(rollout: InferenceRollout) -> bool:
    """Whether what is left to do after the end was done, so that another may begin."""
    return not rollout.metadata.finalizers


async def _ended(tasks: Sequence["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    with suppress(TidegateError):
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _patience(what: str, gateway: Gateway, seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise StartError(f"{what}: not over after {seconds:.0f} s:\n{gateway.log()}") from None
