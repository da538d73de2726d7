"""A response that goes on until its source ends, its client is gone, or the server stops."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class StreamResponse(Response):
    """Lines of JSON, each sent as soon as it is there."""

    def __init__(self, lines: AsyncGenerator[bytes, None], stopping: asyncio.Event) -> None:
        super().__init__(media_type="application/json")
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-cache, private"
        self._lines = lines
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, however it comes."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        sending = asyncio.ensure_future(self._send(send))
        ends = [
            sending,
            asyncio.ensure_future(_gone(receive)),
            asyncio.ensure_future(self._wait_for_stop()),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(ends)
        if not sending.cancelled():
            sending.result()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        try:
            async for line in self._lines:
                await send({"type": "http.response.body", "body": line, "more_body": True})
        finally:
            await self._lines.aclose()

    async def _wait_for_stop(self) -> None:
        await self._stopping.wait()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(tasks: "Sequence[asyncio.Future[None]]") -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
