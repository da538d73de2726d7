"""Whatever an endpoint says, the client gets a whole answer, an error, or a visible cut."""

import asyncio

import pytest

from tidegate.gateway.settings import Limits
from tidegate.testing.endpoints import Script, Seen, answer, says
from tidegate.testing.gateway import gateway, pool, route, serving, to

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def says_and_closes(data: bytes) -> Script:
    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return script


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n" + CHUNKED[len(OK) :] + b"3\r\nabc\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 40_000 + OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 Much\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
async def test_an_answer_that_could_be_read_in_two_ways_is_502(raw: bytes):
    async with serving(says_and_closes(raw)) as (gw, server):
        got = await gw.get()
        assert (got.status, got.header("x-tidegate-reason")) == (502, "UpstreamProtocolError")
        assert gw.plane.in_flight == 0
        assert gw.registry.all()[server.address].state.in_flight == 0


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 2\r\n\r\nabEXTRA",
        OK + b"Content-Length: 2\r\n\r\nab" + OK + b"Content-Length: 4\r\n\r\nevil",
        CHUNKED + b"2\r\nab\r\n0\r\n\r\nmore",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab",
    ],
)
async def test_what_comes_after_an_answer_is_dropped_and_its_connection_too(raw: bytes):
    async with serving(says(raw)) as (gw, server):
        connection = await gw.connect()
        for _ in range(3):
            connection.writer.write(ASK)
            got = await connection.answer()
            assert got.body == (b"" if got.status == 204 else b"ab")
        assert server.accepted == 3
        assert {record.broken for record in gw.records} == {False}


@pytest.mark.parametrize("status", [200, 404])
async def test_a_body_in_an_answer_to_head_never_reaches_the_client(status: int):
    async with serving(says(answer(status, b"evil!"))) as (gw, _server):
        connection = await gw.connect()
        for _ in range(3):
            connection.writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            got = await connection.answer(head_only=True)
            assert (got.status, got.header("content-length")) == (status, "5")
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw = await connection.reader.read()
        assert raw.startswith(b"HTTP/1.1 %d " % status)
        assert raw.count(b"evil!") == 1


async def test_headers_that_connection_names_stay_behind():
    raw = OK + b"Connection: X-Hop, Upgrade\r\nUpgrade: h2\r\nX-Hop: 1\r\nX-End: 2\r\n"
    async with serving(says(raw + b"Content-Length: 0\r\n\r\n")) as (gw, _server):
        got = await gw.get()
        assert (got.status, got.header("x-end")) == (200, "2")
        assert (got.header("x-hop"), got.header("upgrade"), got.header("connection")) == (None,) * 3


async def test_trailers_are_dropped():
    trailers = b"X-Sum: 1\r\nSet-Cookie: a=b\r\nConnection: x\r\n"
    async with serving(says(CHUNKED + b"2\r\nab\r\n0\r\n" + trailers + b"\r\n")) as (gw, server):
        for _ in range(2):
            got = await gw.get()
            assert (got.status, got.body, got.header("x-sum")) == (200, b"ab", None)
        assert server.accepted == 1


async def test_endless_trailers_end_the_answer():
    async def endless(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + b"2\r\nab\r\n0\r\nX: ")
        while not writer.is_closing():
            writer.write(b"a" * 10_000)
            await writer.drain()

    async with serving(endless, limits=Limits(upstream_head_bytes=50_000)) as (gw, _server):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await gw.get()
        (record,) = gw.records
        assert (record.status, record.broken, record.reason) == (200, True, "UpstreamProtocolError")


async def test_a_stream_of_many_small_chunks_is_not_taken_for_endless_trailers():
    pieces = 300

    async def slowly(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _ in range(pieces):
            for part in (b"1\r", b"\n", b"a", b"\r\n"):
                writer.write(part)
                await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with serving(slowly, limits=Limits(upstream_head_bytes=600)) as (gw, _server):
        assert (await gw.get()).body == b"a" * pieces


async def test_an_answer_before_all_of_the_request_was_sent_is_passed_on():
    enough = asyncio.Event()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        writer.write(answer(413, b"too much"))
        await enough.wait()
        writer.transport.abort()

    listening = await asyncio.start_server(early, "127.0.0.1", 0)
    address = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with gateway(pool("llm", address), route({"backendRefs": [to("llm")]})) as gw:
        got = await gw.post(b"x" * 20_000_000)
        assert (got.status, got.body) == (413, b"too much")
        # The rest of the request lies before whatever would be sent next.
        assert not gw.plane.pool._idle.get(address)
        enough.set()
        listening.close()


async def test_a_reset_long_after_the_request_counts_as_a_failure():
    async def resets(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len(server.seen) == 1:
            writer.write(answer())
            return
        asyncio.get_running_loop().call_later(1.2, writer.transport.abort)

    rule = {"backendRefs": [to("llm")], "retry": {"attempts": 1}}
    async with serving(resets, rule=rule) as (gw, server):
        assert (await gw.get()).status == 200
        assert (await gw.get()).status == 503
        assert [record.retries for record in gw.records] == [0, 1]
        assert gw.registry.all()[server.address].state.failures == 2
