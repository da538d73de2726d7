"""Limits have clear answers, and nobody can hold a connection for nothing."""

import asyncio
import resource
import subprocess
import sys
import tracemalloc

import pytest

from tidegate.gateway.settings import Limits
from tidegate.testing.endpoints import Seen, answer, says
from tidegate.testing.gateway import Connection, serving
from tidegate.testing.waiting import wait_for

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


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "begun",
    [CHUNKED + b"0\r\nX: ", CHUNKED + b"1;x=", CHUNKED + b"1\r\na\r\n0\r\nX: 1\r\nY: "],
    ids=["trailer", "chunk extension", "second trailer"],
)
async def test_endless_trailers_and_chunk_extensions_are_cut_off(begun: bytes):
    limits = Limits(header_bytes=20_000)
    async with serving(says(answer()), limits=limits) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(begun)
        got = asyncio.create_task(connection.answer())
        while not got.done():
            connection.writer.write(b"a" * 1000)
            await asyncio.wait({got}, timeout=0.001)
        assert (await got).header("x-tidegate-reason") == "HeadersTooLarge"
        assert server.seen == []


async def test_many_chunks_are_one_body():
    pieces = 2000
    limits = Limits(header_bytes=2000)
    async with serving(says(answer()), limits=limits) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(CHUNKED)
        for _ in range(pieces):
            connection.writer.write(b"1;ext\r\na\r\n")
        connection.writer.write(b"0\r\n\r\n")
        assert (await connection.answer()).status == 200
        assert server.seen[0].body == b"a" * pieces


async def test_a_body_of_tiny_chunks_weighs_no_more_than_a_body():
    size = 400_000
    async with serving(says(answer())) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(CHUNKED)
        tracemalloc.start()
        try:
            for _ in range(40):
                connection.writer.write(b"2\r\nab\r\n" * (size // 80))
                await connection.writer.drain()
            await wait_for(lambda: gw.plane.body_bytes == size)
            assert tracemalloc.get_traced_memory()[0] < 4 * size
        finally:
            tracemalloc.stop()


async def test_a_flood_of_pipelined_requests_waits_in_the_clients_own_memory():
    async def hang(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(hang) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost:x\r\n\r\n" * 50_000)
        await wait_for(lambda: server.seen)
        await gw.get("/v1/models")
        (served,) = (each for each in gw.listeners._connections if each._current)
        assert len(served._waiting) < 1000
        assert served.transport.is_reading() is False


async def test_a_flood_that_we_answer_ourselves_leaves_room_for_others():
    async with serving(says(answer())) as (gw, _server):
        flooding = await gw.connect()
        flooding.writer.write(b"GET /v1/models HTTP/1.1\r\nHost:x\r\n\r\n" * 5000)
        answers = asyncio.create_task(_read(flooding, 5000))
        assert (await gw.get()).status == 200
        # Served in turn: what came later in time is served before the end of the flood.
        assert len(gw.records) < 2500
        await answers


async def _read(connection: Connection, count: int) -> None:
    for _ in range(count):
        await connection.answer()


async def test_large_bodies_behind_a_request_wait_in_the_clients_own_memory():
    async def hang(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(hang) as (gw, server):
        connection = await gw.connect()
        one = HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
        connection.writer.write(one * 15)
        await wait_for(lambda: server.seen)
        (served,) = gw.listeners._connections
        await wait_for(lambda: not served.transport.is_reading())
        assert gw.plane.body_bytes < 4_000_000


async def test_all_bodies_together_are_bounded_and_what_was_held_is_let_go():
    async def later(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(answer())

    go = asyncio.Event()
    async with serving(later, limits=Limits(bodies_bytes=250_000)) as (gw, server):
        held = [await gw.connect() for _ in range(2)]
        for connection in held:
            connection.writer.write(HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)
        await wait_for(lambda: len(server.seen) == 2)
        got = await gw.post(b"x" * 100_000)
        assert (got.status, got.header("x-tidegate-reason")) == (503, "Overloaded")
        go.set()
        for connection in held:
            assert (await connection.answer()).status == 200
        assert (await gw.post(b"x" * 100_000)).status == 200
        assert gw.plane.body_bytes == 0


def test_a_worker_may_open_as_many_files_as_its_connections_take():
    script = (
        "from tidegate.gateway.files import allow_files; import resource\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "print(soft, hard, allow_files(300), allow_files(5000), resource.getrlimit("
        "resource.RLIMIT_NOFILE)[0])"
    )

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1000))

    shown = subprocess.run(
        [sys.executable, "-c", script], preexec_fn=few, capture_output=True, text=True, check=True
    )
    assert shown.stdout.splitlines()[-1] == "256 1000 300 1000 1000"


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
        connection.writer.close()
        assert await drained


async def test_before_the_first_table_requests_are_told_to_wait(gw):
    gw.plane.live = None
    got = await gw.get()
    assert (got.status, got.header("x-tidegate-reason")) == (503, "NotReady")
