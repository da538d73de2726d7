"""A data plane in the test's own process, driven by manifests and met through real sockets."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tidegate.api.meta import Resource
from tidegate.api.versions import decode
from tidegate.gateway.live import LiveTable
from tidegate.gateway.plane import Live, Plane, Registry
from tidegate.gateway.server import Listeners
from tidegate.gateway.settings import WorkerSettings
from tidegate.gateway.upstream import UpstreamPool
from tidegate.judge.record import Record
from tidegate.testing.endpoints import Script, ScriptedEndpoint, scripted
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_for


@dataclass
class GatewayUnderTest:
    """One plane with its listeners; give it manifests, send it bytes, read its records."""

    plane: Plane
    registry: Registry
    listeners: Listeners
    live: LiveTable
    port: int
    records: list[Record] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    opened: list["Connection"] = field(default_factory=list)
    objects: dict[tuple[str, str, str], Resource] = field(default_factory=dict)

    async def apply(self, *manifests: str | dict[str, Any]) -> None:
        """Take manifests (YAML documents or mappings) as applied, and swap the table."""
        for manifest in manifests:
            documents = yaml.safe_load_all(manifest) if isinstance(manifest, str) else [manifest]
            for document in documents:
                resource = decode(_defaulted(document))
                self.objects[resource.kind, *resource.key] = resource
        await self.live.swap(self.objects.values())

    async def remove(self, kind: str, name: str, namespace: str = "default") -> None:
        """Take an object away, and swap the table."""
        del self.objects[kind, namespace, name]
        await self.live.swap(self.objects.values())

    async def connect(self, port: int | None = None) -> "Connection":
        """Open a raw connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port or self.port)
        connection = Connection(reader, writer)
        self.opened.append(connection)
        return connection

    async def ask(self, data: bytes, port: int | None = None) -> "Answer":
        """Send raw bytes on a connection of their own and read one answer."""
        connection = await self.connect(port)
        connection.writer.write(data)
        try:
            return await connection.answer(head_only=data.startswith(b"HEAD "))
        finally:
            connection.writer.close()
            self.opened.remove(connection)

    async def get(self, target: str = "/", host: str = "x", *headers: str) -> "Answer":
        """Send a GET."""
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]
        return await self.ask("\r\n".join(lines).encode())

    async def post(
        self, body: bytes = b"{}", target: str = "/v1/chat/completions", *headers: str
    ) -> "Answer":
        """Send a POST."""
        lines = [f"POST {target} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}"]
        return await self.ask("\r\n".join([*lines, "", ""]).encode() + body)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    raw_head: bytes

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for key, value in self.headers if key == name.lower()), None)


@dataclass
class Connection:
    """A raw client connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self, *, head_only: bool = False, timeout_s: float = 10.0) -> Answer:
        """Read one answer, body included."""
        async with asyncio.timeout(timeout_s):
            raw = await self.reader.readuntil(b"\r\n\r\n")
            lines = raw.decode("latin-1").split("\r\n")
            headers = [
                (name.lower(), value.strip())
                for name, _, value in (line.partition(":") for line in lines[1:] if line)
            ]
            found = Answer(int(lines[0].split(" ")[1]), headers, b"", raw)
            body = b"" if head_only else await self._body(found)
        return replace(found, body=body)

    async def _body(self, head: Answer) -> bytes:
        if head.status in {204, 304}:
            return b""
        if head.header("transfer-encoding") == "chunked":
            return b"".join([chunk async for chunk in self.chunks()])
        length = head.header("content-length")
        if length is not None:
            return await self.reader.readexactly(int(length))
        return await self.reader.read()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks of a chunked body as they come."""
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)


def _defaulted(document: dict[str, Any]) -> dict[str, Any]:
    metadata = {"namespace": "default", **document.get("metadata", {})}
    if document["kind"] in {"GatewayClass", "Namespace"}:
        metadata["namespace"] = ""
    return {**document, "metadata": metadata}


