"""Servers that answer with what they saw, on a thread of their own.

A request steers its answer by its query, which no filter changes:

    delay=S           answer after S seconds
    answer=NAME:TEXT  with this header (may be repeated)
    id=ID&fail=N      the first N requests of this id fail …
    status=CODE       … with this status, or by a reset (`reset`), by default 500 …
    stall=S           … after S seconds
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from urllib.parse import parse_qs

import msgspec

from tidegate.testing.endpoints import Seen, answer, scripted

PROBES = frozenset({"/health", "/metrics", "/v1/models"})
"""What a gateway asks by itself."""
START_S = 10.0


class Echo:
    """One server."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self.seen: list[Seen] = []
        """Requests, without what the gateway asks by itself."""
        self._failed: Counter[str] = Counter()

    async def script(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        path, _, query = seen.target.partition("?")
        if path in PROBES:
            writer.write(answer(body=b'{"data": []}'))
            return
        self.seen.append(seen)
        wanted = parse_qs(query)
        (name,) = wanted.get("id", [""])
        if self._failed[name] < int(_one(wanted, "fail", "0")):
            self._failed[name] += 1
            await _pause(float(_one(wanted, "stall", "0")))
            _fail(writer, _one(wanted, "status", "500"))
            return
        await _pause(float(_one(wanted, "delay", "0")))
        headers = [one.partition(":") for one in wanted.get("answer", [])]
        given = tuple((name, text) for name, _, text in headers)
        writer.write(answer(body=self._echo(seen), headers=given))

    def _echo(self, seen: Seen) -> bytes:
        return msgspec.json.encode(
            {
                "server": self.name,
                "method": seen.method,
                "target": seen.target,
                "headers": seen.headers,
                "body": seen.body.decode(),
            }
        )


def _one(wanted: dict[str, list[str]], name: str, default: str) -> str:
    return wanted.get(name, [default])[0]


def _fail(writer: asyncio.StreamWriter, status: str) -> None:
    if status == "reset":
        writer.transport.abort()
    else:
        writer.write(answer(int(status), b"failed"))


async def _pause(seconds: float) -> None:
    if seconds:
        wake = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, wake.set)
        await wake.wait()


@contextmanager
def echoes(*names: str) -> Iterator[dict[str, Echo]]:
    """Run one server for each name on 127.0.0.1."""
    servers = {name: Echo(name) for name in names}
    ready = threading.Event()
    stop = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        async with AsyncExitStack() as stack:
            for server in servers.values():
                endpoint = await stack.enter_async_context(scripted(server.script))
                server.address = endpoint.address
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="echoes")
    thread.start()
    try:
        if not ready.wait(START_S):
            raise AssertionError("the echo servers don't start")
        yield servers
    finally:
        if loops:
            loops[0].call_soon_threadsafe(stop.set)
        thread.join()
