"""Sessions: what names one, in which order, and hints from any body at all."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.routing.session import EDGE, BodyHints, parse_hints, session_key
from tidegate.routing.table import Rule

RULE = Rule("default/route", "0", (), 0, b"")
HEADER = [(b"x-session-id", b"s1")]


def chat(*messages: tuple[str, object], **more: object) -> bytes:
    turns = [{"role": role, "content": content} for role, content in messages]
    return json.dumps({"model": "m", "messages": turns, **more}).encode()


def opening(body: bytes) -> bytes | None:
    return parse_hints(body).opening


def test_the_session_header_comes_first_then_the_cache_key_then_the_user_then_the_opening():
    full = BodyHints(prompt_cache_key="a", user="a", opening=b"a")
    assert session_key(RULE, HEADER, full) == b"header:s1"
    assert session_key(RULE, [], full) == b"cache:a"
    assert session_key(RULE, [], BodyHints(user="a", opening=b"a")) == b"user:a"
    assert session_key(RULE, [], BodyHints(opening=b"a")) == b"opening:a"
    assert session_key(RULE, [], BodyHints()) is None


def test_the_same_text_from_different_sources_names_different_sessions():
    keys = {
        session_key(RULE, [(b"x-session-id", b"a")], BodyHints()),
        session_key(RULE, [], BodyHints(prompt_cache_key="a")),
        session_key(RULE, [], BodyHints(user="a")),
        session_key(RULE, [], BodyHints(opening=b"a")),
    }
    assert len(keys) == 4


def test_a_route_may_name_another_header():
    rule = Rule("default/route", "0", (), 0, b"", session_header=b"x-chat")
    headers = [*HEADER, (b"x-chat", b"c1")]
    assert session_key(rule, headers, BodyHints()) == b"header:c1"
    assert session_key(rule, HEADER, BodyHints()) is None
    assert session_key(RULE, [(b"x-session-id", b"")], BodyHints(user="u")) == b"user:u"


def test_hints_of_a_chat():
    hints = parse_hints(chat(("user", "hi"), stream=True, user="ada", prompt_cache_key="k"))
    assert hints.opening
    assert hints == BodyHints("m", True, "k", "ada", hints.opening)


def test_a_growing_conversation_keeps_its_opening():
    start = [("system", "be kind"), ("user", "hi")]
    grown = [*start, ("assistant", "hello"), ("user", "and now?")]
    assert opening(chat(*start)) == opening(chat(*grown))


def test_users_that_share_a_system_prompt_have_openings_of_their_own():
    one, other = (chat(("system", "be kind"), ("user", text)) for text in ("hi", "ho"))
    assert opening(one) != opening(other)
    moved = chat(("system", "be kindh"), ("user", "i"))
    assert opening(moved) != opening(one)
    shared = (chat(("developer", "be kind"), ("user", text)) for text in ("hi", "ho"))
    assert len({opening(body) for body in shared}) == 2


def test_content_may_be_a_list_of_parts():
    parts = [{"type": "text", "text": "hi"}]
    assert opening(chat(("user", parts))) == opening(chat(("user", parts), ("assistant", "x")))
    assert opening(chat(("user", parts))) != opening(chat(("user", [*parts, *parts])))


@pytest.mark.parametrize("prompt", ["hello", ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
def test_prompts_of_any_form_name_a_session(prompt):
    body = json.dumps({"model": "m", "prompt": prompt}).encode()
    other = json.dumps({"model": "m", "prompt": [prompt, 7]}).encode()
    assert opening(body) == opening(body)
    assert opening(body) not in (None, opening(other))


def test_prompts_from_one_template_name_different_sessions():
    bodies = [json.dumps({"prompt": "template " * 100 + end}).encode() for end in "ab"]
    assert len({opening(body) for body in bodies}) == 2


def test_long_texts_count_by_their_ends_and_length():
    texts = ["x" * 100_000, "x" * 100_001, "x" * 100_000 + "y", "y" + "x" * 100_000]
    assert len({opening(chat(("user", text))) for text in texts}) == 4
    edge = "x" * EDGE
    inner = [edge * 2 + middle + edge * 2 for middle in "ab"]
    assert len({opening(chat(("user", text))) for text in inner}) == 1


def test_responses_and_messages_apis_have_openings_too():
    def responses(*turns, **more):
        return json.dumps({"input": [*turns], **more}).encode()

    hi, reply = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "x"}
    assert opening(responses(hi)) == opening(responses(hi, reply))
    assert opening(responses(hi)) != opening(responses(hi, instructions="be kind"))
    assert opening(b'{"input": "hi"}') != opening(b'{"input": "ho"}')
    assert opening(chat(("user", "hi"), system="a")) != opening(chat(("user", "hi"), system="b"))


@pytest.mark.parametrize(
    ("body", "hints"),
    [
        (b'{"model": 7, "user": "u"}', BodyHints(user="u")),
        (b'{"model": "m", "stream": "yes"}', BodyHints("m")),
        (b'{"model": "m", "stream": null, "user": {}}', BodyHints("m")),
        (b'{"model": "m", "messages": "hi"}', BodyHints("m")),
        (b'{"model": "m", "messages": [1]}', BodyHints("m")),
        (b'{"model": "m", "messages": []}', BodyHints("m")),
        (b'{"model": "a", "model": "b"}', BodyHints("b")),
        (b"{}", BodyHints()),
        (b"", BodyHints()),
        (b"[]", BodyHints()),
        (b"name=value", BodyHints()),
        (b"\x00\xff", BodyHints()),
        (b"{", BodyHints(malformed=True)),
        (b' \n{"model": "m",}', BodyHints(malformed=True)),
        (b'{"model": "\xff"}', BodyHints(malformed=True)),
        (b'{"model": "m"} x', BodyHints(malformed=True)),
        (b'{"x": ' + b"[" * 100_000, BodyHints(malformed=True)),
        (b'{"user": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", BodyHints(malformed=True)),
    ],
)
def test_odd_bodies_give_what_can_be_had(body, hints):
    assert parse_hints(body) == hints


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["model", "stream", "user", "prompt_cache_key", "messages", "prompt", "input", "system"]
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON | st.text()).map(json.dumps)


@given(body=BODIES.map(str.encode) | st.binary() | st.binary().map(lambda rest: b"{" + rest))
def test_no_body_raises_and_every_hint_makes_a_key(body):
    key = session_key(RULE, [], parse_hints(body))
    assert key is None or key.split(b":")[0] in (b"cache", b"user", b"opening")


@given(body=BODIES)
def test_hints_say_what_the_body_says(body):
    fields, hints = json.loads(body), parse_hints(body.encode())
    assert not hints.malformed
    assert hints.stream == (fields.get("stream") is True)
    for name in ("model", "user", "prompt_cache_key"):
        value = fields.get(name)
        assert getattr(hints, name) == (value if isinstance(value, str) else None)


@given(body=st.binary(max_size=20).map(lambda rest: b'{"model": ' + rest))
def test_malformed_means_that_the_json_parser_refuses_it(body):
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError:
        assert parse_hints(body).malformed
    else:
        assert not parse_hints(body).malformed
