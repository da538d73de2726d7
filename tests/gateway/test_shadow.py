"""Copies to a rollout's canary: whole sessions, no client waits, pairs are compared."""

import asyncio

import msgspec
import pytest

from tidegate.judge.record import Check, Record
from tidegate.testing.endpoints import Seen, answer, says, scripted
from tidegate.testing.gateway import GatewayUnderTest, gateway, pool, route, to
from tidegate.testing.waiting import wait_for

RULE = {"name": "chat", "backendRefs": [to("llm", 100), to("llm-new", 0)]}


def rollout(percent: int, purpose: str) -> dict:
    return {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "InferenceRollout",
        "metadata": {"name": "move", "uid": "uid-1"},
        "spec": {"stable": "llm", "canary": "llm-new"},
        "status": {
            "phase": "Progressing",
            "target": "HTTPRoute/route/chat",
            "weights": {"desired": 0, "effective": 0},
            "mirror": {"percent": percent, "purpose": purpose},
        },
    }


def ask(user: str = "", **fields: object) -> bytes:
    messages = [{"role": "user", "content": f"Hello {user}"}]
    return msgspec.json.encode({"model": "m", "messages": messages, "user": user, **fields})


def says_text(text: str):
    body = msgspec.json.encode({"model": "m", "choices": [{"message": {"content": text}}]})

    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, body))

    return script


async def hang(_seen: Seen, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def fail(_seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(500, b"{}"))


def pairing(gw: GatewayUnderTest) -> list[tuple[Record, Record, bool | None]]:
    pairs: list[tuple[Record, Record, bool | None]] = []
    gw.plane.paired = lambda *pair: pairs.append(pair)
    return pairs


async def test_whole_sessions_are_copied_and_no_other():
    async with scripted(says_text("a")) as stable, scripted(says_text("a")) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(30, "Shadow")) as gw:
            for user in range(60):
                for _ in range(2):
                    await gw.post(ask(str(user)))
            await wait_for(lambda: not gw.plane.mirrors)
            copied = [msgspec.json.decode(seen.body)["user"] for seen in canary.seen]
            assert 6 < len(set(copied)) < 35
            assert sorted(copied) == sorted(2 * list(set(copied)))
            assert len(stable.seen) == 120
            assert {record.pool for record in gw.records} == {"default/llm"}


async def test_warming_asks_for_one_token_and_no_stream():
    async with scripted(says_text("a")) as stable, scripted(says_text("a")) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, "Warm")) as gw:
            pairs = pairing(gw)
            sent = ask("u", stream=True, max_tokens=500, stream_options={"include_usage": True})
            await gw.post(sent)
            await wait_for(lambda: canary.seen and not gw.plane.mirrors)
            got, whole = (msgspec.json.decode(each.seen[0].body) for each in (canary, stable))
            assert got["messages"] == whole["messages"]
            assert (got["max_tokens"], "stream" in got) == (1, False)
            assert whole["max_tokens"] == 500
            assert pairs == []


async def test_the_client_never_waits_for_its_copy():
    async with scripted(says_text("a")) as stable, scripted(hang) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, "Shadow")) as gw:
            async with asyncio.timeout(5):
                assert {(await gw.post(ask(str(user)))).status for user in range(20)} == {200}
            await wait_for(lambda: canary.seen)


async def test_pairs_tell_failed_and_different_answers():
    async with scripted(says_text("a")) as stable, scripted(says_text("b")) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, "Shadow")) as gw:
            pairs = pairing(gw)
            await gw.post(ask("u"))
            await gw.post(ask("u", temperature=0))
            await wait_for(lambda: len(pairs) == 2)
            assert [differ for _, _, differ in pairs] == [None, True]
            canary.script = says_text("a")
            await gw.post(ask("u", temperature=0))
            await wait_for(lambda: len(pairs) == 3)
            canary.script = fail
            await gw.post(ask("u"))
            await wait_for(lambda: len(pairs) == 4)
            assert pairs[2][2] is False
            ours, own, _ = pairs[3]
            assert (ours.status, own.status, ours.arm, own.arm) == (500, 200, "llm-new", "llm")


async def test_a_copy_that_was_cut_by_a_stopped_server_is_broken():
    end = b'data: {"choices":[{"delta":{},"finish_reason":"abort"}]}\n\ndata: [DONE]\n\n'
    whole = b'{"choices":[{"message":{"content":"a"},"finish_reason":"abort"}]}'
    stream = answer(200, end, (("content-type", "text/event-stream"),))
    async with scripted(says_text("a")) as stable, scripted(fail) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, "Shadow")) as gw:
            pairs = pairing(gw)
            for number, data in enumerate((stream, answer(200, whole)), 1):
                canary.script = says(data)
                await gw.post(ask("u"))
                await wait_for(lambda number=number: len(pairs) == number)
            assert [(ours.broken, own.broken) for ours, own, _ in pairs] == [(True, False)] * 2


async def test_both_answers_of_a_pair_are_checked():
    good, bad = says_text('{"a": 1}'), says_text("I cannot help with that")
    async with scripted(good) as stable, scripted(bad) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, "Shadow")) as gw:
            pairs = pairing(gw)
            await gw.post(ask("u", response_format={"type": "json_object"}))
            await wait_for(lambda: pairs)
            ours, own, _ = pairs[0]
            assert (ours.checked, ours.failed_checks) == (True, Check.INVALID | Check.REFUSED)
            assert (own.checked, own.failed_checks) == (True, 0)


async def test_what_may_have_side_effects_is_not_copied():
    async with scripted(says_text("a")) as stable, scripted(says_text("a")) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, "Shadow")) as gw:
            await gw.post(ask("u"), "/v1/responses")
            await gw.get("/v1/files")
            await gw.post(ask("u"))
            await wait_for(lambda: canary.seen and not gw.plane.mirrors)
            assert [seen.target for seen in canary.seen] == ["/v1/chat/completions"]


async def test_copies_are_the_first_to_be_left_out():
    async with scripted(says_text("a")) as stable, scripted(says_text("a")) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, "Shadow")) as gw:
            busy = gw.registry.all()[canary.address]
            busy.state = msgspec.structs.replace(busy.state, waiting=1)
            assert (await gw.post(ask("u"))).status == 200
            assert gw.rejected == ["MirrorDropped"]
            assert canary.seen == []


@pytest.mark.parametrize("purpose", ["Warm", "Shadow"])
async def test_a_body_that_cannot_be_copied_is_served_all_the_same(purpose: str):
    async with scripted(says_text("a")) as stable, scripted(says_text("a")) as canary:
        pools = pool("llm", stable.address), pool("llm-new", canary.address)
        async with gateway(*pools, route(RULE), rollout(100, purpose)) as gw:
            for key in (b"\xff", b"mod\xc3l"):
                assert (await gw.post(b'{"model":"m","%b":1}' % key)).status == 200
