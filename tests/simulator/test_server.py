"""A simulated server over real sockets, asked by the official client and by hand."""

import asyncio

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tidegate.testing.http import connected, read_answer, request_bytes
from tidegate.testing.waiting import wait_for

HELLO = [{"role": "user", "content": "hello"}]


def completion(**headers: str) -> bytes:
    return request_bytes("POST", "/v1/completions", {"prompt": "x"}, headers)


async def test_the_openai_client_can_chat(client):
    answer = await client.chat.completions.create(model="base", messages=HELLO, max_tokens=7)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 7


async def test_a_stream_says_the_same_as_a_whole_answer(client):
    whole = await client.chat.completions.create(model="base", messages=HELLO)
    stream = await client.chat.completions.create(
        model="base", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert not chunks[-1].choices


async def test_a_stream_has_one_event_a_token_and_ends_with_done(sim):
    events = (await sim.chat(stream=True)).events()
    assert len(events) == 1 + 5 + 1  # the role, the tokens, [DONE]
    assert events[-1] == "[DONE]"


async def test_completions_can_be_whole_and_streamed(client):
    whole = await client.completions.create(model="base", prompt="once", max_tokens=6)
    stream = await client.completions.create(model="base", prompt="once", max_tokens=6, stream=True)
    text = "".join([chunk.choices[0].text async for chunk in stream])
    assert text == whole.choices[0].text
    assert len(text.split()) == 6


async def test_a_repeated_prompt_is_found_in_the_prefix_cache(sim):
    long = [{"role": "user", "content": "x" * 640}]
    await sim.chat(messages=long)
    usage = (await sim.chat(messages=long)).json()["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 160


async def test_models_lists_names_and_adapters_with_their_parent(client):
    models = {one.id: one.model_extra["parent"] async for one in client.models.list()}
    assert models == {"base": None, "alias": None, "sql": "base"}


async def test_adapters_come_and_go_while_it_runs(sim):
    body = {"lora_name": "new", "lora_path": "/adapters/new"}
    assert (await sim.chat(model="new")).status == 404
    assert (await sim.ask("POST", "/v1/load_lora_adapter", body)).status == 200
    assert (await sim.ask("POST", "/v1/load_lora_adapter", body)).status == 400
    assert (await sim.chat(model="new")).json()["model"] == "new"
    assert (await sim.ask("POST", "/v1/unload_lora_adapter", body)).status == 200
    assert (await sim.ask("POST", "/v1/unload_lora_adapter", body)).status == 404
    assert (await sim.chat(model="new")).status == 404


async def test_loading_in_place_replaces_an_adapter(sim):
    body = {"lora_name": "sql", "lora_path": "/adapters/sql-2"}
    refused = await sim.ask("POST", "/v1/load_lora_adapter", body)
    assert refused.status == 400
    assert refused.json()["error"]["type"] == "InvalidUserInput"
    assert "has already been loaded" in refused.json()["error"]["message"]
    body["load_inplace"] = True
    assert (await sim.ask("POST", "/v1/load_lora_adapter", body)).status == 200
    models = (await sim.ask("GET", "/v1/models")).json()["data"]
    assert [one["root"] for one in models if one["id"] == "sql"] == ["/adapters/sql-2"]


@pytest.mark.parametrize("what", ["load", "unload"])
async def test_an_adapter_without_a_name_is_vllms_400(sim, what):
    answer = await sim.ask("POST", f"/v1/{what}_lora_adapter", {})
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "Bad Request"
    assert answer.json()["error"]["param"] == "body.lora_name"


async def test_loading_takes_time_and_the_adapter_is_not_there_before(slow):
    body = {"lora_name": "new", "lora_path": "/new"}
    loading = asyncio.ensure_future(slow.ask("POST", "/v1/load_lora_adapter", body))
    twice = asyncio.ensure_future(slow.ask("POST", "/v1/load_lora_adapter", body))
    await wait_for(lambda: slow.server.app._ready_at, what="it to be loading")
    assert (await slow.chat(model="new")).status == 404
    assert sorted([(await loading).status, (await twice).status]) == [200, 400]
    assert (await slow.chat(model="new")).status == 200


async def test_adapter_sets_stay_exposed_and_the_latest_is_the_largest(slow):
    for name in ("a", "b"):
        body = {"lora_name": name, "lora_path": name}
        await slow.ask("POST", "/v1/load_lora_adapter", body)
        await slow.chat(model=name, max_tokens=2)
    page = (await slow.ask("GET", "/metrics")).body.decode()
    families = {one.name: one.samples for one in text_string_to_metric_families(page)}
    sets = {one.labels["running_lora_adapters"]: one.value
            for one in families["vllm:lora_requests_info"]}  # fmt: skip
    assert set(sets) == {"a", "b", ""}
    assert sets["a"] < sets["b"] < sets[""]


async def test_an_unknown_model_is_vllms_404(client):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="nobody", messages=HELLO)
    assert caught.value.type == "NotFoundError"
    assert "The model `nobody` does not exist." in str(caught.value)


async def test_a_prompt_beyond_the_context_is_vllms_400(client):
    long = [{"role": "user", "content": "x" * 200_000}]
    with pytest.raises(openai.BadRequestError, match="maximum context length is 32768 tokens"):
        await client.chat.completions.create(model="base", messages=long)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ("{", "body.1"),
        ('"text"', "body"),
        ("", "body"),
        ({"messages": "hi"}, "body.messages"),
        ({"messages": HELLO, "model": 1}, "body.model"),
        ({"messages": HELLO, "max_tokens": "many"}, "body.max_tokens"),
        ({"messages": HELLO, "max_tokens": 1.5}, "body.max_tokens"),
        ({}, "body.messages"),
    ],
)
async def test_a_malformed_body_is_400_and_says_where(sim, body, param):
    answer = await sim.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "Bad Request"
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0.", "max_tokens"),
        (
            {"max_tokens": 40_000},
            "max_tokens=40000 cannot be greater than max_model_len=32768.",
            "max_tokens",
        ),
        ({"temperature": -1}, "temperature must be non-negative, got -1.0.", "temperature"),
        ({"temperature": 3}, "temperature must be in [0, 2], got 3.0.", "temperature"),
        ({"temperature": 0, "n": 2}, "n must be 1 when using greedy sampling, got 2.", None),
        ({"top_p": 0}, "top_p must be in (0, 1], got 0.0.", "top_p"),
        ({"top_k": -5}, "top_k must be 0 (disable), or at least 1, got -5.", None),
        ({"n": -1}, "n must be at least 1, got -1.", None),
        ({"n": 20_000}, "n must be at most 16384, got 20000.", None),
        ({"min_tokens": 9}, "min_tokens must be less than or equal to max_tokens=5, got 9.", None),
        ({"presence_penalty": 3}, "presence_penalty must be in [-2, 2], got 3.0.", None),
        ({"repetition_penalty": 0}, "repetition_penalty must be greater than zero", None),
        ({"stop": [""]}, "stop cannot contain an empty string.", None),
        ({"messages": []}, "Cannot apply chat template to an empty conversation.", None),
        (
            {"stream_options": {"include_usage": True}},
            "Stream options can only be defined when `stream=True`.",
            "stream_options",
        ),
        ({"top_logprobs": 2}, "when using `top_logprobs`, `logprobs` must be set", "top_logprobs"),
        (
            {"logprobs": True, "top_logprobs": 50},
            "Requested sample logprobs of 50, which is greater than max allowed: 20",
            "logprobs",
        ),
        ({"tools": []}, "`tools` must not be an empty array.", "tools"),
        ({"tool_choice": "auto"}, "When using `tool_choice`, `tools` must be set.", "tool_choice"),
        (
            {"response_format": {"type": "json_schema"}},
            "When response_format type is 'json_schema'",
            "response_format",
        ),
    ],
)
async def test_bad_values_are_refused_in_vllms_words(sim, fields, message, param):
    answer = await sim.chat(**fields)
    assert answer.status == 400
    error = answer.json()["error"]
    assert error["message"].startswith(message)
    assert (error["type"], error["param"]) == ("BadRequestError", param)


