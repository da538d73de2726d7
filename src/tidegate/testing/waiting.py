"""Wait for conditions instead of sleeping."""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Final

PAUSE_S: Final = 0.01


async def wait_for(
    condition: Callable[[], object | Awaitable[object]], timeout_s: float = 10.0, what: str = ""
) -> None:
    """Return once `condition()` (or what it awaits) is true.

    Raises:
        AssertionError: It was still false after `timeout_s` seconds.

    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return
        if loop.time() > end:
            raise AssertionError(f"still waiting after {timeout_s} s for {what or condition}")
        wake = asyncio.Event()
        loop.call_later(PAUSE_S, wake.set)
        await wake.wait()


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0, what: str = "") -> None:
    """Return once `condition()` is true; the same for threads without an event loop."""
    never = threading.Event()
    end = time.perf_counter() + timeout_s
    while not condition():
        if time.perf_counter() > end:
            raise AssertionError(f"still waiting after {timeout_s} s for {what or condition}")
        never.wait(PAUSE_S)
