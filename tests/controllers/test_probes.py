"""Questions to endpoints: what they serve, how they tokenize, what works, and whether they live."""

import asyncio
from typing import Any

import msgspec

from tidegate.controllers.probes import Probes
from tidegate.rollout.facts import EndpointFacts
from tidegate.testing.endpoints import Seen, answer, scripted
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_for


class Server:
    """A model server as far as probes ask."""

    def __init__(self, *, offset: int = 0, without: str = "", hangs: bool = False) -> None:
        self.offset = offset
        self.without = without
        self.hangs = hangs

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        body: Any = msgspec.json.decode(seen.body) if seen.body else {}
        status, said = 200, {}
        if seen.target == "/v1/models":
            base = {"id": "m", "max_model_len": 4096, "root": "org/m"}
            said = {"data": [base, {"id": "lora", "parent": "m"}]}
        elif seen.target == "/tokenize":
            text = str(body.get("prompt") or body.get("messages"))
            said = {"tokens": [ord(each) + self.offset for each in text]}
        elif self.hangs:
            await asyncio.Event().wait()
        elif self.without and self.without in body:
            status = 400
        writer.write(answer(status, msgspec.json.encode(said), (("connection", "close"),)))
        writer.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def asked(
    server: Server, *, deep_age_s: float | None = 60.0, timeout_s: float = 5.0
) -> EndpointFacts:
    """Return what probes find out of a server."""
    async with scripted(server) as endpoint:
        probes = Probes(Clock(), lambda: None, timeout_s=timeout_s)
        try:
            found: list[EndpointFacts] = []

            def known() -> bool:
                facts = probes.facts(endpoint.address, (1,), age_s=60.0, deep_age_s=deep_age_s)
                found.extend([facts] if facts else [])
                return bool(found)

            await wait_for(known)
            assert probes.roots(endpoint.address) == {"org/m"}
            return found[0]
        finally:
            await probes.close()


async def test_models_adapters_and_lengths_are_listed():
    facts = await asked(Server(), deep_age_s=None)
    assert facts.models == ("m",)
    assert facts.adapters == {"lora"}
    assert facts.max_model_len == 4096
    assert facts.tokenizer is None


async def test_equal_tokenizers_have_equal_hashes_and_others_do_not():
    one, same, other = [await asked(Server(offset=n)) for n in (0, 0, 1)]
    assert one.tokenizer == same.tokenizer != other.tokenizer
    assert one.chat_template == same.chat_template != other.chat_template


async def test_a_feature_that_is_refused_is_found():
    facts = await asked(Server(without="tools"))
    assert facts.features["tools"] is False
    assert facts.features["json_schema"] is True
    assert facts.problem == ""


async def test_a_server_that_hangs_is_a_problem():
    facts = await asked(Server(hangs=True), timeout_s=0.2)
    assert facts.problem == "/v1/chat/completions: no answer within 0.2 s"


async def test_a_server_that_is_not_there_is_a_problem():
    probes = Probes(Clock(), lambda: None)
    address = f"127.0.0.1:{free_port()}"
    try:
        await wait_for(lambda: probes.facts(address, (1,), age_s=60.0))
        facts = probes.facts(address, (1,), age_s=60.0)
        assert facts is not None
        assert facts.models is None
        assert "/v1/models" in facts.problem
    finally:
        await probes.close()


async def test_another_process_at_the_address_is_asked_anew():
    async with scripted(Server()) as endpoint:
        probes = Probes(Clock(), lambda: None)
        try:
            await wait_for(lambda: probes.facts(endpoint.address, (1,), age_s=60.0))
            assert probes.facts(endpoint.address, (2,), age_s=60.0) is None
            await wait_for(lambda: probes.facts(endpoint.address, (2,), age_s=60.0))
        finally:
            await probes.close()
