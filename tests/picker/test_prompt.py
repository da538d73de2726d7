"""What of a body is the prompt, and what else keeps prefix caches apart."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.prefix import Blocks, PrefixSettings
from tidegate.picker.prompt import prompt_seed, prompt_start

blocks = Blocks(PrefixSettings(block_size_tokens=4))
texts = st.text(max_size=60)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": texts}
    ),
    min_size=1,
    max_size=6,
)


def chain(body, model="m"):
    raw = json.dumps(body).encode()
    return blocks.chain(raw, prompt_seed(raw, model), prompt_start(raw))


def shared(one, other):
    return sum(a == b for a, b in zip(one, other, strict=False))


@given(turns, turns)
def test_a_conversation_that_goes_on_begins_as_before(begun, more):
    before = chain({"model": "m", "messages": begun, "stream": True})
    after = chain({"model": "m", "messages": [*begun, *more], "stream": True})
    # What ends the list is no part of the prompt, and may share the last blocks with it.
    size = len(json.dumps(begun))
    assert shared(before, after) >= min(size // 16, 32) - 1


@given(turns, st.text(max_size=30), st.integers())
def test_what_stands_before_the_prompt_does_not_matter(messages, user, seed):
    plain = chain({"model": "m", "messages": messages})
    around = chain({"model": "m", "seed": seed, "user": user, "messages": messages})
    assert plain == around or '"messages"' in json.dumps(user)


@pytest.mark.parametrize("key", ["messages", "prompt", "input"])
def test_the_prompt_is_found_under_its_name(key):
    raw = json.dumps({"model": "x", key: "hello"}).encode()
    assert raw[prompt_start(raw) :].startswith(b': "hello"')


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\xfe", b'{"model": "m"}'])
def test_a_body_without_a_prompt_has_no_hashes(raw):
    assert prompt_start(raw) == len(raw)
    assert blocks.chain(raw, 1, prompt_start(raw)) == []


def test_a_prompt_that_speaks_of_messages_is_not_taken_for_them():
    raw = json.dumps({"prompt": 'say "messages": [] and "prompt"'}).encode()
    assert raw[prompt_start(raw) :].startswith(b': "say')


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_salt": "team-a"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"system": "Be kind."},
        {"instructions": "Be kind."},
    ],
)
def test_what_servers_cache_apart_is_hashed_apart(fields):
    messages = [{"role": "user", "content": "once upon a time " * 20}]
    plain, other = chain({"messages": messages}), chain({"messages": messages, **fields})
    assert shared(plain, other) == 0
    assert other == chain({"messages": messages, **fields})


def test_each_adapter_has_prefixes_of_its_own():
    body = {"messages": [{"role": "user", "content": "once upon a time " * 20}]}
    assert shared(chain(body, "adapter-1"), chain(body, "adapter-2")) == 0
    assert chain(body, "\ud800")


@given(st.binary(max_size=200))
def test_no_body_raises(raw):
    for text in (raw, b'{"tools": ' + raw, raw + b'"cache_salt":'):
        assert 0 <= prompt_seed(text, "m") < 2**64
        assert 0 <= prompt_start(text) <= len(text)