async def test_an_unknown_model_comes_before_bad_values(sim):
    assert (await sim.chat(model="nobody", max_tokens=0)).status == 404


async def test_a_limit_beyond_what_the_prompt_leaves_is_cut_and_not_refused(sim):
    long = [{"role": "user", "content": "x" * 4 * 32_700}]
    answer = await sim.chat(messages=long, max_tokens=1000, ignore_eos=True)
    assert answer.status == 200
    assert answer.json()["usage"]["total_tokens"] == 32_768


async def test_numbers_may_be_texts(sim):
    assert (await sim.chat(max_tokens="3")).json()["usage"]["completion_tokens"] == 3


async def test_what_is_not_json_is_refused_before_it_is_read(sim):
    answer = await sim.ask("POST", "/v1/chat/completions", "{}", **{"content-type": "text/plain"})
    assert answer.status == 400
    assert "Unsupported Media Type" in answer.json()["error"]["message"]
    broken = await sim.ask("POST", "/v1/chat/completions", b"\xff")
    assert (broken.status, broken.json()) == (
        400,
        {"detail": "There was an error parsing the body"},
    )


async def test_an_alias_is_answered_with_the_models_first_name(sim):
    assert (await sim.chat(model="alias")).json()["model"] == "base"
    assert (await sim.chat(model="sql")).json()["model"] == "sql"


