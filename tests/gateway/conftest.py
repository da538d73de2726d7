"""Every test of the data path runs on both event loops: workers use uvloop, people debug on
asyncio's, and the two differ in when they call and what they forgive."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
