from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tidegate.gateway.rename import Renamer, renamed
from tidegate.gateway.request import Incoming
from tidegate.routing.session import parse_hints

NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


def pieces(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def passed(renamer: Renamer, parts: list[bytes]) -> bytes:
    return b"".join([*(renamer.feed(part) for part in parts), renamer.rest()])


@given(served=NAMES, asked=NAMES, cuts=st.lists(st.integers(0, 10_000)), text=NAMES)
def test_the_client_sees_its_own_name_however_the_answer_is_cut(served, asked, cuts, text):
    spoken = f'so "model": "{served}" and {text}'
    answer = {"id": "x", "model": served, "choices": [{"text": spoken}], "m": {"model": served}}
    expected = {**answer, "model": asked, "m": {"model": asked}}
    out = passed(Renamer(served, asked), pieces(msgspec.json.encode(answer), cuts))
    assert msgspec.json.decode(out) == expected


@given(served=NAMES, cuts=st.lists(st.integers(0, 10_000)))
def test_names_are_found_as_other_servers_write_them(served, cuts):
    text = msgspec.json.format(msgspec.json.encode({"a": 1, "model": served}), indent=2)
    text = text.replace(b"/", rb"\/")
    out = passed(Renamer(served, "own"), pieces(text, cuts))
    assert msgspec.json.decode(out) == {"a": 1, "model": "own"}


@given(data=st.binary(max_size=60) | st.just(b'"model":"se'), cuts=st.lists(st.integers(0, 99)))
def test_what_names_no_model_passes_unchanged(data, cuts):
    assert passed(Renamer("served", "own"), pieces(data, cuts)) == data


def test_a_body_whose_keys_cannot_be_read_stays_as_it_is():
    body = b'{"model":"m","\xff":1}'
    asked = Incoming(
        "POST", "/", "/", "", "x", b"x", [], body, False, True, 0.0, 1, False, None, ""
    )
    assert parse_hints(body).model == "m"
    assert renamed(asked, "other") is asked


def test_an_event_is_never_held_back():
    renamer = Renamer("served", "own")
    event = b'data: {"model":"served","choices":[{"delta":{"content":"\\"mod"}}]}\n\n'
    assert renamer.feed(event) == event.replace(b"served", b"own")
    assert renamer.rest() == b""


def test_only_a_beginning_of_the_name_is_held_back():
    renamer = Renamer("served", "own")
    assert renamer.feed(b'{"id":"1","model" : "ser') == b'{"id":"1",'
    assert renamer.feed(b"ving") == b'"model" : "serving'