async def test_an_answer_says_which_text_ended_it(sim):
    whole = (await sim.chat()).json()["choices"][0]["message"]["content"]
    stop = whole.split()[2]
    choice = (await sim.chat(stop=[stop])).json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


@pytest.mark.parametrize("path", ["/health", "/ping", "/version", "/metrics", "/v1/models"])
async def test_probes_answer_get_and_head(sim, path):
    got, head = await sim.ask("GET", path), await sim.ask("HEAD", path)
    assert (got.status, head.status) == (200, 200)
    assert head.body == b""


async def test_unknown_paths_and_methods_are_told_apart(sim):
    assert (await sim.ask("GET", "/nothing")).status == 404
    assert (await sim.ask("GET", "/v1/chat/completions")).status == 405


async def test_tokenize_counts_as_usage_does(sim):
    content = "a few words to count"
    body = {"model": "base", "messages": [{"role": "user", "content": content}]}
    counted = (await sim.ask("POST", "/tokenize", body)).json()
    used = (await sim.chat(messages=body["messages"])).json()["usage"]["prompt_tokens"]
    assert counted["count"] == len(counted["tokens"]) == used


async def test_the_request_id_of_the_client_is_part_of_the_answers_id(sim):
    answer = await sim.ask("POST", "/v1/completions", {"prompt": "x"}, **{"x-request-id": "abc"})
    assert answer.json()["id"] == "cmpl-abc"


async def metrics(sim) -> dict[tuple[str, str], float]:
    """Return every sample by its name and the value of its distinguishing label."""
    page = (await sim.ask("GET", "/metrics")).body.decode()
    samples = {}
    for family in text_string_to_metric_families(page):
        for one in family.samples:
            mark = one.labels.get("le") or one.labels.get("finished_reason") or ""
            samples[one.name, mark] = one.value
    return samples


async def test_metrics_count_requests_and_tokens(sim):
    for _ in range(3):
        await sim.chat(stream=True)
    seen = await metrics(sim)
    assert seen["vllm:request_success_total", "length"] == 3
    assert seen["vllm:generation_tokens_total", ""] == 15
    assert seen["vllm:time_to_first_token_seconds_count", ""] == 3
    assert seen["vllm:inter_token_latency_seconds_count", ""] == 12
    assert seen["vllm:inter_token_latency_seconds_bucket", "+Inf"] == 12
    assert seen["vllm:e2e_request_latency_seconds_count", ""] == 3
    assert seen["vllm:prefix_cache_queries_total", ""] > 0
    assert seen["vllm:num_requests_running", ""] == seen["vllm:num_requests_waiting", ""] == 0


