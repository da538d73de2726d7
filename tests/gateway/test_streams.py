"""Streams: relayed at once, slowed down by slow readers, counted, never cut in half silently."""

import asyncio

import pytest

from tidegate.gateway.sse import EventMeter
from tidegate.judge.record import Record
from tidegate.testing.endpoints import Seen
from tidegate.testing.gateway import serving
from tidegate.testing.waiting import wait_for

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_each_event_arrives_before_the_next_is_sent():
    turn = asyncio.Semaphore(0)

    async def stream(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        for number in range(5):
            await turn.acquire()
            writer.write(chunk(b"data: {%d}\n\n" % number))
            await writer.drain()
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with serving(stream) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        turn.release()
        await connection.reader.readuntil(b"\r\n\r\n")
        chunks = connection.chunks()
        for number in range(5):
            assert await anext(chunks) == b"data: {%d}\n\n" % number
            turn.release()
        assert await anext(chunks) == b"data: [DONE]\n\n"
        connection.writer.close()
        await wait_for(lambda: gw.records)
        record = gw.records[0]
        assert (record.streamed, record.broken, record.events) == (True, False, 5)
        assert record.itl_counts is not None
        assert sum(record.itl_counts) == 4


async def test_a_slow_reader_holds_the_endpoint_back():
    sent = 0
    piece = b"x" * 65536

    async def flood(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (400 * len(piece)))
        for _ in range(400):
            writer.write(piece)
            await writer.drain()
            sent += 1

    async with serving(flood) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(b"\r\n\r\n")
        before = -1
        stalled = 0
        while stalled < 20:
            await wait_for(lambda: True)
            await asyncio.wait_for(asyncio.shield(_tick()), 1)
            stalled = stalled + 1 if sent == before else 0
            before = sent
        # Sockets and buffers hold some; a gateway that buffers would hold all 26 MB.
        assert sent < 300
        total = len(await connection.reader.readexactly(400 * len(piece)))
        assert total == 400 * len(piece)


async def _tick() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_later(0.01, done.set_result, None)
    await done


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_stream_that_breaks_is_seen_as_broken(reset: bool):
    async def half(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(b"data: 1\n\n"))
        await writer.drain()
        if reset:
            writer.transport.abort()
        else:
            writer.close()

    async with serving(half) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(b"\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            async for _ in connection.chunks():
                pass
        assert gw.records[0].broken


async def test_a_client_that_leaves_a_stream_is_noticed_by_the_endpoint():
    left = asyncio.Event()

    async def endless(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        try:
            while True:
                writer.write(chunk(b"data: 1\n\n"))
                await writer.drain()
                await _tick()
        finally:
            left.set()

    async with serving(endless) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(b"data: 1")
        connection.writer.close()
        await asyncio.wait_for(left.wait(), 5)
        await wait_for(lambda: gw.records)
        assert gw.records[0].client_gone


USAGE = b'data: {"choices":[],"usage":{"completion_tokens":7}}\n\n'


@pytest.mark.parametrize("usage", [b"", USAGE])
@pytest.mark.parametrize("reason", ["abort", "length"])
async def test_an_answer_that_its_server_aborted_is_a_broken_one(reason: str, usage: bytes):
    async def stopped(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"%b"}]}\n\n'
        writer.write(HEAD)
        for event in (b"data: {}\n\n", end % reason.encode(), usage, b"data: [DONE]\n\n"):
            if event:
                writer.write(chunk(event))
                await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with serving(stopped) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(b"0\r\n\r\n")
        await wait_for(lambda: gw.records)
        assert gw.records[0].broken is (reason == "abort")


async def test_a_whole_answer_that_its_server_aborted_is_a_broken_one():
    body = b'{"choices":[{"index":0,"text":"He","finish_reason":"abort"}]}'

    async def stopped(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with serving(stopped) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await connection.reader.readuntil(body)
        await wait_for(lambda: gw.records)
        assert gw.records[0].broken


def test_events_are_counted_wherever_the_pieces_are_cut():
    text = b"".join(b'data: {"text":"data: \\n\\n %d"}\n\n' % number for number in range(20))
    text += b": a comment\n\ndata: [DONE]\n\n"
    for size in (1, 2, 3, 5, 7, 13, 1000):
        record = Record()
        meter = EventMeter(record)
        for start in range(0, len(text), size):
            meter.feed(text[start : start + size], start / 1000)
        assert (record.events, meter.done) == (20, True), size
        assert record.itl_counts is not None
        assert sum(record.itl_counts) == 19
