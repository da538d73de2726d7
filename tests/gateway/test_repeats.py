"""Heads that come again and chunks that pass as they are can't be told from parsed ones."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gateway.repeat import TRIES
from tidegate.gateway.settings import Limits
from tidegate.gateway.sse import EventMeter
from tidegate.gateway.upstream import chunk_size
from tidegate.judge.record import Record
from tidegate.testing.endpoints import Seen, answer, says, scripted
from tidegate.testing.gateway import gateway, pool, route, serving, to
from tidegate.testing.waiting import wait_for

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nContent-Length: "


def request(body: bytes, *headers: bytes) -> bytes:
    tail = b"".join(b"%b\r\n" % header for header in headers)
    return HEAD + b"%d\r\n%b\r\n" % (len(body), tail) + body


async def test_the_same_head_serves_bodies_of_all_sizes():
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        bodies = [b"{}", b'{"a": 1}', b"", b"x" * 5000, b'{"model": "m"}', b"{}"]
        for body in bodies:
            connection.writer.write(request(body))
            assert (await connection.answer()).status == 200
        assert [seen.body for seen in server.seen] == bodies
        assert [r.request_bytes for r in gw.records] == [len(body) for body in bodies]
        assert len({seen.header("x-request-id") for seen in server.seen}) == len(bodies)


NEXT = {
    "another header": request(b"{}", b"X-A: 1"),
    "another path": request(b"{}").replace(b"/v1/", b"/v2/"),
    "another method": request(b"{}").replace(b"POST", b"PUT "),
    "other spelling": request(b"{}").replace(b"Accept", b"accept"),
    "two at once": request(b"{}") + request(b"{}"),
    "chunked": request(b"{}").replace(b"Content-Length: 2", b"Transfer-Encoding: chunked")[:-2]
    + b"2\r\n{}\r\n0\r\n\r\n",
    "no body": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("following", NEXT.values(), ids=NEXT.keys())
async def test_another_head_is_parsed_anew(following: bytes):
    count = following.count(b"HTTP/1.1")
    async with serving(says(answer())) as (gw, server), serving(says(answer())) as (gw2, server2):
        connection, fresh = await gw.connect(), await gw2.connect()
        connection.writer.write(request(b"{}"))
        await connection.answer()
        connection.writer.write(following)
        fresh.writer.write(following)
        for _ in range(count):
            assert (await connection.answer()).status == (await fresh.answer()).status
        for one, other in zip(server.seen[1:], server2.seen, strict=True):
            assert (one.method, one.target, one.body) == (other.method, other.target, other.body)
            known = {"host", "x-request-id"}
            assert [h for h in one.headers if h[0] not in known] == [
                h for h in other.headers if h[0] not in known
            ]


@pytest.mark.parametrize("length", [b"+2", b"0x2", b"-2", b"2 2", b"", b"1_0", b"\xb2"])
async def test_a_length_that_is_no_number_is_refused_on_a_known_head(length: bytes):
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        connection.writer.write(request(b"{}"))
        await connection.answer()
        connection.writer.write(HEAD + length + b"\r\n\r\n{}")
        assert (await connection.answer()).status == 400
        assert len(server.seen) == 1


async def test_a_body_that_comes_in_pieces_is_waited_for():
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        for cut in (1, 20, len(HEAD), len(request(b"")), -1):
            whole = request(b'{"piece": true}')
            connection.writer.write(whole)
            await connection.answer()
            connection.writer.write(whole[:cut])
            await asyncio.wait_for(connection.writer.drain(), 1)
            connection.writer.write(whole[cut:])
            assert (await connection.answer()).status == 200
        assert {seen.body for seen in server.seen} == {b'{"piece": true}'}


async def test_the_body_limit_holds_for_known_heads():
    async with serving(says(answer()), limits=Limits(body_bytes=100)) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(request(b"x" * 100))
        assert (await connection.answer()).status == 200
        connection.writer.write(request(b"x" * 101))
        assert (await connection.answer()).status == 413


async def test_a_known_head_meets_a_changed_table():
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        for weights in ((1, 0), (0, 1), (1, 0)):
            rule = {"backendRefs": [to("llm", weights[0]), to("none", weights[1])]}
            await gw.apply(pool("none"), route(rule))
            connection.writer.write(request(b"{}"))
            assert (await connection.answer()).status == (200 if weights[0] else 503)
        assert len(server.seen) == 2


async def test_a_known_head_is_routed_by_its_body():
    def by(model: str) -> dict[str, object]:
        header = {"name": "x-gateway-model-name", "value": model}
        return {"matches": [{"headers": [header]}], "backendRefs": [to(model)]}

    async with (
        scripted(says(answer())) as server,
        gateway(
            pool("a", server.address), pool("b", server.address), route(by("a"), by("b"))
        ) as gw,
    ):
        connection = await gw.connect()
        for model in ("a", "b", "", "b", "a"):
            connection.writer.write(
                request(b'{"model": "%b"}' % model.encode() if model else b"{}")
            )
            assert (await connection.answer()).status == (200 if model else 404)
        assert [r.pool for r in gw.records] == [
            "default/a", "default/b", "", "default/b", "default/a"
        ]  # fmt: skip


async def test_a_known_head_is_rewritten_by_the_match_that_its_model_meets():
    def meets(path: str, model: str) -> dict[str, object]:
        header = {"name": "x-gateway-model-name", "value": model}
        return {"path": {"type": "PathPrefix", "value": path}, "headers": [header]}

    rule = {
        "matches": [meets("/v1", "a"), meets("/v1/chat", "b")],
        "filters": [
            {
                "type": "URLRewrite",
                "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/x"}},
            }
        ],
        "backendRefs": [to("llm")],
    }
    async with scripted(says(answer())) as server:
        async with gateway(pool("llm", server.address), route(rule)) as gw:
            connection = await gw.connect()
            for model in "abab":
                connection.writer.write(request(b'{"model": "%b"}' % model.encode()))
                assert (await connection.answer()).status == 200
        targets = ["/x/chat/completions", "/x/completions"]
        assert [seen.target for seen in server.seen] == targets * 2


async def test_a_client_whose_heads_always_change_is_served():
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        for number in range(2 * TRIES):
            connection.writer.write(request(b"{}", b"X-Trace: %d" % number))
            assert (await connection.answer()).status == 200
        assert [seen.header("x-trace") for seen in server.seen] == [
            str(number) for number in range(2 * TRIES)
        ]


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENTS = [b'data: {"n": "%b"}\n\n' % (b"x" * size) for size in (0, 1, 3, 200, 240, 241, 4070, 5000)]
EVENTS += [b"data: [DONE]\n\n", b": ping\n\n", b'data: {"a": 1}\n\ndata: {"b": 2}\n\n', b"data: {"]
EVENTS += [
    b'"late": 1}\n\n',
    b'event: x\ndata: {"c": 3}\n\n',
    b"data: 5\n\n",
    b"\r\n\r\n\r\n\r\n\r\n\r\n",
]


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 5, 9])
async def test_chunks_arrive_as_they_were_sent_wherever_reads_end(cut: int):
    assert await _relayed(_pieces(cut)) == b"".join(EVENTS)


async def test_the_rest_of_a_size_is_not_taken_for_a_size():
    body = b"x" * 0xE5 + b"\r\n\r\n" + b"y" * 0xFE
    assert len(body) == 0x1E7
    pieces = [chunk(EVENTS[0]) + b"1", b"e7\r\n" + body[:0xE9], body[0xE9:] + b"\r\n" + END]
    assert await _relayed(pieces) == EVENTS[0] + body


async def _relayed(pieces: list[bytes]) -> bytes:
    """Return the body that a client gets when an endpoint's stream comes in these reads."""
    got = bytearray()

    async def stream(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        for piece in pieces:
            before = len(got)
            writer.write(piece)
            await wait_for(lambda before=before: len(got) > before)

    async with serving(stream) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not got.endswith(END):
            got += await connection.reader.read(65536)
        body = _unframed(bytes(got))
        await wait_for(lambda: gw.records)
        assert gw.records[0].response_bytes == len(body)
        return body


def _pieces(cut: int) -> list[bytes]:
    """Return the stream in pieces that end `cut` bytes after the beginning of a chunk."""
    framed = [chunk(event) for event in EVENTS]
    ends = [end + cut for end in itertools.accumulate(map(len, framed[:-1]))]
    whole = b"".join(framed) + END
    return [whole[a:b] for a, b in itertools.pairwise([0, *ends, len(whole)])]


def _unframed(answer: bytes) -> bytes:
    parts = []
    rest = answer.partition(b"\r\n\r\n")[2]
    while size := int(rest.partition(b"\r\n")[0], 16):
        start = rest.index(b"\n") + 1
        parts.append(rest[start : start + size])
        assert rest[start + size : start + size + 2] == b"\r\n"
        rest = rest[start + size + 2 :]
    assert rest == END
    return b"".join(parts)


async def test_chunks_reach_a_client_of_http_1_0_without_their_framing():
    got = bytearray()

    async def stream(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        for event in EVENTS:
            writer.write(chunk(event))
            await wait_for(lambda event=event: got.endswith(event))
        writer.write(END)

    async with serving(stream) as (gw, _server):
        connection = await gw.connect()
        connection.writer.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        while data := await connection.reader.read(65536):
            got += data
        assert got.partition(b"\r\n\r\n")[2] == b"".join(EVENTS)


@given(st.binary(max_size=5000))
def test_only_a_whole_chunk_has_a_size(data: bytes):
    assert chunk_size(data) in {0, len(data) - 6, len(data) - 7}
    framed = chunk(data)
    assert chunk_size(framed) == (len(data) if 16 <= len(data) < 4096 else 0)
    for other in (framed[1:], framed + b"\r\n", framed[:-1], framed + framed):
        assert not chunk_size(other)


@given(st.lists(st.sampled_from(EVENTS), max_size=20))
def test_framed_or_not_the_meter_counts_the_same(events: list[bytes]):
    framed, bare = Record(), Record()
    one, other = EventMeter(framed), EventMeter(bare)
    for at, event in enumerate(events):
        one.feed_chunk(chunk(event), float(at))
        other.feed(event, float(at))
    assert framed == bare
