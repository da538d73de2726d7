"""Picks over real sockets: subsets, missing models, adapters on demand, pairs, hot reload."""

import json
from contextlib import asynccontextmanager

import pytest
import yaml

from tidegate.gateway.adapters import Adapters
from tidegate.picker.state import Listed, Model, Sample
from tidegate.testing.endpoints import answer, says, scripted
from tidegate.testing.gateway import gateway, pool, route, to

RULE = {"backendRefs": [to("llm")]}
REASON = "x-tidegate-reason"


def config(text, name="picker", key="default-plugins.yaml"):
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {key: text},
    }


def annotated(manifests, **annotations):
    """The manifests of a pool, with annotations on the InferencePool."""
    documents = list(yaml.safe_load_all(manifests))
    documents[1]["metadata"]["annotations"] = {
        f"tidegate.dev/{name.replace('_', '-')}": value for name, value in annotations.items()
    }
    return yaml.safe_dump_all(documents)


def labelled(manifests, **labels):
    documents = list(yaml.safe_load_all(manifests))
    documents[0]["metadata"]["labels"].update(labels)
    return yaml.safe_dump_all(documents)


def ask(model="base", text="hello"):
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()


def lists(*names):
    return Listed(tuple(Model(id=n, parent=None if n == "base" else "base") for n in names))


@asynccontextmanager
async def servers(count):
    """So many servers that say in their answers what was asked of whom."""
    made = [scripted(says(answer())) for _ in range(count)]
    entered = [await one.__aenter__() for one in made]
    try:
        yield entered
    finally:
        for one in made:
            await one.__aexit__(None, None, None)


def served_by(got):
    return got.header("x-tidegate-endpoint")


async def test_only_endpoints_of_the_subset_are_picked():
    async with servers(3) as some:
        addresses = [one.address for one in some]
        async with gateway(pool("llm", *addresses), route(RULE), trust_client_headers=True) as gw:
            subset = f"x-gateway-destination-endpoint-subset: {addresses[2]}, {addresses[0]}"
            answers = [await gw.post(ask(), "/v1/chat/completions", subset) for _ in range(12)]
            assert {served_by(one) for one in answers} == {addresses[0], addresses[2]}


@pytest.mark.parametrize("subset", ["", "10.9.9.9:8000", "nonsense"])
async def test_a_subset_in_which_nobody_is_gets_503(subset):
    async with servers(1) as (server,):
        manifests = pool("llm", server.address), route(RULE)
        async with gateway(*manifests, trust_client_headers=True) as gw:
            header = f"x-gateway-destination-endpoint-subset: {subset}"
            got = await gw.post(ask(), "/v1/chat/completions", header)
            assert (got.status, got.header(REASON)) == (503, "NoEndpoints")


async def test_endpoints_that_others_named_are_tried_in_their_order():
    async with servers(3) as some:
        dead, (one, two, three) = "127.0.0.1:1", [each.address for each in some]
        manifests = pool("llm", dead, one, two, three), route(RULE)
        async with gateway(*manifests, trust_client_headers=True) as gw:
            for order, serves in (
                ((two, one), two),
                ((dead, three, one), three),
                (("10.9.9.9:1", one), one),
                ((dead, "10.9.9.9:1", two, two), two),
            ):
                header = f"x-gateway-destination-endpoint: {','.join(order)}"
                got = await gw.post(ask(), "/v1/chat/completions", header)
                assert (got.status, served_by(got)) == (200, serves)
            header = "x-gateway-destination-endpoint: 10.9.9.9:1"
            got = await gw.post(ask(), "/v1/chat/completions", header)
            assert (got.status, got.header(REASON)) == (503, "NoEndpoints")


async def test_a_subset_is_ignored_where_clients_are_not_trusted():
    async with servers(1) as (server,), gateway(pool("llm", server.address), route(RULE)) as gw:
        header = "x-gateway-destination-endpoint-subset: 10.9.9.9:8000"
        assert (await gw.post(ask(), "/v1/chat/completions", header)).status == 200


