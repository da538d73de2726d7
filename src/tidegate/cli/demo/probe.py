"""How long a patch takes to be in effect, seen from outside.

A set of sessions asks the gateway in turn, every few milliseconds, which pool it goes to. A
request is routed when it arrives, so the change is in effect when the last request that was
still routed the old way has started, and it is seen as soon as the next one of a session that
moved has.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from tidegate.api.errors import TidegateError
from tidegate.load.client import Client, Clock, Target
from tidegate.load.result import Result

SESSIONS: Final = 100
"""So many that a tenth of the traffic surely moves some of them."""
CONNECTIONS: Final = 7
TIMEOUT_S: Final = 10.0
EVERY_S: Final = 0.0025
QUIET_S: Final = 0.2
"""It is over when for so long no session went elsewhere than before."""
PATIENCE_S: Final = 10.0


class NoEffectError(TidegateError):
    """The data plane doesn't show what was written."""

    reason = "NoEffect"


@dataclass(frozen=True, slots=True)
class Seen:
    """A probe: where a session was routed by a request that started at `at`."""

    session: int
    at: float
    pool: str


class Prober:
    """Asks where sessions go."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self.failures: list[Result] = []
        # A gateway has several workers, a connection stays with one of them: use some in turn,
        # and a number that has no factor in common with that of the sessions.
        self._clients = [Client(target, clock, TIMEOUT_S) for _ in range(CONNECTIONS)]
        self._turns = cycle(self._clients)
        self._clock = clock
        self._heads = [
            target.head("/version", b"x-session-id: probe-%d\r\n" % number, "GET")
            for number in range(SESSIONS)
        ]

    async def ask(self, session: int) -> Seen:
        """Return where one session goes now."""
        result = Result(session, 0, 0.0)
        await next(self._turns).send(result, self._heads[session], b"")
        if result.failed:
            self.failures.append(result)
        return Seen(session, result.started_at, result.pool.rpartition("/")[2])

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            client.close()

    async def places(self) -> dict[int, str]:
        """Return where every session goes now."""
        seen = await asyncio.gather(*(self.ask(number) for number in range(SESSIONS)))
        return {one.session: one.pool for one in seen}

    async def effect_of(self, before: Mapping[int, str], patched_at: float) -> float:
        """Return how many seconds after `patched_at` the new weights were in effect.

        Args:
            before: Where the sessions went until then.
            patched_at: On the clock, when the patch was sent, which was just now.

        Raises:
            NoEffectError: Nothing moved.

        """
        seen: list[Seen] = []
        tasks: set[asyncio.Task[None]] = set()

        async def note(session: int) -> None:
            seen.append(await self.ask(session))

        for session in cycle(range(SESSIONS)):
            tasks.add(task := asyncio.ensure_future(note(session)))
            task.add_done_callback(tasks.discard)
            await _pause(EVERY_S)
            if self._settled(seen, before):
                break
            if self._clock() - patched_at > PATIENCE_S:
                raise NoEffectError(f"no session moved in {PATIENCE_S} s after the weights did")
        await asyncio.gather(*tasks)
        return effect(seen, before) - patched_at

    def _settled(self, seen: list[Seen], before: Mapping[int, str]) -> bool:
        """Whether all sessions were asked since the last change was seen."""
        places = dict(before)
        changed_at = None
        for one in sorted(seen, key=lambda one: one.at):
            if one.pool and places[one.session] != one.pool:
                places[one.session], changed_at = one.pool, one.at
        quiet = max(QUIET_S, SESSIONS * EVERY_S)
        return changed_at is not None and self._clock() - changed_at > quiet


def effect(seen: Iterable[Seen], before: Mapping[int, str]) -> float:
    """Return when the new places were in effect, on the clock of the probes."""
    ordered = sorted((one for one in seen if one.pool), key=lambda one: one.at)
    after = {one.session: one.pool for one in ordered}
    movers = [one for one in ordered if after[one.session] != before[one.session]]
    stale = max((one.at for one in movers if one.pool == before[one.session]), default=0.0)
    return next(one.at for one in movers if one.at > stale)


async def _pause(seconds: float) -> None:
    wake = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, wake.set)
    await wake.wait()
