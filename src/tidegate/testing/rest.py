"""A client of the Kubernetes API that is plain enough to send what no real client would."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tidegate.store.credentials import Credentials

ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; header names are in lower case, and each may be there often."""

    code: int
    headers: Sequence[tuple[str, str]]
    text: str

    def json(self) -> Any:
        """Return the body's value."""
        return json.loads(self.text)

    def header(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for key, value in self.headers if key == name]


class Rest:
    """Requests to one server, each on a connection of its own."""

    def __init__(self, credentials: Credentials) -> None:
        self._port = credentials.port
        self._tls = ssl.create_default_context(cafile=str(credentials.ca_path))
        self._headers = {
            "host": f"127.0.0.1:{credentials.port}",
            "authorization": f"Bearer {credentials.token}",
            "connection": "close",
        }

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        media: str = "application/json",
        headers: Mapping[str, str | None] | None = None,
    ) -> Reply:
        """Return the answer to one request.

        Args:
            method: The method.
            path: The target.
            body: Bytes as they are; anything else as JSON.
            media: The body's Content-Type.
            headers: More headers; None takes one out.

        """
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = dict(headers or {})
        if body is not None:
            fields |= {"content-type": media, "content-length": str(len(payload))}
        async with self._connected(method, path, fields) as (reader, writer):
            writer.write(payload if body is not None else b"")
            return await _reply(reader)

    @asynccontextmanager
    async def watch(
        self, path: str, headers: Mapping[str, str | None] | None = None
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Yield the events of a watch as they come; leaving the context hangs up."""
        async with self._connected("GET", path, headers or {}) as (reader, _):
            code, _ = await _head(reader)
            if code != 200:
                raise AssertionError(f"a watch was answered with {code}")
            yield _events(reader)

    @asynccontextmanager
    async def half_sent(
        self, method: str, path: str, body: object
    ) -> AsyncIterator[Callable[[], Awaitable[Reply]]]:
        """Begin a request; yields, once the server waits for the body, what sends the body."""
        payload = json.dumps(body).encode()
        fields = {"content-length": str(len(payload)), "expect": "100-continue"}
        async with self._connected(method, path, fields) as (reader, writer):
            code, _ = await _head(reader)
            if code != 100:
                raise AssertionError(f"the server answered with {code} before the body")

            async def finish() -> Reply:
                writer.write(payload)
                return await _reply(reader)

            yield finish

    @asynccontextmanager
    async def _connected(
        self, method: str, path: str, headers: Mapping[str, str | None]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        fields = {**self._headers, **headers}
        lines = [f"{method} {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._tls)
        try:
            writer.write("\r\n".join((*lines, "", "")).encode())
            yield reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def _reply(reader: asyncio.StreamReader) -> Reply:
    code, fields = await _head(reader)
    chunked = ("transfer-encoding", "chunked") in fields
    parts = [part async for part in _chunks(reader)] if chunked else [await reader.read()]
    return Reply(code, fields, b"".join(parts).decode())


async def _head(reader: asyncio.StreamReader) -> tuple[int, list[tuple[str, str]]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), [(name.lower(), value.strip()) for name, _, value in pairs]


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for chunk in _chunks(reader):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)


def route(name: str, weight: int = 1, **metadata: Any) -> dict[str, Any]:
    """Return a valid HTTPRoute of the namespace `default`."""
    backend = {
        "group": "inference.networking.k8s.io",
        "kind": "InferencePool",
        "name": "llm",
        "weight": weight,
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, **metadata},
        "spec": {"rules": [{"backendRefs": [backend]}]},
    }