async def test_a_retry_stays_in_the_subset():
    async with servers(2) as some:
        dead = "127.0.0.1:1"
        addresses = [one.address for one in some]
        manifests = pool("llm", dead, *addresses), route(RULE)
        async with gateway(*manifests, trust_client_headers=True) as gw:
            header = f"x-gateway-destination-endpoint-subset: {dead},{addresses[1]}"
            answers = [await gw.post(ask(), "/v1/chat/completions", header) for _ in range(8)]
            assert {served_by(one) for one in answers} == {addresses[1]}


async def test_an_empty_pool_gets_503():
    async with gateway(pool("llm"), route(RULE)) as gw:
        got = await gw.post(ask())
        assert (got.status, got.header(REASON)) == (503, "NoEndpoints")


async def test_a_model_goes_to_whoever_has_it_and_else_nowhere():
    async with servers(3) as some:
        addresses = [one.address for one in some]
        async with gateway(pool("llm", *addresses), route(RULE)) as gw:
            for address in addresses:
                gw.registry.note(address, lists("base"))
            gw.registry.note(addresses[1], lists("base", "adapter"))
            answers = [await gw.post(ask("adapter")) for _ in range(6)]
            assert {served_by(one) for one in answers} == {addresses[1]}
            missing = await gw.post(ask("other"))
            assert (missing.status, missing.header(REASON)) == (404, "ModelNotFound")
            assert "'other' does not exist" in json.loads(missing.body)["error"]["message"]


def adapters(gw, refresh=lambda addresses: None):
    plane = gw.plane
    plane.adapters = Adapters(
        plane.loop, plane.pool, plane.rng, plane.clock, refresh=refresh, note=gw.registry.note
    )


async def test_a_model_that_was_just_loaded_is_found_by_looking_again():
    async with servers(1) as (server,), gateway(pool("llm", server.address), route(RULE)) as gw:
        looks = []

        def refresh(addresses):
            looks.append(list(addresses))
            gw.plane.loop.call_soon(gw.registry.note, server.address, lists("base", "adapter"))

        adapters(gw, refresh)
        gw.registry.note(server.address, lists("base"))
        assert (await gw.post(ask("adapter"))).status == 200
        assert (await gw.post(ask("adapter"))).status == 200
        assert (await gw.post(ask("other"))).status == 404
        assert looks == [[server.address]]


async def test_the_same_wrong_name_is_looked_for_once():
    async with servers(1) as (server,), gateway(pool("llm", server.address), route(RULE)) as gw:
        looks = []
        adapters(gw, looks.append)
        gw.registry.note(server.address, lists("base"))
        answers = [await gw.post(ask("other")) for _ in range(3)]
        assert [one.status for one in answers] == [404] * 3
        assert len(looks) == 1


async def load(seen, writer):
    """Load any adapter but those called "bad"; say well to the rest."""
    loads = seen.target == "/v1/load_lora_adapter"
    if loads and json.loads(seen.body)["lora_name"].startswith("bad"):
        writer.write(answer(400, b"no such adapter"))
    else:
        writer.write(answer())


def loaded(server):
    return [json.loads(one.body) for one in server.seen if one.target.endswith("load_lora_adapter")]


@asynccontextmanager
async def loading_gateway():
    async with scripted(load) as server:
        manifests = annotated(pool("llm", server.address), adapter_path="/adapters/{adapter}")
        async with gateway(manifests, route(RULE)) as gw:
            adapters(gw, lambda addresses: gw.registry.note(server.address, lists("base")))
            gw.registry.note(server.address, lists("base"))
            yield gw, server


async def test_an_adapter_that_nobody_has_is_loaded_on_one():
    async with loading_gateway() as (gw, server):
        assert (await gw.post(ask("poet"))).status == 200
        assert (await gw.post(ask("poet"))).status == 200
        assert loaded(server) == [{"lora_name": "poet", "lora_path": "/adapters/poet"}]
        assert len(server.seen) == 3


async def test_an_adapter_that_cannot_be_loaded_is_a_404_and_not_tried_again_at_once():
    async with loading_gateway() as (gw, server):
        answers = [await gw.post(ask("bad")) for _ in range(3)]
        assert [one.status for one in answers] == [404] * 3
        assert len(loaded(server)) == len(server.seen) == 1


