"""The small client against servers that behave and servers that don't."""

import asyncio
import gc

import pytest
import uvloop

from tidegate.api.errors import UnavailableError
from tidegate.scrape.http import Client
from tidegate.testing.ports import free_port
from tidegate.testing.raw_server import RawServer, Reply, ok, status
from tidegate.testing.waiting import wait_for

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
NO_LENGTH = b"HTTP/1.1 200 OK\r\n\r\nhello"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"


async def get(reply, **kwargs):
    async with RawServer(lambda _: reply) as server:
        client = Client(server.address, **kwargs)
        try:
            return await client.get("/metrics")
        finally:
            client.close()


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (ok(b"hello"), b"hello"),
        (ok(b""), b""),
        (Reply(CHUNKED), b"hello"),
        (Reply(NO_LENGTH, "close"), b"hello"),
        (Reply(b"HTTP/1.0 200 OK\r\n\r\nhello", "close"), b"hello"),
        (Reply(INTERIM + ok(b"hello").data), b"hello"),
    ],
)
async def test_every_proper_framing_is_read(reply, body):
    answer = await get(reply)
    assert (answer.status, answer.body) == (200, body)


async def test_error_answers_are_answers():
    assert (await get(status(404))).status == 404


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(b"\x00\xffnonsense\r\n\r\n"), "no HTTP"),
        (Reply(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "no HTTP"),
        (Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "close"), "connection lost"),
        (Reply(CHUNKED[:-5], "close"), "connection lost"),
        (Reply(b"", "close"), "connection lost"),
        (Reply(b"", "reset"), "connection lost"),
        (Reply(b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), "no HTTP"),
        (ok(b"x" * 3000), "larger than 1000"),
        (Reply(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3000), "larger than 1000"),
    ],
)
async def test_improper_answers_are_errors(reply, message):
    with pytest.raises(UnavailableError, match=message):
        await get(reply, max_bytes=1000)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "", "a..b:80", "::1"]
)
async def test_bad_addresses_are_errors(address):
    with pytest.raises(UnavailableError, match="can't connect"):
        await Client(address).get("/")


async def test_nobody_listening_is_an_error():
    with pytest.raises(UnavailableError, match="can't connect"):
        await Client(f"127.0.0.1:{free_port()}").get("/")


async def test_the_connection_is_kept():
    async with RawServer(ok_of_path) as server:
        client = Client(server.address)
        bodies = [(await client.get(f"/{i}")).body for i in range(5)]
        assert bodies == [b"/0", b"/1", b"/2", b"/3", b"/4"]
        assert server.connections == 1
        client.close()
        await wait_for(lambda: server.open == 0)


async def test_a_server_that_says_close_gets_a_new_connection():
    data = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"
    async with RawServer(lambda _: Reply(data, "hang")) as server:
        client = Client(server.address)
        for _ in range(3):
            assert (await client.get("/")).body == b"hi"
        assert server.connections == 3
        client.close()


async def test_a_connection_closed_while_idle_is_replaced_unnoticed():
    async with RawServer(lambda _: Reply(ok(b"hi").data, "close")) as server:
        client = Client(server.address)
        for _ in range(3):
            assert (await client.get("/")).body == b"hi"
        client.close()


async def test_a_close_that_meets_the_request_is_retried_once():
    replies = [ok(b"first"), Reply(b"", "close"), ok(b"second")]
    async with RawServer(lambda _: replies.pop(0)) as server:
        client = Client(server.address)
        assert (await client.get("/")).body == b"first"
        assert (await client.get("/")).body == b"second"
        client.close()


async def test_an_answer_that_nobody_asked_for_is_not_the_next_one():
    replies = [Reply(ok(b"first").data + ok(b"planted").data), ok(b"second")]
    async with RawServer(lambda _: replies.pop(0)) as server:
        client = Client(server.address)
        assert (await client.get("/")).body == b"first"
        assert (await client.get("/")).body == b"second"
        client.close()


async def test_a_cancelled_get_does_not_leave_its_answer_to_the_next():
    async with RawServer(
        lambda path: Reply(b"", "hang") if path == "/slow" else ok(b"hi")
    ) as server:
        client = Client(server.address)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get("/slow")
        assert (await client.get("/")).body == b"hi"
        assert server.connections == 2
        client.close()


def test_it_works_on_uvloop():
    async def main():
        async with RawServer(ok_of_path) as server:
            client = Client(server.address)
            assert (await client.get("/a")).body == b"/a"
            assert (await client.get("/b")).body == b"/b"
            client.close()
            await wait_for(lambda: server.open == 0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    gc.collect()


def ok_of_path(path):
    return ok(path.encode())
