"""Limits have clear answers, and nobody can hold a connection for nothing."""

import asyncio

import pytest

from tidegate.gateway.settings import Limits
from tidegate.testing.endpoints import answer, says
from tidegate.testing.gateway import serving

SMALL = Limits(
    header_bytes=2048,
    headers=20,
    body_bytes=1000,
    header_timeout_s=0.2,
    body_timeout_s=0.2,
    body_rate=1_000_000,
    keep_alive_s=0.2,
    connections=3,
)


@pytest.fixture
async def gw():
    async with serving(says(answer()), limits=SMALL) as (running, _server):
        yield running


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        (HEAD + b"X: " + b"a" * 3000 + b"\r\n\r\n", 431, "HeadersTooLarge"),
        (HEAD + b"X: " + b"a" * 3000, 408, "RequestTimeout"),
        (HEAD + b"X: a\r\n" * 30 + b"\r\n", 431, "HeadersTooLarge"),
        (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "HeadersTooLarge"),
        (HEAD + b"Content-Length: 1001\r\n\r\n", 413, "BodyTooLarge"),
        (HEAD + b"Content-Length: 5\r\nExpect: magic\r\n\r\n", 417, "ExpectationFailed"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"a" * 1001, 413, "BodyTooLarge"),
        (HEAD + b"Content-Length: 5\r\n\r\nab", 408, "RequestTimeout"),
        (HEAD, 408, "RequestTimeout"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 405, "MethodNotSupported"),
    ],
)
async def test_each_limit_has_its_answer(gw, raw, status, reason):
    connection = await gw.connect()
    connection.writer.write(raw)
    got = await connection.answer()
    assert (got.status, got.header("x-tidegate-reason")) == (status, reason)
    assert await connection.reader.read() == b""
    assert gw.rejected == [reason]


async def test_endless_headers_are_cut_off(gw):
    connection = await gw.connect()
    connection.writer.write(HEAD + b"X: ")
    got = asyncio.create_task(connection.answer())
    while not got.done():
        connection.writer.write(b"a" * 512)
        await asyncio.wait({got}, timeout=0.005)
    assert (await got).status in {408, 431}


async def test_one_connection_too_many_is_told_so(gw):
    for _ in range(3):
        await gw.connect()
    got = await gw.get()
    assert (got.status, got.header("x-tidegate-reason")) == (503, "TooManyConnections")


async def test_an_idle_connection_is_closed_without_a_word(gw):
    connection = await gw.connect()
    assert await asyncio.wait_for(connection.reader.read(), 5) == b""


async def test_draining_finishes_what_is_under_way_and_accepts_no_more():
    go = asyncio.Event()

    async def later(_seen, writer):
        await go.wait()
        writer.write(answer(body=b"done"))

    async with serving(later) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server.seen:
            await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=0.01)
        drained = asyncio.create_task(gw.listeners.drain(5.0))
        await asyncio.wait({drained}, timeout=0.1)
        with pytest.raises(ConnectionRefusedError):
            await gw.connect()
        assert not drained.done()
        go.set()
        got = await connection.answer()
        assert (got.body, got.header("connection")) == (b"done", "close")
        assert await drained


async def test_before_the_first_table_requests_are_told_to_wait(gw):
    gw.plane.live = None
    got = await gw.get()
    assert (got.status, got.header("x-tidegate-reason")) == (503, "NotReady")
