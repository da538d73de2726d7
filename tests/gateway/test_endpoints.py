"""Endpoints by address, by IPv6, by name; and those that can't be reached, each for its reason."""

import asyncio
import resource
import socket

import pytest

from tidegate.gateway.settings import Limits
from tidegate.gateway.upstream import Failed, UpstreamPool
from tidegate.testing.endpoints import ScriptedEndpoint, answer, says, scripted
from tidegate.testing.gateway import GatewayUnderTest, gateway, pool, route, serving, to
from tidegate.testing.ports import free_port


def external(name: str, port: int) -> tuple[dict, dict]:
    """Return a Service for a host elsewhere, and a route to it."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "outside"},
        "spec": {"type": "ExternalName", "externalName": name, "ports": [{"port": port}]},
    }
    return service, route({"backendRefs": [{"name": "outside", "port": port}]})


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as one:
        try:
            one.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_an_endpoint_may_have_an_ipv6_address():
    endpoint = ScriptedEndpoint(says(answer(body=b"six")))
    server = await asyncio.start_server(endpoint.handle, "::1", 0)
    address = f"[::1]:{server.sockets[0].getsockname()[1]}"
    async with gateway(pool("llm", address), route({"backendRefs": [to("llm")]})) as gw:
        got = await gw.get()
        assert (got.body, got.header("x-tidegate-endpoint")) == (b"six", address)
    server.close()


async def test_a_service_may_name_a_host():
    async with scripted(says(answer(body=b"by name"))) as server:
        port = int(server.address.rpartition(":")[2])
        async with gateway(*external("localhost", port)) as gw:
            assert (await gw.get()).body == b"by name"


@pytest.mark.parametrize("name", ["nobody.invalid", "a" * 64 + ".test", "a..b", ""])
async def test_a_name_that_leads_nowhere_is_503(name: str):
    async with gateway(*external(name, 80), limits=Limits(connect_timeout_s=0.5)) as gw:
        got = await gw.get()
        reason = "ConnectFailed" if name else "NoEndpoints"
        assert (got.status, got.header("x-tidegate-reason")) == (503, reason)
        assert gw.plane.in_flight == 0


async def test_when_all_endpoints_are_down_each_request_ends_soon_and_once():
    dead = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    async with gateway(pool("llm", *dead), route({"backendRefs": [to("llm")]})) as gw:
        answers = await asyncio.gather(*(gw.post(b"{}") for _ in range(200)))
        assert {got.status for got in answers} == {503}
        assert {record.retries for record in gw.records} <= {0, 1, 2}
        # The budget: a reserve, a fifth of the requests, and what time adds.
        assert sum(record.retries for record in gw.records) < 10 + 200 / 5 + 20
        assert all(each.state.in_flight == 0 for each in gw.registry.all().values())


async def test_a_worker_without_files_blames_no_endpoint():
    async with serving(says(answer())) as (gw, server):
        assert (await gw.get()).status == 200
        connections = [await gw.connect() for _ in range(5)]
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.socket() as lowest:
            # No file beyond those that are open: a free number below would be used first.
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), before[1]))
            try:
                statuses = [await ask(gw, each.writer, each.reader) for each in connections]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert 503 in statuses
        assert gw.registry.all()[server.address].state.failures == 0


async def ask(gw: GatewayUnderTest, writer: asyncio.StreamWriter, reader) -> int:
    gw.plane.pool._idle.clear()
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1])


class Heard:
    """A receiver that remembers its failure."""

    def __init__(self) -> None:
        self.failed: asyncio.Future[Failed] = asyncio.get_running_loop().create_future()

    def upstream_failed(self, failed: Failed) -> None:
        self.failed.set_result(failed)


@pytest.mark.parametrize("address", ["x", "x:", "x:port", "x:99999", "[::1:80", "\0:80"])
async def test_an_address_that_is_none_is_a_failure_and_never_silence(address: str):
    connections = UpstreamPool(asyncio.get_running_loop(), Limits(connect_timeout_s=1.0))
    heard = Heard()
    connections.send(address, b"", heard)
    failed = await asyncio.wait_for(heard.failed, 5)
    assert (failed.kind, failed.ours) == ("connect", False)
