"""What the client calls a failure, and that nothing else is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.load.client import TargetError, parse_target
from tidegate.load.events import EventReader
from tidegate.testing.ports import free_port

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
EVENT = b'data: {"choices":[{"delta":{"content":" hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


async def test_a_healthy_server_gives_no_failure(load):
    results = await load()
    assert len(results) == 20
    assert not any(one.failed for one in results)
    assert all(one.status == 200 and one.events == 6 for one in results)
    assert all(len(one.gaps_s) == 4 and one.ttft_s <= one.duration_s for one in results)
    assert all(one.output_tokens == 5 and one.prompt_tokens > 5 for one in results)


async def test_whole_answers_are_timed_too(load):
    results = await load(stream=False)
    assert all(one.ttft_s is not None and not one.events for one in results)
    assert all(one.output_tokens == 5 and one.prompt_tokens > 5 for one in results)
    assert not any(one.failed for one in results)


async def test_connections_are_kept(load, server):
    taken = []
    handle = server.app.handle
    server.app.handle = lambda request, reply: (
        taken.append(reply._connection),
        handle(request, reply),
    )
    await load(turns=10, sessions=1)
    assert len(taken) == 10
    assert len(set(taken)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"error_rate": 1, "status": 503}, "status"),
        ({"reset_after_events": 0}, "reset"),
        ({"reset_after_events": 3}, "reset"),
        ({"refuse": True}, "reset"),
    ],
)
async def test_a_fault_is_a_failure_of_its_kind(load, break_it, fault, kind):
    break_it(**fault)
    results = await load(sessions=5)
    assert [one.error for one in results] == [kind] * 5


async def test_a_stream_that_is_cut_keeps_what_came(load, break_it):
    break_it(reset_after_events=3)
    results = await load(sessions=5)
    assert {(one.status, one.events, one.error) for one in results} == {(200, 3, "reset")}
    assert all(one.ttft_s for one in results)


ABORTED = b'data: {"choices":[{"delta":{"content":""},"finish_reason":"abort"}]}\n\n'


async def test_a_stream_that_the_server_aborts_is_truncated(answering, rng):
    loader = await answering(STREAM + b"\r\n" + EVENT + ABORTED + DONE)
    (result,) = await loader.run(sessions=1, rng=rng)
    assert (result.status, result.error) == (200, "truncated")


ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}\n\n'
)
NULL_USAGE = EVENT.replace(b"}]}", b'}],"usage":null}')


async def test_only_events_with_a_text_are_timed_and_the_usage_is_kept(answering, rng):
    body = ROLE + NULL_USAGE + EVENT + USAGE + DONE
    loader = await answering(STREAM + b"\r\n" + body)
    (result,) = await loader.run(sessions=1, rng=rng)
    assert (result.events, len(result.gaps_s)) == (3, 1)
    assert (result.prompt_tokens, result.output_tokens) == (9, 2)
    assert not result.failed


async def test_an_answer_that_never_comes_is_a_timeout(load, break_it):
    break_it(hang=True)
    results = await load(sessions=3, timeout_s=0.2)
    assert [one.error for one in results] == ["timeout"] * 3
    assert all(0.15 < one.duration_s < 2 for one in results)


async def test_nobody_there_is_a_connect_failure(loader_of, rng):
    results = await loader_of(f"http://127.0.0.1:{free_port()}").run(sessions=2, rng=rng)
    assert [one.error for one in results] == ["connect"] * 2
    assert "Connect call failed" in results[0].detail


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (STREAM + b"transfer-encoding: chunked\r\n\r\n" + chunked(EVENT, DONE, b""), ""),
        (STREAM + b"\r\n" + EVENT + DONE, ""),
        (STREAM + b"transfer-encoding: chunked\r\n\r\n" + chunked(EVENT, b""), "truncated"),
        (STREAM + b"\r\n" + EVENT, "truncated"),
        (STREAM + b"transfer-encoding: chunked\r\n\r\n" + chunked(EVENT), "reset"),
        (STREAM + b"transfer-encoding: chunked\r\n\r\nxyz", "garbage"),
        (STREAM + b'\r\ndata: {"error":{"message":"no"}}\n\n' + DONE, "stream-error"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "reset"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", ""),
        (b"nonsense", "garbage"),
        (b"", "reset"),
    ],
)
async def test_every_broken_answer_is_told_apart(answering, rng, answer, kind):
    loader = await answering(answer)
    results = await loader.run(sessions=1, rng=rng)
    assert [one.error for one in results] == [kind]


async def test_the_gateways_headers_are_kept(answering, rng):
    head = b"HTTP/1.1 200 OK\r\nX-Tidegate-Pool: default/llm\r\nx-tidegate-endpoint: a:1\r\n"
    loader = await answering(head + b"content-length: 2\r\n\r\n{}")
    (result,) = await loader.run(sessions=1, rng=rng)
    assert (result.pool, result.endpoint) == ("default/llm", "a:1")


@pytest.mark.parametrize("url", ["", "localhost:80", "ftp://a", "http://", "http://a:x"])
def test_a_url_that_cannot_be_asked_is_refused(url):
    with pytest.raises(TargetError, match="url: found"):
        parse_target(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, ""),
        ("http://a/v1/", "a", 80, ""),
        ("https://a/base", "a", 443, "/base"),
        ("http://[::1]:1", "::1", 1, ""),
    ],
)
def test_a_url_names_host_port_and_prefix(url, host, port, prefix):
    target = parse_target(url)
    assert (target.host, target.port, target.prefix) == (host, port, prefix)


@given(st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b)), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(events, data):
    stream = b"".join(b": ping\ndata: %b\n\n" % one for one in events)
    reader, seen = EventReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        seen += reader.feed(stream[:size])
        stream = stream[size:]
    assert seen == [one.strip() for one in events]
