"""One HTTP request on a connection of its own, as plain as can be.

Deliberately shares nothing with the product's clients: what it sees is what is on the wire.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.body)

    def events(self) -> list[str]:
        """Return the data of server-sent events."""
        return [event.removeprefix("data: ") for event in self.body.decode().split("\n\n") if event]


async def exchange(
    port: int,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request to 127.0.0.1 and return the whole answer.

    Args:
        port: Where to.
        method: The method.
        path: The target.
        body: Bytes or text as they are; anything else as JSON.
        headers: More headers.

    Raises:
        ConnectionError: The connection broke before the answer's end.

    """
    async with connected(port) as (reader, writer):
        writer.write(request_bytes(method, path, body, headers))
        return await read_answer(reader, method)


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield the two ends of a connection to 127.0.0.1 that is closed afterwards."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def request_bytes(
    method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a request that asks for the connection to be closed after it."""
    payload = _payload(body)
    fields = {"host": "127.0.0.1", "connection": "close", **(headers or {})}
    if body is not None:
        fields.setdefault("content-type", "application/json")
        fields.setdefault("content-length", str(len(payload)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join((*lines, "", "")).encode() + payload


async def read_answer(reader: asyncio.StreamReader, method: str = "GET") -> Answer:
    """Read one answer: by its length, its chunks, or up to the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = b"" if method == "HEAD" else await _read_body(reader, headers)
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the connection ended within an answer") from error
    return Answer(int(first.split()[1]), headers, body)


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        return b"".join([chunk async for chunk in _chunks(reader)])
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")


def _payload(body: object) -> bytes:
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()