@pytest.mark.parametrize("name", ["../secrets", "a/b", "", ".hidden", "x" * 300, "a b"])
async def test_names_that_are_no_adapters_names_are_never_loaded(name):
    async with loading_gateway() as (gw, server):
        assert (await gw.post(ask(name))).status == 404
        assert server.seen == []


async def test_a_pool_without_a_path_loads_nothing():
    async with scripted(load) as server, gateway(pool("llm", server.address), route(RULE)) as gw:
        adapters(gw, lambda addresses: gw.registry.note(server.address, lists("base")))
        gw.registry.note(server.address, lists("base"))
        assert (await gw.post(ask("poet"))).status == 404
        assert server.seen == []


async def test_a_pool_picks_by_the_config_that_it_names_and_by_the_next_at_once():
    async with servers(2) as some:
        addresses = [one.address for one in some]
        base = annotated(pool("llm", *addresses), picker_config="picker")
        queue, kv = (
            "plugins: [{type: queue-scorer}]",
            "plugins: [{type: kv-cache-utilization-scorer}]",
        )
        async with gateway(base, route(RULE), config(queue)) as gw:
            gw.registry.note(addresses[0], Sample(waiting=9, kv_usage=0.0))
            gw.registry.note(addresses[1], Sample(waiting=0, kv_usage=0.9))
            assert {served_by(await gw.post(ask())) for _ in range(5)} == {addresses[1]}
            await gw.apply(config(kv))
            assert {served_by(await gw.post(ask())) for _ in range(5)} == {addresses[0]}
            await gw.apply(config("plugins: [{type: no-such-scorer}]"))
            assert {served_by(await gw.post(ask())) for _ in range(5)} == {addresses[0]}


async def test_a_prompt_goes_where_its_beginning_is_cached():
    async with servers(4) as some:
        addresses = [one.address for one in some]
        async with gateway(pool("llm", *addresses), route(RULE)) as gw:
            text = "once upon a time " * 500
            first = served_by(await gw.post(ask(text=text)))
            longer = [served_by(await gw.post(ask(text=text + str(n) * 500))) for n in range(6)]
            assert set(longer) == {first}
            others = {served_by(await gw.post(ask(text=str(n) * 9000))) for n in range(20)}
            assert len(others) > 1


async def test_answers_that_come_whole_teach_how_long_they_are():
    body = b'{"choices":[{"text":"\\"completion_tokens\\": 5"}],"usage":{"completion_tokens": 28}}'
    async with (
        scripted(says(answer(body=body))) as server,
        gateway(pool("llm", server.address), route(RULE)) as gw,
    ):
        for _ in range(50):
            assert (await gw.post(ask())).status == 200
        (learnt,) = (one.latency.output for one in gw.plane.live.pools.values())
        assert 28 < learnt < 100  # of 128 at first


async def test_the_endpoint_that_answers_is_told_who_computes_the_prompt():
    roles = """
plugins:
- {type: disagg-profile-handler, parameters: {deciders: {prefill: decider}}}
- {type: prefix-based-pd-decider, name: decider, parameters: {nonCachedTokens: 100}}
- {type: prefill-filter}
- {type: decode-filter}
schedulingProfiles:
- {name: prefill, plugins: [{pluginRef: prefill-filter}]}
- {name: decode, plugins: [{pluginRef: decode-filter}]}
"""
    async with servers(2) as (one, two):
        both = labelled(pool("llm", one.address), **{"llm-d.ai/role": "decode"})
        server = labelled(pool("pre", two.address), app="llm", **{"llm-d.ai/role": "prefill"})
        manifests = annotated(both, picker_config="picker"), server
        async with gateway(*manifests, route(RULE), config(roles)) as gw:
            assert served_by(await gw.post(ask(text="x" * 2000))) == one.address
            lie = "x-prefiller-host-port: 10.9.9.9:1"
            short = await gw.post(ask(text="hi"), "/v1/chat/completions", lie)
            assert served_by(short) == one.address
            told = [seen.header("x-prefiller-host-port") for seen in one.seen]
            assert told == [two.address, None]
            assert [e.state.in_flight for e in gw.registry.all().values()] == [0, 0]
