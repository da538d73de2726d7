"""TLS listeners: certificates from Secrets, chosen by SNI, exchanged while running."""

import asyncio
import base64
import socket
import ssl
from pathlib import Path

import pytest

from tidegate.testing.certificates import certificate
from tidegate.testing.endpoints import answer, says, scripted
from tidegate.testing.gateway import Connection, GatewayUnderTest, gateway, pool, route, to
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_for


def secret(name: str, chain: bytes, key: bytes) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(chain).decode(),
            "tls.key": base64.b64encode(key).decode(),
        },
    }


def secure_gateway(port: int, **hosts: str) -> dict:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "secure"},
        "spec": {
            "gatewayClassName": "tidegate",
            "listeners": [
                {
                    "name": name,
                    "port": port,
                    "protocol": "HTTPS",
                    "hostname": host,
                    "tls": {"certificateRefs": [{"name": name}]},
                }
                for name, host in hosts.items()
            ],
        },
    }


async def handshake(port: int, host: str, trusted: bytes) -> Connection:
    context = ssl.create_default_context(cadata=trusted.decode())
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=host
    )
    return Connection(reader, writer)


async def ask(gw: GatewayUnderTest, port: int, sni: str, trusted: bytes, host: str) -> int:
    connection = await handshake(port, sni, trusted)
    gw.opened.append(connection)
    connection.writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return (await connection.answer()).status


@pytest.fixture
async def gw():
    async with (
        scripted(says(answer())) as server,
        gateway(
            pool("llm", server.address),
            route({"backendRefs": [to("llm")]}, parentRefs=[{"name": "secure"}]),
        ) as running,
    ):
        yield running


async def test_each_hostname_has_its_certificate(gw):
    port = free_port()
    one, other = certificate("one.test"), certificate("other.test")
    await gw.apply(secret("one", *one), secret("other", *other))
    await gw.apply(secure_gateway(port, one="one.test", other="other.test"))
    assert await ask(gw, port, "one.test", one[0], "one.test") == 200
    assert await ask(gw, port, "other.test", other[0], f"other.test:{port}") == 200
    assert gw.records[0].route == "default/route"


async def test_a_name_that_nobody_serves_is_refused_in_the_handshake(gw):
    port = free_port()
    one = certificate("one.test")
    await gw.apply(secret("one", *one), secure_gateway(port, one="one.test"))
    with pytest.raises(OSError):  # SSLError or reset, as the event loop sees it
        await handshake(port, "nobody.test", one[0])


async def test_a_connection_for_one_host_does_not_serve_another(gw):
    port = free_port()
    one, other = certificate("one.test"), certificate("other.test")
    await gw.apply(secret("one", *one), secret("other", *other))
    await gw.apply(secure_gateway(port, one="one.test", other="other.test"))
    assert await ask(gw, port, "one.test", one[0], "other.test") == 421


async def test_a_renewed_certificate_is_used_without_a_restart(gw):
    port = free_port()
    old, new = certificate("one.test"), certificate("one.test")
    await gw.apply(secret("one", *old), secure_gateway(port, one="one.test"))
    kept = await handshake(port, "one.test", old[0])
    gw.opened.append(kept)
    await gw.apply(secret("one", *new))
    assert await ask(gw, port, "one.test", new[0], "one.test") == 200
    kept.writer.write(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
    assert (await kept.answer()).status == 200


async def test_a_missing_secret_takes_nothing_else_down(gw):
    port = free_port()
    await gw.apply(secure_gateway(port, gone="gone.test"))
    await gw.apply(route({"backendRefs": [to("llm")]}))
    assert (await gw.get()).status == 200


async def test_a_listener_that_goes_closes_its_port(gw, tmp_path: Path):
    port = free_port()
    one = certificate("one.test")
    await gw.apply(secret("one", *one), secure_gateway(port, one="one.test"))
    assert await ask(gw, port, "one.test", one[0], "one.test") == 200
    await gw.remove("Gateway", "secure")

    async def refused() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            return True
        writer.close()
        return False

    await wait_for(refused)


async def test_a_host_is_the_same_in_capitals(gw):
    port = free_port()
    one, other = certificate("one.test"), certificate("other.test")
    await gw.apply(secret("one", *one), secret("other", *other))
    await gw.apply(secure_gateway(port, one="one.test", other="other.test"))
    assert await ask(gw, port, "ONE.test", one[0], "One.Test") == 200


@pytest.mark.parametrize("pause", [0.0, 0.1], ids=["in the queue", "accepted"])
async def test_connections_in_their_handshake_are_served_before_the_worker_ends(gw, pause: float):
    port = free_port()
    one = certificate("one.test")
    await gw.apply(secret("one", *one), secure_gateway(port, one="one.test"))
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=pause)
    drained = asyncio.create_task(gw.listeners.drain(5.0))
    await asyncio.wait({drained}, timeout=0.1)
    assert not drained.done()
    context = ssl.create_default_context(cadata=one[0].decode())
    for client in waiting:
        connection = Connection(
            *await asyncio.open_connection(sock=client, ssl=context, server_hostname="one.test")
        )
        gw.opened.append(connection)
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n")
        assert (await connection.answer()).status == 200
        connection.writer.close()
    assert await drained


async def test_a_refused_upload_over_tls_gets_to_read_why(gw):
    port = free_port()
    one = certificate("one.test")
    await gw.apply(secret("one", *one), secure_gateway(port, one="one.test"))
    connection = await handshake(port, "one.test", one[0])
    gw.opened.append(connection)
    head = b"POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 99999999\r\n\r\n"
    connection.writer.write(head + b"x" * 5_000_000)
    assert (await connection.answer()).status == 413
