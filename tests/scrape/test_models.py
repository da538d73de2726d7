"""Reading lists of models, proper and not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.picker.state import Model
from tidegate.scrape.models import MAX_MODELS, MAX_NAME, parse_models


def listing(*entries):
    return msgspec.json.encode({"object": "list", "data": entries})


def test_adapters_come_with_their_parents():
    body = listing(
        {"id": "base", "object": "model", "created": 7, "owned_by": "vllm", "root": "org/base",
         "parent": None, "max_model_len": 2048, "permission": [{"id": "x"}]},
        {"id": "tuned", "root": "/adapters/tuned", "parent": "base"},
    )  # fmt: skip
    assert parse_models(body) == (
        Model(id="base", created=7, owned_by="vllm", root="org/base", max_model_len=2048),
        Model(id="tuned", root="/adapters/tuned", parent="base"),
    )


def test_an_entry_that_cannot_be_read_does_not_hide_the_others():
    body = listing({"id": 7}, {"id": ""}, {}, 5, {"id": "x" * (MAX_NAME + 1)}, {"id": "good"})
    assert parse_models(body) == (Model(id="good"),)


def test_a_server_without_models_lists_none():
    assert parse_models(listing()) == ()


def test_long_lists_are_cut():
    body = listing(*({"id": str(i)} for i in range(MAX_MODELS + 5)))
    assert len(parse_models(body)) == MAX_MODELS


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"data": 5}', b"<html>", b"\xff", b"[" * 9999]
)
def test_what_is_no_list_is_none(body):
    assert parse_models(body) is None


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_raise(one, other):
    parse_models(one)
    parse_models(b'{"data":[' + one + b"," + other + b"]}")
    parse_models(b'{"data":[{"id":"' + one + b'"}]}')
