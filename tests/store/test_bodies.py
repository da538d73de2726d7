"""What request bodies become, and what is refused."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.errors import BadRequestError
from tidegate.store.bodies import decode_json, decode_object, decode_yaml
from tidegate.store.statuses import RequestError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), children, max_size=4)
    ),
    max_leaves=20,
)


@given(values)
def test_json_means_the_same_in_either_media_type(value):
    body = json.dumps(value).encode()
    assert decode_json(body) == decode_yaml(body) == value


def test_yaml_is_read_as_kubernetes_reads_it():
    text = b"""
    answer: yes
    day: 2026-11-02
    mode: 0644
    time: 12:30
    flag: true
    none: null
    empty:
    n: -3
    x: 1e3
    8080: port
    "quoted": "true"
    """
    assert decode_yaml(text) == {
        "answer": "yes",
        "day": "2026-11-02",
        "mode": "0644",
        "time": "12:30",
        "flag": True,
        "none": None,
        "empty": None,
        "n": -3,
        "x": 1000.0,
        "8080": "port",
        "quoted": "true",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": 1}{"b": 2}',
        b"\xff\xfe",
        b'"\\ud800"',
        b"[" * 100_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"a": 1e999}',
    ],
)
def test_what_is_not_json_is_refused(body):
    with pytest.raises(BadRequestError):
        decode_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b"a: b: c",
        b"{",
        b"a: [",
        b"a: .nan\n--- b",
        b"? [a, b]\n: c",
        b"a: !!binary aGk=",
        b"a: !!python/object/apply:os.system [id]",
        b"a: !!set {x, y}",
        b"\x00",
        b"a: 1\n---\nb: 2",
        b'a: "\\ud800"',
        b"[" * 5000,
        b"- " * 5000,
    ],
)
def test_what_is_not_yaml_or_has_more_than_json_is_refused(body):
    with pytest.raises(BadRequestError):
        decode_yaml(body)


def test_an_alias_bomb_is_refused_at_once():
    levels = [b"a0: &a0 [x, x]"]
    levels += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]".encode() for n in range(1, 60)]
    with pytest.raises(BadRequestError, match="aliases"):
        decode_yaml(b"\n".join(levels))
    with pytest.raises(BadRequestError, match="aliases"):
        decode_yaml(b"a: &a [*a]")


def test_other_media_types_are_named_in_the_refusal():
    with pytest.raises(RequestError, match="application/json, application/yaml") as refused:
        decode_object(b"\xa0", "application/cbor")
    assert refused.value.code == 415


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"3", b"null", b""])
def test_an_object_is_wanted(body):
    with pytest.raises(BadRequestError):
        decode_object(body, "application/json")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_decoded_or_refused(body):
    for media in ("application/json", "application/yaml"):
        try:
            found = decode_object(body, media)
        except BadRequestError:
            continue
        assert json.loads(json.dumps(found)) == found


class Writer(yaml.SafeDumper):
    """A writer that quotes every text, as its idea of what looks like a number may be another."""


Writer.add_representer(
    str, lambda writer, text: writer.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@given(values)
def test_what_a_yaml_writer_writes_is_read_back(value):
    assert decode_yaml(yaml.dump(value, Dumper=Writer).encode()) == value


@pytest.mark.parametrize("key", ["0E0", "1.0", "8080", "1e3", "true", "True", "-0"])
def test_a_key_is_the_text_it_was_written_as(key):
    assert decode_yaml(f"{key}: {{{key}: x}}".encode()) == {key: {key: "x"}}
