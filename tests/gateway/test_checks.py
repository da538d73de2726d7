"""Checks of answers say what is sure, of whole answers and streams alike."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gateway.answers import MOST_BYTES, Answer, AnswerText
from tidegate.gateway.checks import CHECKS, Asked, asked_of, check
from tidegate.judge.record import Check


def asked(**fields: Any) -> Asked:
    return asked_of(msgspec.json.encode({"model": "m", "messages": [], **fields}))


def whole(message: dict[str, Any], finish: str = "stop") -> Answer:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return read(msgspec.json.encode({"choices": [choice]}))


def read(*pieces: bytes) -> Answer:
    text = AnswerText()
    for piece in pieces:
        text.feed(piece)
    found = text.read()
    assert found is not None
    return found


def stream(*deltas: dict[str, Any], finish: str = "stop") -> Answer:
    events = [{"choices": [{"index": 0, "delta": each}]} for each in deltas]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    lines = [b"data: " + msgspec.json.encode(each) + b"\n\n" for each in events]
    return read(*lines, b"data: [DONE]\n\n")


def call(name: str, arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "function": {"name": name, "arguments": arguments}}


OBJECT = {"type": "json_object"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"required": ["a"]}}}
TOOLS = [{"type": "function", "function": {"name": "find"}}]


@pytest.mark.parametrize(
    ("wanted", "text", "found"),
    [
        (OBJECT, '{"a": 1}', Check(0)),
        (OBJECT, "Sure! Here it is", Check.INVALID),
        (OBJECT, '{"a": 1', Check.INVALID),
        (OBJECT, "[1]", Check.INVALID),
        (SCHEMA, '{"a": 1, "b": 2}', Check(0)),
        (SCHEMA, '{"b": 2}', Check.INVALID),
        (SCHEMA, "", Check.INVALID),
        ({"type": "text"}, "anything", Check(0)),
        (None, "anything", Check(0)),
    ],
)
def test_json_is_json_where_it_was_asked_for(wanted: Any, text: str, found: Check):
    ask = asked(response_format=wanted) if wanted else asked()
    assert check(ask, whole({"content": text}), CHECKS) == found


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([call("find", '{"x": 1}')], Check(0)),
        ([call("find", "")], Check(0)),
        ([call("find", '{"x": ')], Check.INVALID),
        ([call("find", "3")], Check.INVALID),
        ([call("lose", "{}")], Check.INVALID),
        ([call("find", "{}"), call("find", "{", 1)], Check.INVALID),
    ],
)
def test_calls_are_of_tools_that_there_are_and_parse(calls: list[Any], found: Check):
    ask = asked(tools=TOOLS)
    assert check(ask, whole({"content": None, "tool_calls": calls}), CHECKS) == found


def test_a_streamed_call_is_put_together():
    ask = asked(tools=TOOLS)
    pieces = ({"tool_calls": [call("find", '{"x"')]}, {"tool_calls": [call("", ": 1}")]})
    assert check(ask, stream(*pieces), CHECKS) == Check(0)
    assert check(ask, stream(pieces[0]), CHECKS) == Check.INVALID


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (whole({"content": "I'm sorry, but I can't help with that."}), Check.REFUSED),
        (whole({"content": "I cannot assist with it"}), Check.REFUSED),
        (whole({"content": None, "refusal": "No."}), Check.REFUSED),
        (whole({"content": "Well"}, finish="content_filter"), Check.REFUSED),
        (stream({"content": "I am una"}, {"content": "ble to help"}), Check.REFUSED),
        (whole({"content": "I'm sorry to hear that. Let us see."}), Check(0)),
        (whole({"content": "The king is dead."}), Check(0)),
    ],
)
def test_refusals_are_told_from_sorrow(answer: Answer, found: Check):
    assert check(asked(), answer, CHECKS) == found


def test_a_check_of_ones_own_is_asked_and_a_broken_one_stops_nothing():
    def shouts(_asked: Asked, answer: Answer) -> Check:
        return Check.REFUSED if answer.text.isupper() else Check(0)

    def broken(_asked: Asked, _answer: Answer) -> Check:
        raise ValueError

    assert check(asked(), whole({"content": "NO"}), (*CHECKS, shouts)) == Check.REFUSED
    assert check(asked(), whole({"content": "NO"}), (broken, shouts)) is None


@given(st.lists(st.text(), max_size=5))
def test_a_stream_says_what_its_pieces_say(pieces: list[str]):
    assert stream(*({"content": each} for each in pieces)).text == "".join(pieces)


@given(st.binary(max_size=200))
def test_no_body_breaks_it(data: bytes):
    text = AnswerText()
    text.feed(data)
    text.read()
    asked_of(data)


def test_what_is_too_long_is_not_kept():
    text = AnswerText()
    text.feed(b"x" * (MOST_BYTES + 1))
    assert text.read() is None