BASE = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: tidegate}
spec: {controllerName: tidegate.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tidegate, labels: {tidegate.dev/default: "true"}}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: http, port: PORT, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
"""
"""What `tidegate up` applies at its start; PORT is filled in."""


def pool(name: str, *addresses: str, ready: bool = True) -> str:
    """Return manifests of an InferencePool and the ModelServer with its endpoints."""
    state = "Ready" if ready else "Starting"
    endpoints = [{"address": address, "state": state} for address in addresses]
    return yaml.safe_dump_all(
        [
            {
                "apiVersion": "tidegate.dev/v1alpha1",
                "kind": "ModelServer",
                "metadata": {"name": name, "labels": {"app": name}},
                "spec": {"addresses": list(addresses)},
                "status": {"endpoints": endpoints},
            },
            {
                "apiVersion": "inference.networking.k8s.io/v1",
                "kind": "InferencePool",
                "metadata": {"name": name},
                "spec": {
                    "selector": {"matchLabels": {"app": name}},
                    "targetPorts": [{"number": 8000}],
                },
            },
        ]
    )


def route(*rules: dict[str, Any], name: str = "route", **spec: Any) -> dict[str, Any]:
    """Return an HTTPRoute on the default Gateway."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "tidegate"}], "rules": list(rules), **spec},
    }


def to(name: str, weight: int | None = None, **fields: Any) -> dict[str, Any]:
    """Return a backendRef to an InferencePool."""
    weighted = {} if weight is None else {"weight": weight}
    group = "inference.networking.k8s.io"
    return {"group": group, "kind": "InferencePool", "name": name, **weighted, **fields}


@asynccontextmanager
async def gateway(
    *manifests: str | dict[str, Any],
    now: Callable[[], float] = time.perf_counter,
    **settings: Any,
) -> AsyncIterator[GatewayUnderTest]:
    """Run a data plane that serves `manifests` on a free port."""
    loop = asyncio.get_running_loop()
    records: list[Record] = []
    rejected: list[str] = []
    base = WorkerSettings(Path("none"), "test", Path("none"), **settings)
    plane = Plane(
        loop=loop,
        settings=base,
        rng=Random(1),
        pool=UpstreamPool(loop, base.limits),
        clock=time.perf_counter,
        now=now,
        emit=records.append,
        reject=rejected.append,
    )
    registry = Registry(plane.clock)
    listeners = Listeners(plane)
    live = LiveTable(plane, registry, _NoWatch(), listeners, on_swap=_ignore)
    listeners.start()
    port = free_port()
    test = GatewayUnderTest(plane, registry, listeners, live, port, records, rejected)
    try:
        await test.apply(BASE.replace("PORT", str(port)), *manifests)
        yield test
    finally:
        for connection in test.opened:
            connection.writer.close()
        listeners.close()
        plane.pool.close()
        await wait_for(lambda: not plane.connections and not plane.pool.open)


def _ignore(_live: Live) -> None:
    pass


class _NoWatch:
    """Nothing to watch: the test swaps by itself."""

    @property
    def resources(self) -> "_NoWatch":
        """Nothing."""
        return self

    def all(self) -> list[Resource]:
        """Nothing."""
        return []

    async def synced(self) -> None:
        """At once."""

    async def changed(self) -> None:
        """Never."""
        await asyncio.Event().wait()


def statuses(answers: Iterable[Answer]) -> list[int]:
    """Return the answers' status codes."""
    return [each.status for each in answers]


@asynccontextmanager
async def serving(
    script: Script, *, rule: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[tuple[GatewayUnderTest, ScriptedEndpoint]]:
    """Run a data plane with one pool `llm` of one scripted endpoint, and `rule` or all to it."""
    async with (
        scripted(script) as server,
        gateway(
            pool("llm", server.address), route(rule or {"backendRefs": [to("llm")]}), **settings
        ) as running,
    ):
        yield running, server
