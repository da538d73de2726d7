"""A worker that is told to stop loses nothing: not what it serves, not what waits for it."""

import asyncio
import socket

import pytest

from tidegate.testing.endpoints import answer, says
from tidegate.testing.gateway import Connection, GatewayUnderTest, serving
from tidegate.testing.waiting import wait_for

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def waiting_in_the_queue(gw: GatewayUnderTest) -> socket.socket:
    """Connect without letting the event loop run: nobody has accepted this connection yet."""
    client = socket.create_connection(("127.0.0.1", gw.port))
    client.sendall(ASK)
    return client


async def taken_over(gw: GatewayUnderTest, client: socket.socket) -> Connection:
    connection = Connection(*await asyncio.open_connection(sock=client))
    gw.opened.append(connection)
    return connection


async def test_connections_that_nobody_had_accepted_yet_are_served():
    async with serving(says(answer(body=b"served"))) as (gw, _server):
        clients = [waiting_in_the_queue(gw) for _ in range(50)]
        drained = asyncio.create_task(gw.listeners.drain(5.0))
        for client in clients:
            connection = await taken_over(gw, client)
            got = await connection.answer()
            assert (got.body, got.header("connection")) == (b"served", "close")
            connection.writer.close()
        assert await drained


async def test_a_table_that_comes_while_draining_opens_no_port():
    async with serving(says(answer())) as (gw, _server):
        assert await gw.listeners.drain(5.0)
        await gw.live.swap([])
        await gw.apply()
        with pytest.raises(ConnectionRefusedError):
            await gw.connect()


async def test_answers_of_our_own_end_the_connection_too():
    async with serving(says(answer())) as (gw, _server):
        connection = await gw.connect()
        await wait_for(lambda: gw.plane.connections)
        gw.plane.draining = True
        connection.writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        got = await connection.answer()
        assert (got.status, got.header("connection")) == (200, "close")
        assert await connection.reader.read() == b""
