"""Starts sessions when they are due and never waits for answers to do so.

An open loop shows what users see when a server is slow: a closed one would politely slow down
with it. Bounded by the arrivals and by `max_in_flight`: beyond it a request is counted as
failed with `overload` and not sent.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

from tidegate.load.client import Client, Clock
from tidegate.load.result import Result
from tidegate.load.sessions import Conversation, Session, Workload

PATH = "/v1/chat/completions"


class OpenLoop:
    """One run.

    Args:
        client: Where requests go.
        workload: What sessions are like.
        arrivals: When they start, in seconds from the beginning.
        on_result: Gets every request's result when it is over.
        clock: The client's.
        seed: Of the sessions' words and pauses.
        max_in_flight: Requests that may be under way at once.
        conversation: Makes the session of each arrival by its number, where `workload` doesn't.

    """

    def __init__(
        self,
        client: Client,
        workload: Workload,
        arrivals: Iterator[float],
        on_result: Callable[[Result], None],
        *,
        clock: Clock,
        seed: int = 0,
        max_in_flight: int = 4096,
        conversation: Callable[[int], Conversation] | None = None,
    ) -> None:
        self._conversation = conversation or (lambda number: Session(workload, seed, number))
        self.started = 0
        self.in_flight = 0
        self._client = client
        self._head = client.target.head(PATH)
        self._arrivals = arrivals
        self._on_result = on_result
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Start all sessions and wait for their ends; cancelled, it cuts what is under way."""
        begin = self._clock()
        try:
            for at in self._arrivals:
                await self._wait(begin + at - self._clock())
                if self._stop.is_set():
                    break
                self._begin(begin + at)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._client.close()

    def stop(self) -> None:
        """Start no more sessions; those under way go on to their ends."""
        self._stop.set()

    def _begin(self, due: float) -> None:
        session = self._conversation(self.started)
        self.started += 1
        task = asyncio.ensure_future(self._converse(session, due))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, session: Conversation, due: float) -> None:
        for turn in range(session.turns):
            result = await self._request(session, session.first_turn + turn, due)
            answer, result.answer = result.answer, []
            self._on_result(result)
            if result.failed or self._stop.is_set() or turn + 1 == session.turns:
                return
            session.hear(answer)
            pause = session.pause()
            due = self._clock() + pause
            if pause:
                await self._wait(pause)

    async def _request(self, session: Conversation, turn: int, due: float) -> Result:
        now = self._clock()
        result = Result(session.number, turn, now, lag_s=max(0.0, now - due))
        if self.in_flight >= self._max_in_flight:
            result.error = "overload"
            return result
        self.in_flight += 1
        try:
            return await self._client.send(result, self._head, session.ask())
        finally:
            self.in_flight -= 1

    async def _wait(self, seconds: float) -> None:
        """Return after `seconds`, or when the run is stopped."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), seconds)
