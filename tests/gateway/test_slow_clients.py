"""Clients that read slowly, not at all, or only half: they get their due and nothing more."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tidegate.gateway.settings import Limits
from tidegate.picker.state import UNSEEN
from tidegate.testing.endpoints import Seen, answer, says
from tidegate.testing.gateway import Connection, GatewayUnderTest, serving
from tidegate.testing.waiting import wait_for

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = 100_000
"""The last that is read of it makes a narrow connection say: no more for now."""


@contextlib.asynccontextmanager
async def narrow(gw: GatewayUnderTest) -> AsyncIterator[Connection]:
    """A connection whose buffers hold next to nothing, and that reads when it is told to."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.setblocking(False)
    before = set(gw.listeners._connections)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", gw.port))
    await wait_for(lambda: set(gw.listeners._connections) - before)
    (served,) = set(gw.listeners._connections) - before
    its = served.transport.get_extra_info("socket")
    its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    reader, writer = await asyncio.open_connection(sock=client, limit=1024)
    writer.transport.pause_reading()
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def test_a_full_client_does_not_stop_the_endpoints_connection_for_the_next():
    async with serving(says(answer(body=b"x" * BIG))) as (gw, server), narrow(gw) as slow:
        slow.writer.write(ASK)
        await wait_for(lambda: gw.records)
        assert len((await gw.get()).body) == BIG
        assert server.accepted == 1


async def test_the_next_answer_waits_until_the_client_has_taken_those_before():
    async with serving(says(answer(body=b"x" * BIG))) as (gw, server), narrow(gw) as slow:
        slow.writer.write(ASK * 10)
        await wait_for(lambda: gw.records)
        for _ in range(3):
            await gw.get()
        assert len(server.seen) == 1 + 3
        slow.writer.transport.resume_reading()
        for _ in range(10):
            assert len((await slow.answer()).body) == BIG


async def test_a_slow_reader_gets_the_whole_of_its_last_answer():
    limits = Limits(linger_s=0.1)
    async with (
        serving(says(answer(body=b"x" * BIG)), limits=limits) as (gw, _server),
        narrow(gw) as slow,
    ):
        slow.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await wait_for(lambda: gw.records)
        # Two sweeps later a connection that merely lingers would be cut.
        await asyncio.wait({asyncio.create_task(asyncio.Event().wait())}, timeout=1.2)
        slow.writer.transport.resume_reading()
        assert len((await slow.answer()).body) == BIG


@pytest.mark.parametrize("size", [BIG, 100 * BIG], ids=["its end", "its middle"])
async def test_a_client_that_takes_nothing_is_cut_and_no_endpoint_blamed(size: int):
    limits = Limits(client_stall_s=0.3, silence_timeout_s=0.1, keep_alive_s=0.1)
    async with (
        serving(says(answer(body=b"x" * size)), limits=limits) as (gw, server),
        narrow(gw) as slow,
    ):
        slow.writer.write(ASK)
        await wait_for(lambda: gw.plane.connections == 0)
        record = gw.records[0]
        assert (record.status, record.broken, record.reason) == (200, False, "")
        assert record.client_gone == (size > BIG)
        state = gw.registry.all()[server.address].state
        assert (state.failures, state.in_flight) == (UNSEEN.failures, 0)


async def late(_seen: Seen, writer: asyncio.StreamWriter) -> None:
    """Answer after a moment."""
    asyncio.get_running_loop().call_later(0.3, writer.write, answer(body=b"here"))


async def test_a_client_that_only_stops_sending_gets_its_answers():
    async with serving(late) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(ASK * 2)
        connection.writer.write_eof()
        got = await connection.reader.read()
        assert got.count(b"HTTP/1.1 200 ") == got.count(b"here") == 2
        assert got.count(b"HTTP/1.1 100 ") == 1
        assert [record.status for record in gw.records] == [200, 200]


async def test_an_http10_client_that_stops_sending_counts_as_gone():
    async with serving(late) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        connection.writer.write_eof()
        assert await connection.reader.read() == b""
        assert gw.records[0].client_gone


async def test_a_client_that_leaves_in_the_middle_of_an_answer_is_noticed_at_once():
    async def begin(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin")

    async with serving(begin) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(ASK)
        await connection.reader.readuntil(b"begin")
        connection.writer.close()
        await wait_for(lambda: gw.records, timeout_s=1)
        assert gw.records[0].client_gone
