"""An endpoint's head that comes again can't be told from one that is parsed."""

import asyncio
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gateway.repeat import LONGEST, TRIES, learn_answer
from tidegate.testing.endpoints import Script, Seen, answer, says, scripted
from tidegate.testing.gateway import Answer, gateway, pool, route, serving, to
from tidegate.testing.waiting import wait_for

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def in_turn(*answers: bytes) -> Script:
    """Answer the first request with the first and so on, then begin again."""
    turns = cycle(answers)

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(next(turns))

    return script


async def test_the_same_head_brings_bodies_of_all_sizes():
    bodies = [b"{}", b'{"a": 1}', b"", b"x" * 5000, b"{}"]
    async with serving(in_turn(*[answer(body=body) for body in bodies])) as (gw, server):
        connection = await gw.connect()
        for body in bodies:
            connection.writer.write(GET)
            assert (await connection.answer()).body == body
        assert server.accepted == 1
        assert [r.response_bytes for r in gw.records] == [len(body) for body in bodies]
        assert all(r.ttft_s is not None for r in gw.records if r.response_bytes)


OTHERS = {
    "another header": answer(headers=(("content-type", "application/json"), ("x-a", "1"))),
    "another status": answer(201),
    "an error": answer(500),
    "no body": b"HTTP/1.1 204 X\r\n\r\n",
    "chunks": b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\n"
    b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "informed before": b"HTTP/1.1 103 X\r\nlink: a\r\n\r\n" + answer(),
    "the last": answer().replace(b"\r\ncontent-l", b"\r\nconnection: close\r\ncontent-l"),
    "no number": answer().replace(b"length: 2", b"length: +2"),
    "two lengths": answer().replace(b"content-l", b"content-length: 3\r\ncontent-l"),
    "a length in the body": answer(body=b"\r\ncontent-length: 0\r\n\r\n"),
    "events": answer(body=b"data: {}\n\n", headers=(("content-type", "text/event-stream"),)),
}


@pytest.mark.parametrize("following", OTHERS.values(), ids=OTHERS.keys())
async def test_whatever_follows_a_known_head_is_passed_on_as_it_is(following: bytes):
    async def then(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(following if seen.target == "/then" else answer())

    get = GET.replace(b"/ ", b"/then ")
    async with serving(then) as (gw, _), serving(says(following)) as (new, _):
        assert (await gw.ask(GET)).body == b"{}"
        for _ in range(2):
            assert _shown(await gw.ask(get)) == _shown(await new.ask(get))
        assert [(r.status, r.events) for r in gw.records[1:]] == [
            (r.status, r.events) for r in new.records
        ]
        assert (await gw.ask(GET)).body == b"{}"


def _shown(found: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    changing = {"x-tidegate-endpoint"}
    if found.status >= 500:
        return found.status, [], b""
    return found.status, [each for each in found.headers if each[0] not in changing], found.body


async def test_more_than_the_answer_is_nobodys():
    async with serving(in_turn(answer(), answer() + answer(body=b"stolen"))) as (gw, server):
        for _ in range(4):
            assert (await gw.ask(GET)).body == b"{}"
        assert server.accepted > 1


async def test_a_known_head_whose_body_comes_later_is_waited_for():
    body, got = b"x" * 100, bytearray()

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        cut = int(seen.target[1:])
        writer.write(answer(body=body)[: -cut or None])
        await wait_for(lambda: got.endswith(b"x") or not cut)
        writer.write(answer(body=body)[-cut:] if cut else b"")

    async with serving(script) as (gw, _):
        connection = await gw.connect()
        for cut in (100, 50, 1, 99):
            got.clear()
            connection.writer.write(GET.replace(b"/ ", b"/%d " % (cut % 100)))
            while not got.endswith(body):
                got += await connection.reader.read(65536)
            assert got.partition(b"\r\n\r\n")[2] == body


async def test_head_and_get_take_turns_on_a_known_head():
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer() if seen.method == "GET" else answer()[:-2])

    async with serving(script) as (gw, server):
        connection = await gw.connect()
        for _ in range(3):
            for method in (b"GET", b"HEAD", b"GET"):
                connection.writer.write(GET.replace(b"GET", method))
                found = await connection.answer(head_only=method == b"HEAD")
                assert (found.header("content-length"), found.status) == ("2", 200)
                assert found.body == (b"" if method == b"HEAD" else b"{}")
        assert {r.response_bytes for r in gw.records if r.method == "HEAD"} == {0}
        assert server.seen


async def test_clients_of_http_1_0_and_1_1_get_a_known_head_framed_for_them():
    async with serving(says(answer())) as (gw, _):
        for _ in range(2):
            assert (await gw.ask(GET)).header("connection") is None
            old = await gw.ask(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            assert old.header("connection") == "close"


async def test_each_arm_edits_a_known_head_in_its_way():
    def says_arm(model: str) -> dict[str, object]:
        header = {"name": "x-gateway-model-name", "value": model}
        edit = {"set": [{"name": "x-arm", "value": model}]}
        filters = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": edit}]
        return {
            "matches": [{"headers": [header]}],
            "backendRefs": [to("llm", filters=filters)],
        }

    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n"
    async with scripted(says(answer())) as server:
        objects = [pool("llm", server.address), route(says_arm("a"), says_arm("b"))]
        async with gateway(*objects) as gw:
            connection = await gw.connect()
            for model in "aabbab":
                connection.writer.write(head + b'{"model": "%b"}' % model.encode())
                assert (await connection.answer()).header("x-arm") == model
            assert server.accepted == 1


async def test_a_known_head_meets_a_changed_table():
    async with serving(says(answer())) as (gw, server):
        connection = await gw.connect()
        for value in ("1", "1", "2", "3", "3"):
            edit = {"set": [{"name": "x-table", "value": value}]}
            filters = [{"type": "ResponseHeaderModifier", "responseHeaderModifier": edit}]
            await gw.apply(route({"backendRefs": [to("llm")], "filters": filters}))
            connection.writer.write(GET)
            assert (await connection.answer()).header("x-table") == value
        assert server.accepted == 1


async def test_a_draining_gateway_ends_a_connection_on_a_known_head():
    async with serving(says(answer())) as (gw, _):
        for draining in (False, False, True):
            gw.plane.draining = draining
            found = await gw.ask(GET)
            assert found.header("connection") == ("close" if draining else None)


async def test_an_endpoint_whose_heads_always_change_is_passed_on():
    answers = [answer(headers=(("x-number", str(number)),)) for number in range(2 * TRIES)]
    async with serving(in_turn(*answers)) as (gw, _):
        found = [(await gw.ask(GET)).header("x-number") for _ in answers]
        assert found == [str(number) for number in range(2 * TRIES)]


@given(st.binary(max_size=200), st.integers(0, 300), st.binary(max_size=3))
def test_only_the_whole_answer_has_a_body(body: bytes, said: int, more: bytes):
    known = learn_answer(answer(), [], 2)
    assert known is not None
    data = answer(body=body) + more
    lying = data.replace(b"length: %d\r" % len(body), b"length: %d\r" % said)
    assert known.body(data) == (None if more else body)
    assert known.body(lying) == (body + more if said == len(body) + len(more) else None)


def test_long_heads_are_not_kept():
    assert learn_answer(answer(headers=(("x-a", "x" * LONGEST),)), [], 2) is None
