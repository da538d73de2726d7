"""Sessions that come again and again, and who answered them each time.

Each asks the same question all the time. The pool is the answer's header; where both sides are
on one pool (an adapter's update), the words tell: a simulated server says the same to the same
question, and each model something else.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import msgspec
import uvloop

from tidegate.load.client import Client, parse_target
from tidegate.load.loop import OpenLoop
from tidegate.load.result import Result
from tidegate.load.sessions import Workload
from tidegate.testing.waiting import wait_until

EVERY_S = 0.3


class Regular:
    """One session."""

    turns = 1_000_000
    first_turn = 0

    def __init__(self, number: int, model: str) -> None:
        self.number = number
        self.words: list[str] = []
        """What it was answered, each time."""
        self.pools: list[str] = []
        """By whom."""
        body = {
            "model": model,
            "user": f"regular-{number}",
            "max_tokens": 6,
            "temperature": 0,
            "messages": [{"role": "user", "content": "How are you?"}],
        }
        self._body = msgspec.json.encode(body)

    def ask(self) -> bytes:
        """Return its question."""
        return self._body

    def hear(self, answer: Sequence[bytes]) -> None:
        """Keep the answer's words."""
        said = msgspec.json.decode(b"".join(answer))["choices"][0]["message"]["content"]
        self.words.append(said)

    def pause(self) -> float:
        """Return how long it waits, in seconds."""
        return EVERY_S


class Regulars:
    """All of them."""

    def __init__(self, url: str, model: str, count: int) -> None:
        self.sessions = [Regular(number, model) for number in range(count)]
        self.failures: list[Result] = []
        self._url = url
        self._model = model
        self._stop = threading.Event()
        self._loop: OpenLoop | None = None

    def run(self) -> None:
        """Come again and again until `stop`; the thread's body."""

        async def main() -> None:
            self._loop = loop = OpenLoop(
                Client(parse_target(self._url), time.perf_counter),
                Workload(model=self._model, stream=False),
                (0.05 * number for number in range(len(self.sessions))),
                self._take,
                clock=time.perf_counter,
                conversation=lambda number: self.sessions[number],
            )
            await loop.run()

        uvloop.run(main())

    def _take(self, result: Result) -> None:
        if result.failed:
            self.failures.append(result)
        else:
            self.sessions[result.session].pools.append(result.pool.rpartition("/")[2])
        if self._stop.is_set() and self._loop is not None:
            self._loop.stop()

    def stop(self) -> None:
        """Come no more after the next answer."""
        self._stop.set()

    def again(self, times: int = 3) -> None:
        """Wait until each was answered so many times more."""
        until = [len(each.pools) + times for each in self.sessions]
        pairs = list(zip(self.sessions, until, strict=True))
        what = "all regulars to come again"
        wait_until(lambda: self.failures or all(len(e.pools) >= n for e, n in pairs), 30.0, what)
        if self.failures:
            raise AssertionError(f"a regular's request failed: {self.failures[0]}")


@contextmanager
def regulars(url: str, model: str, count: int = 30) -> Iterator[Regulars]:
    """Have `count` sessions come all the time while the context lasts."""
    running = Regulars(url, model, count)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        running.again(1)
        yield running
    finally:
        running.stop()
        thread.join()


def crossings(seen: Sequence[str]) -> tuple[int, int]:
    """Return how often a session went from the side that it began with, and how often back."""
    pairs = [(a, b) for a, b in pairwise(seen) if a != b]
    back = sum(b == seen[0] for _, b in pairs)
    return len(pairs) - back, back
