"""A client's model name stands for others behind the gateway, and the client never sees them."""

import asyncio
from collections import Counter

import msgspec

from tidegate.picker.state import Listed, Model
from tidegate.scrape.models import parse_models
from tidegate.testing.endpoints import Seen, answer, scripted
from tidegate.testing.gateway import gateway, pool, route, to


def rewrite(**weights: int) -> dict:
    targets = [{"modelRewrite": name, "weight": weight} for name, weight in weights.items()]
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "reviews"},
        "spec": {
            "poolRef": {"name": "llm"},
            "rules": [{"matches": [{"model": {"value": "review"}}], "targets": targets}],
        },
    }


def ask(model: str, user: str = "", **fields: object) -> bytes:
    return msgspec.json.encode({"model": model, **({"user": user} if user else {}), **fields})


async def echo(seen: Seen, writer: asyncio.StreamWriter) -> None:
    body = msgspec.json.decode(seen.body)
    writer.write(answer(200, msgspec.json.encode({"model": body["model"], "asked": body})))


async def stream(seen: Seen, writer: asyncio.StreamWriter) -> None:
    name = msgspec.json.decode(seen.body)["model"]
    writer.write(
        b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    event = b'data: {"model":"%b","choices":[]}\n\n' % name.encode()
    for part in (event[:14], event[14:20], event[20:], event, b"data: [DONE]\n\n"):
        writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        await writer.drain()
        await asyncio.wait([asyncio.ensure_future(_tick())])
    writer.write(b"0\r\n\r\n")


async def _tick() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, event.set)
    await event.wait()


RULE = {"backendRefs": [to("llm")]}


async def test_the_endpoint_gets_the_target_and_the_client_its_own_name():
    async with scripted(echo) as server:
        manifests = pool("llm", server.address), route(RULE), rewrite(**{"review-1": 1})
        async with gateway(*manifests) as gw:
            got = await gw.post(
                ask("review", odd=" x "), "/v1/completions", "accept-encoding: gzip"
            )
            seen = msgspec.json.decode(server.seen[0].body)
            assert seen == {"model": "review-1", "odd": " x "}
            assert server.seen[0].header("accept-encoding") is None
            assert msgspec.json.decode(got.body)["model"] == "review"
            record = gw.records[0]
            assert (record.model, record.target) == ("review", "review-1")
            assert record.split == "default/InferenceModelRewrite/reviews/0"


async def test_other_models_pass_unchanged():
    async with scripted(echo) as server:
        manifests = pool("llm", server.address), route(RULE), rewrite(**{"review-1": 1})
        async with gateway(*manifests) as gw:
            body = b'{ "model" :"base" , "n":1}'
            await gw.post(body)
            assert server.seen[0].body == body
            assert (gw.records[0].target, gw.records[0].split) == ("", "")


async def test_a_streamed_name_is_put_back_though_it_comes_in_pieces():
    async with scripted(stream) as server:
        manifests = pool("llm", server.address), route(RULE), rewrite(**{"review-1": 1})
        async with gateway(*manifests) as gw:
            got = await gw.post(ask("review", stream=True))
            event = b'data: {"model":"review","choices":[]}\n\n'
            assert got.body == event * 2 + b"data: [DONE]\n\n"
            assert gw.records[0].events == 2


async def test_versions_share_by_weight_and_a_session_stays():
    async with scripted(echo) as server:
        manifests = pool("llm", server.address), route(RULE)
        async with gateway(*manifests, rewrite(one=75, two=25)) as gw:

            async def drawn() -> dict[str, str]:
                served = {}
                for user in range(200):
                    await gw.post(ask("review", user=str(user)))
                    served[str(user)] = gw.records[-1].target
                return served

            first = await drawn()
            assert 25 < Counter(first.values())["two"] < 75
            await gw.apply(rewrite(one=50, two=50))
            second = await drawn()
            assert {user for user in first if first[user] == "two"} < {
                user for user in second if second[user] == "two"
            }


async def test_the_models_list_names_what_clients_ask_for():
    models = msgspec.json.encode({"data": [{"id": "review-1", "parent": "base"}]})

    async def listing(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, models))

    async with scripted(listing) as server:
        manifests = pool("llm", server.address), route(RULE), rewrite(**{"review-1": 1})
        async with gateway(*manifests) as gw:
            gw.registry.note(server.address, Listed(parse_models(models)))
            got = msgspec.json.decode((await gw.get("/v1/models")).body)
            assert {each["id"] for each in got["data"]} == {"review-1", "review"}


async def test_a_target_that_nobody_has_listed_yet_is_sent_for_it_may_have_been_loaded_since():
    async with scripted(echo) as server:
        manifests = pool("llm", server.address), route(RULE), rewrite(**{"review-2": 1})
        async with gateway(*manifests) as gw:
            gw.registry.note(server.address, Listed((Model(id="base"), Model(id="review-1"))))
            got = await gw.post(ask("review"))
            assert got.status == 200
            plain = await gw.post(ask("review-2"))
            assert plain.status == 404
