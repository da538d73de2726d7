"""Requests pass through, whole and unchanged, and answers come back."""

import asyncio

import pytest

from tidegate.testing.endpoints import Seen, answer, says
from tidegate.testing.gateway import serving
from tidegate.testing.waiting import wait_for


async def test_a_request_reaches_the_pool_and_the_answer_says_where():
    async with serving(says(answer(body=b'{"ok":1}'))) as (gw, server):
        got = await gw.post(b'{"model":"m"}')
        assert (got.status, got.body) == (200, b'{"ok":1}')
        assert got.header("x-tidegate-pool") == "llm"
        assert got.header("x-tidegate-endpoint") == server.address
        seen = server.seen[0]
        assert (seen.method, seen.target) == ("POST", "/v1/chat/completions")
        assert seen.body == b'{"model":"m"}'
        record = gw.records[0]
        assert (record.status, record.arm, record.model) == (200, "llm", "m")
        assert record.ttft_s is not None
        assert 0 < record.ttft_s <= record.duration_s


async def test_the_answer_headers_can_be_switched_off():
    async with serving(says(answer()), answer_headers=False) as (gw, _server):
        got = await gw.get()
        assert got.header("x-tidegate-pool") is None
        assert got.header("x-tidegate-endpoint") is None


async def test_hop_by_hop_and_reserved_headers_are_not_forwarded():
    async with serving(says(answer())) as (gw, server):
        await gw.get(
            "/",
            "x",
            "Connection: keep-alive, X-Named",
            "X-Named: 1",
            "Keep-Alive: timeout=5",
            "TE: trailers",
            "Proxy-Authorization: secret",
            "X-Gateway-Destination-Endpoint: 10.0.0.1:80",
            "X-Tidegate-Pool: other",
            "X-Kept: yes",
        )
        names = {name for name, _ in server.seen[0].headers}
        assert "x-kept" in names
        assert not names & {"connection", "x-named", "keep-alive", "te", "proxy-authorization"}
        assert not {name for name in names if name.startswith(("x-gateway-", "x-tidegate-"))}
        assert server.seen[0].header("x-forwarded-for") == "127.0.0.1"
        assert server.seen[0].header("x-request-id")


async def test_reserved_headers_pass_when_clients_are_trusted():
    async with serving(says(answer()), trust_client_headers=True) as (gw, server):
        await gw.get("/", "x", "X-Gateway-Extra: 1")
        assert server.seen[0].header("x-gateway-extra") == "1"


async def test_a_connection_is_kept_on_both_sides():
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        for _ in range(5):
            connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await connection.answer()).status == 200
        assert server.accepted == 1


async def test_pipelined_requests_are_answered_in_order():
    async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body=seen.target.encode()))

    async with serving(echo) as (gw, _server):
        connection = await gw.connect()
        for number in range(100):
            connection.writer.write(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)
        bodies = [(await connection.answer()).body for _ in range(100)]
        assert bodies == [b"/%d" % number for number in range(100)]


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", b"ab"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
    ],
)
async def test_every_framing_of_an_answer_is_understood(raw: bytes, body: bytes):
    async with serving(says(raw)) as (gw, server):
        connection = await gw.connect()
        for _ in range(2):
            connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await connection.answer()).body == body
        assert server.accepted == 1


async def test_an_answer_that_ends_with_the_connection_is_chunked_on():
    async def until_close(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        writer.close()

    async with serving(until_close) as (gw, _server):
        got = await gw.get()
        assert got.header("transfer-encoding") == "chunked"
        assert got.body == b"all of it"


async def test_head_answers_have_their_length_and_no_body():
    async with serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")) as (gw, _server):
        got = await gw.ask(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (got.status, got.header("content-length"), got.body) == (200, "5", b"")


async def test_an_http10_client_gets_an_answer_that_ends_with_the_connection():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with serving(says(chunked)) as (gw, _server):
        got = await gw.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert got.header("transfer-encoding") is None
        assert got.header("connection") == "close"
        assert got.body == b"abc"


async def test_expect_100_continue_is_answered_before_the_body_is_sent():
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(
            b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        )
        assert (await connection.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        connection.writer.write(b"{}")
        assert (await connection.answer()).status == 200
        assert server.seen[0].header("expect") is None


async def test_an_upgrade_is_ignored_and_the_body_is_kept():
    async with serving(says(answer())) as (gw, server):
        got = await gw.ask(
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\nContent-Length: 5\r\n\r\nhello"
        )
        assert got.status == 200
        assert server.seen[0].body == b"hello"
        assert server.seen[0].header("upgrade") is None


async def test_a_client_that_leaves_cancels_its_request():
    async def hang(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serving(hang) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await wait_for(lambda: server.seen)
        connection.writer.close()
        await wait_for(lambda: gw.records)
        assert gw.records[0].client_gone
        assert gw.records[0].status == 499
        assert gw.plane.in_flight == 0
        await wait_for(lambda: gw.plane.pool.open == 0)
