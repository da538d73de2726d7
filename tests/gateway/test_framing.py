"""Request smuggling: whatever two parsers could read in two ways is refused, and the
connection closed."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.testing.endpoints import answer, says, scripted
from tidegate.testing.gateway import gateway, pool, route, serving, to

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
BAD = {
    "both lengths": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, turned": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": HEAD + b"Content-Length: +3\r\n\r\nabc",
    "an endless length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "coding in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded header": HEAD + b"X: a\r\n b\r\n\r\n",
    "bare LF": b"POST / HTTP/1.1\nHost: x\n\n",
    "bare LF in headers": b"POST / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "bare CR": b"POST / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
    "space before colon": HEAD + b"Content-Length : 3\r\n\r\nabc",
    "NUL in a value": HEAD + b"X: a\0b\r\n\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    "bare LF in a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "chunk without its end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a bad Host": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "dot segments": b"GET /public/../private HTTP/1.1\r\nHost: x\r\n\r\n",
    "hidden dot segments": b"GET /public/%2e%2E/private HTTP/1.1\r\nHost: x\r\n\r\n",
    "no path": b"GET x HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2 in clear": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "dot segments of an encoded slash": b"GET /public/..%2fprivate HTTP/1.1\r\nHost: x\r\n\r\n",
    "dot segments of backslashes": b"GET /public/..\\private HTTP/1.1\r\nHost: x\r\n\r\n",
    "dot segments with parameters": b"GET /public/..;/private HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown version": b"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
    "an unknown method": b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n",
}
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD.keys())
async def test_ambiguous_requests_are_refused_and_nothing_behind_them_is_served(raw: bytes):
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(raw + NEXT)
        got = await connection.answer()
        assert got.status == 400, got
        assert got.header("connection") == "close"
        assert b'"code":"' in got.body
        assert await connection.reader.read() == b""
        assert server.seen == []
        assert len(gw.rejected) == 1


async def test_what_was_asked_before_the_bad_request_is_still_answered():
    async with serving(says(answer(body=b"first"))) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + BAD["both lengths"])
        assert (await connection.answer()).body == b"first"
        assert (await connection.answer()).status == 400
        assert await connection.reader.read() == b""


async def test_the_absolute_form_is_served_for_its_own_host():
    async with scripted(says(answer())) as server:
        rule = {"backendRefs": [to("llm")]}
        async with gateway(pool("llm", server.address), route(rule, hostnames=["a.test"])) as gw:
            got = await gw.ask(b"GET http://a.test/p?q HTTP/1.1\r\nHost: other\r\n\r\n")
            assert got.status == 200
            assert (server.seen[0].target, server.seen[0].header("host")) == ("/p?q", "a.test")


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        ("/private/x", "private"),
        ("/%70rivate/x", "private"),
        ("/privat%65/%78?%61=%62", "private"),
        ("/private%2Fx", "all"),
        ("/%2570rivate/x", "all"),
    ],
)
async def test_a_path_meets_its_rule_however_it_is_encoded(target: str, reached: str):
    async with scripted(says(answer())) as one, scripted(says(answer())) as other:
        rules = [
            {"matches": [{"path": {"value": "/private"}}], "backendRefs": [to("private")]},
            {"backendRefs": [to("all")]},
        ]
        pools = pool("private", one.address), pool("all", other.address)
        async with gateway(*pools, route(*rules)) as gw:
            assert (await gw.get(target)).header("x-tidegate-pool") == reached


async def test_an_upgrade_that_is_ignored_changes_nothing_else():
    async with serving(says(answer())) as (gw, server):
        got = await gw.ask(
            b"POST / HTTP/1.1\r\nHost: x\r\nX-Request-Id: one\r\nX-Named: 1\r\nX-Kept: 2\r\n"
            b"Connection: close, Upgrade, X-Named\r\nUpgrade: h2c\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        )
        assert (got.status, got.header("connection")) == (200, "close")
        (seen,) = server.seen
        names = [name for name, _ in seen.headers]
        assert (seen.body, names.count("x-request-id"), "x-named" in names) == (b"hello", 1, False)
        assert (seen.header("x-request-id"), seen.header("x-kept")) == ("one", "2")


async def test_an_http10_upgrade_stays_http10():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with serving(says(chunked)) as (gw, _server):
        got = await gw.ask(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert (got.header("transfer-encoding"), got.body) == (None, b"abc")


async def test_a_thousand_pipelined_upgrades_are_answered():
    async with serving(says(answer())) as (gw, _server):
        connection = await gw.connect()
        one = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        connection.writer.write(one * 1000)
        assert {(await connection.answer()).status for _ in range(1000)} == {200}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.lists(st.binary(max_size=200), max_size=5), cut=st.integers(0, 400))
async def test_garbage_gets_an_answer_or_silence_and_harms_nobody(data: list[bytes], cut: int):
    good = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    raw = b"".join(data) + good[cut:] + good
    async with serving(says(answer())) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(raw)
        connection.writer.write_eof()
        await connection.reader.read()
        assert (await gw.get()).status == 200
        assert gw.plane.in_flight == 0
