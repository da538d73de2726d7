"""Live traffic beside a test: the load client on a thread of its own, its results kept."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from urllib.request import Request, urlopen

import uvloop

from tidegate.load.arrivals import poisson
from tidegate.load.client import Client, parse_target
from tidegate.load.loop import OpenLoop
from tidegate.load.result import Result
from tidegate.load.sessions import Workload
from tidegate.testing.waiting import wait_until

_SEEDS = count(1)


class Traffic:
    """What was sent until now."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.ended = False
        self._loop: OpenLoop | None = None
        self._events: asyncio.AbstractEventLoop | None = None

    @property
    def failures(self) -> list[Result]:
        """The requests that failed."""
        return [result for result in self.results if result.failed]

    def more(self, results: int = 50, timeout_s: float = 30.0) -> list[Result]:
        """Wait for so many results of requests that start from now on; return them."""
        begun = time.perf_counter()

        def fresh() -> list[Result]:
            return [result for result in list(self.results) if result.started_at > begun]

        wait_until(lambda: len(fresh()) >= results, timeout_s, f"{results} more results")
        return fresh()

    def run(self, url: str, rate: float, workload: Workload, timeout_s: float) -> None:
        """Send until `stop`; the thread's body."""

        async def main() -> None:
            self._events = asyncio.get_running_loop()
            client = Client(parse_target(url), time.perf_counter, timeout_s)
            seed = next(_SEEDS)
            self._loop = OpenLoop(
                client,
                workload,
                poisson(Random(seed), rate),
                self.results.append,
                clock=time.perf_counter,
                seed=seed,
            )
            await self._loop.run()

        try:
            uvloop.run(main())
        finally:
            self.ended = True

    def stop(self) -> None:
        """Start no more; what is under way ends."""
        if self._events is not None and self._loop is not None:
            # The event loop may have ended since: then there is nothing to stop.
            with contextlib.suppress(RuntimeError):
                self._events.call_soon_threadsafe(self._loop.stop)


@contextmanager
def traffic(
    url: str, rate: float, model: str, max_tokens: int = 8, timeout_s: float = 60.0
) -> Iterator[Traffic]:
    """Send streamed chats of `rate` new sessions a second while the context lasts."""
    workload = Workload(model=model, max_tokens=max_tokens, system_words=5, user_words=5)
    running = Traffic()
    thread = threading.Thread(target=running.run, args=(url, rate, workload, timeout_s))
    thread.start()
    try:
        running.more(1)
        yield running
    finally:
        running.stop()
        thread.join()


@contextmanager
def long_answer(url: str, model: str) -> Iterator[None]:
    """Keep one streamed request under way while the context lasts, for a minute at most."""
    body = {
        "model": model,
        "stream": True,
        "max_tokens": 3000,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "Count."}],
    }
    stop = threading.Event()

    def read() -> None:
        headers = {"content-type": "application/json"}
        # The gateway's own URL, which is http.
        where = f"{url}/v1/chat/completions"
        request = Request(where, json.dumps(body).encode(), headers)  # noqa: S310
        with urlopen(request, timeout=60) as answer:  # noqa: S310
            while not stop.is_set() and answer.readline():
                pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
