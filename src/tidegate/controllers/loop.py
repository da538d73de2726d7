"""A keyed work queue: the one way in which controllers work.

A reconciler is told *which* object may need work, never what happened to it: it looks at the
cache and does what is due. So events may be lost, doubled or merged without harm.

Invariants: a key is reconciled by one task at a time; a key that was added while it was
reconciled is reconciled once more; a failure is tried again, later and later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import structlog

from tidegate.api.errors import ConflictError, TidegateError

K = TypeVar("K", bound=Hashable)

BACK_OFF_S: Final = 0.1
BACK_OFF_LIMIT_S: Final = 30.0
CONFLICTS: Final = 3
"""In a row that are worth an error."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Retry:
    """Reconcile this key again after so many seconds, even if nothing changes."""

    after_s: float


def back_off(
    failures: int, first_s: float = BACK_OFF_S, limit_s: float = BACK_OFF_LIMIT_S
) -> float:
    """Return how many seconds to wait after so many failures in a row (1 or more)."""
    return min(first_s * 2.0 ** min(failures - 1, 30), limit_s)


async def pause(seconds: float, wake: asyncio.Event) -> bool:
    """Wait until `wake` is set, at most `seconds`; return whether it was set."""
    # Not asyncio.wait_for: before Python 3.12 it may swallow a cancellation.
    try:
        async with asyncio.timeout(seconds):
            await wake.wait()
    except TimeoutError:
        return False
    return True


async def put_away(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they are over, whatever comes of them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Loop(Generic[K]):
    """Runs `reconcile(key)` for every key that was added."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[Retry | None]],
        *,
        settle_s: float = 0.0,
        parallel: int = 8,
    ) -> None:
        """Make a loop; nothing runs before `run`.

        Args:
            name: What logs call it.
            reconcile: Level-triggered; safe to run twice.
            settle_s: How long a key waits after its first `add`, so that a burst is one run.
            parallel: How many keys are reconciled at once.

        """
        self._name = name
        self._reconcile = reconcile
        self._settle_s = settle_s
        self._parallel = parallel
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._pending: set[K] = set()  # settling or in the queue: another add changes nothing
        self._later: dict[K, asyncio.TimerHandle] = {}  # retries, which an add overtakes
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._failures: dict[K, int] = {}

    def add(self, key: K) -> None:
        """Say that `key` may need work."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._pending:
            self._forget_retry(key)
            self._pending.add(key)
            asyncio.get_running_loop().call_later(self._settle_s, self._ready.put_nowait, key)

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._parallel):
                group.create_task(self._consume())

    async def _consume(self) -> None:
        while True:
            key = await self._ready.get()
            self._pending.discard(key)
            self._running.add(key)
            try:
                retry = await self._attempt(key)
            finally:
                self._running.discard(key)
            self._next(key, retry)

    async def _attempt(self, key: K) -> Retry | None:
        try:
            retry = await self._reconcile(key)
        except Exception as error:  # noqa: BLE001  # one key must not stop the others
            return self._failed(key, error)
        self._failures.pop(key, None)
        return retry

    def _failed(self, key: K, error: Exception) -> Retry:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = back_off(failures)
        # To have looked at what somebody has changed since is nobody's mistake. Our own errors say
        # what is wrong; of others we need to know where they came from.
        stale = isinstance(error, ConflictError) and failures < CONFLICTS
        tell = log.info if stale else log.error
        tell(
            "changed meanwhile, looks again" if stale else "reconcile failed",
            loop=self._name,
            key=str(key),
            error=f"{type(error).__name__}: {error}",
            retry_in=wait_s,
            exc_info=None if isinstance(error, TidegateError) else error,
        )
        return Retry(wait_s)

    def _next(self, key: K, retry: Retry | None) -> None:
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        elif retry is not None:
            loop = asyncio.get_running_loop()
            self._later[key] = loop.call_later(retry.after_s, self._due, key)

    def _due(self, key: K) -> None:
        self._later.pop(key, None)
        self.add(key)

    def _forget_retry(self, key: K) -> None:
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()