async def test_metrics_name_the_cache_and_the_running_adapters(slow):
    await slow.ask("POST", "/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": "/sql"})
    talk = asyncio.ensure_future(slow.chat(model="sql", max_tokens=500, ignore_eos=True))
    await wait_for(lambda: slow.engine.running, what="the request to run")
    page = (await slow.ask("GET", "/metrics")).body.decode()
    families = {one.name: one.samples for one in text_string_to_metric_families(page)}
    assert families["vllm:cache_config_info"][0].labels["block_size"] == "16"
    assert families["vllm:cache_config_info"][0].labels["num_gpu_blocks"] == "4096"
    latest = max(families["vllm:lora_requests_info"], key=lambda one: one.value)
    assert latest.labels["running_lora_adapters"] == "sql"
    assert families["vllm:num_requests_running"][0].value == 1
    assert families["vllm:kv_cache_usage_perc"][0].value > 0
    talk.cancel()


async def test_tokens_arrive_one_by_one_and_not_at_the_end(slow):
    async with connected(slow.port) as (reader, writer):
        body = {"messages": HELLO, "max_tokens": 5000, "ignore_eos": True, "stream": True}
        writer.write(request_bytes("POST", "/v1/chat/completions", body))
        for _ in range(3):
            await reader.readuntil(b"data: ")
        assert slow.engine.running[0].generated < 100
        writer.close()
        await wait_for(lambda: not slow.engine.running, what="the sequence to be aborted")


async def test_a_client_that_leaves_frees_its_sequence(slow):
    async with connected(slow.port) as (_, writer):
        body = {"messages": HELLO, "max_tokens": 5000, "ignore_eos": True}
        writer.write(request_bytes("POST", "/v1/chat/completions", body))
        await wait_for(lambda: slow.engine.running, what="the request to run")
        writer.close()
        await wait_for(lambda: not slow.engine.running, what="the sequence to be aborted")
        assert slow.engine.cache.used == 0
        assert (await metrics(slow))["vllm:request_success_total", "abort"] == 1


async def test_requests_beyond_the_batch_are_seen_waiting(slow):
    talks = [asyncio.ensure_future(slow.chat(max_tokens=2000, ignore_eos=True)) for _ in range(70)]
    await wait_for(lambda: len(slow.engine.waiting) == 6, what="64 to run and 6 to wait")
    seen = await metrics(slow)
    assert seen["vllm:num_requests_running", ""] == 64
    assert seen["vllm:num_requests_waiting", ""] == 6
    for talk in talks:
        talk.cancel()


async def test_pipelined_requests_are_answered_in_order(sim):
    async with connected(sim.port) as (reader, writer):
        ids = ["a", "b", "c"]
        writer.write(
            b"".join(completion(**{"connection": "keep-alive", "x-request-id": one}) for one in ids)
        )
        answers = [await read_answer(reader) for _ in ids]
        assert [one.json()["id"] for one in answers] == ["cmpl-a", "cmpl-b", "cmpl-c"]
        writer.close()


async def test_http_1_0_gets_its_stream_up_to_the_end_of_the_connection(sim):
    async with connected(sim.port) as (reader, writer):
        request = request_bytes("POST", "/v1/completions", {"prompt": "x", "stream": True})
        writer.write(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = await read_answer(reader)
        assert "transfer-encoding" not in answer.headers
        assert answer.events()[-1] == "[DONE]"


async def test_a_client_that_waits_for_100_continue_gets_it(sim):
    async with connected(sim.port) as (reader, writer):
        request = request_bytes(
            "POST", "/v1/completions", {"prompt": "x"}, {"expect": "100-continue"}
        )
        head, _, body = request.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await read_answer(reader)).status == 200


async def test_what_is_not_http_is_refused(sim):
    async with connected(sim.port) as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await read_answer(reader)).status == 400
        assert await reader.read() == b""
