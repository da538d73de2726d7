"""Settings for all tests."""

import asyncio


def pytest_configure():
    # pytest-asyncio saves the thread's event loop before the first async test. Where none was
    # ever set, asyncio makes one for the asking, which nobody closes: a ResourceWarning later.
    asyncio.set_event_loop(None)
