"""Settings for all tests."""

import asyncio

from hypothesis import HealthCheck, settings

# How fast examples are made says how busy the machine is, not whether the code is right.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_configure():
    # pytest-asyncio saves the thread's event loop before the first async test. Where none was
    # ever set, asyncio makes one for the asking, which nobody closes: a ResourceWarning later.
    asyncio.set_event_loop(None)
