"""Answers of several choices, with logprobs, and with tool calls, read by the official client."""

import json

import pytest

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["C", "F"]},
            },
            "required": ["city", "days", "unit"],
        },
    },
}


async def test_choices_differ_and_share_their_prompt(client, sim):
    answer = await client.chat.completions.create(model="base", messages=HELLO, n=3, max_tokens=9)
    texts = [one.message.content for one in answer.choices]
    assert [one.index for one in answer.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert answer.usage.completion_tokens == 27
    alone = await client.chat.completions.create(model="base", messages=HELLO, max_tokens=9)
    assert alone.choices[0].message.content == texts[0]
    assert answer.usage.prompt_tokens == alone.usage.prompt_tokens


async def test_streamed_choices_come_interleaved_and_whole(client):
    fields = {"model": "base", "messages": HELLO, "n": 2, "max_tokens": 20, "seed": 3}
    whole = await client.chat.completions.create(**fields)
    texts, ends = {0: "", 1: ""}, {}
    async for chunk in await client.chat.completions.create(stream=True, **fields):
        for one in chunk.choices:
            texts[one.index] += one.delta.content or ""
            ends[one.index] = one.finish_reason or ends.get(one.index)
    assert [texts[0], texts[1]] == [one.message.content for one in whole.choices]
    assert ends == {0: whole.choices[0].finish_reason, 1: whole.choices[1].finish_reason}


async def test_logprobs_of_a_chat_have_a_row_for_each_token(client):
    fields = {"model": "base", "messages": HELLO, "max_tokens": 5, "logprobs": True,
              "top_logprobs": 3}  # fmt: skip
    answer = await client.chat.completions.create(**fields)
    rows = answer.choices[0].logprobs.content
    assert "".join(row.token for row in rows) == answer.choices[0].message.content
    assert all(row.logprob <= 0 and len(row.top_logprobs) == 3 for row in rows)
    assert all(row.top_logprobs[0].token == row.token for row in rows)
    streamed = []
    async for chunk in await client.chat.completions.create(stream=True, **fields):
        for one in chunk.choices:
            streamed += one.logprobs.content if one.logprobs else []
    assert [(one.token, one.logprob) for one in streamed] == [
        (one.token, one.logprob) for one in rows
    ]


async def test_logprobs_of_a_completion_have_their_own_shape(client):
    answer = await client.completions.create(model="base", prompt="x", max_tokens=4, logprobs=2)
    rows = answer.choices[0].logprobs
    assert "".join(rows.tokens) == answer.choices[0].text
    assert len(rows.token_logprobs) == len(rows.top_logprobs) == len(rows.text_offset) == 4
    assert all(len(row) == 2 for row in rows.top_logprobs)


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
async def test_a_tool_is_called_with_arguments_of_its_schema(client, choice):
    fields = {"model": "base", "messages": HELLO, "tools": [WEATHER], "tool_choice": choice}
    answer = await client.chat.completions.create(**fields)
    (call,) = answer.choices[0].message.tool_calls
    arguments = json.loads(call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "weather"
    assert isinstance(arguments["city"], str)
    assert isinstance(arguments["days"], int)
    assert arguments["unit"] in ("C", "F")
    text, names = "", []
    async for chunk in await client.chat.completions.create(stream=True, **fields):
        for piece in chunk.choices[0].delta.tool_calls or []:
            text += piece.function.arguments
            names += [piece.function.name] if piece.function.name else []
    assert (text, names) == (call.function.arguments, ["weather"])


async def test_with_free_choice_some_answers_call_a_tool_and_none_after_its_result(client):
    async def calls(*messages) -> bool:
        answer = await client.chat.completions.create(
            model="base", messages=messages, tools=[WEATHER]
        )
        return bool(answer.choices[0].message.tool_calls)

    asked = [await calls({"role": "user", "content": f"question {n}"}) for n in range(20)]
    assert any(asked)
    assert not all(asked)
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    for n in range(20):
        result = {"role": "tool", "tool_call_id": "1", "content": f"{n} degrees"}
        assert not await calls(
            *HELLO, {"role": "assistant", "content": None, "tool_calls": [call]}, result
        )


async def test_an_answer_that_may_not_call_a_tool_is_a_text(client):
    answer = await client.chat.completions.create(
        model="base", messages=HELLO, tools=[WEATHER], tool_choice="none"
    )
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls
