"""Kubernetes' protobuf, against bytes made by an encoder of the test's own."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.api.errors import BadRequestError
from tidegate.store.protobuf import MAGIC, decode_protobuf


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """Encode one field: an int as a varint, text and bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def body(api_version, kind, raw):
    return MAGIC + field(1, field(1, api_version) + field(2, kind)) + field(2, raw) + field(4, "")


def entry(key, value):
    return field(1, key) + field(2, value)


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=9)


@given(texts, st.dictionaries(texts, st.binary(max_size=9)), st.dictionaries(texts, texts))
def test_a_secret_is_decoded(name, data, labels):
    metadata = field(1, name) + field(8, b"") + field(5, "")
    metadata += b"".join(field(11, entry(k, v)) for k, v in labels.items())
    raw = field(1, metadata) + b"".join(field(2, entry(k, v)) for k, v in data.items())
    found = decode_protobuf(body("v1", "Secret", raw + field(3, "Opaque")))
    assert found == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, **({"labels": labels} if labels else {})},
        "type": "Opaque",
        **({"data": {k: base64.b64encode(v).decode() for k, v in data.items()}} if data else {}),
    }


def test_a_service_is_decoded_without_what_go_writes_for_nothing():
    target = field(1, 1) + field(2, 0) + field(3, "web")
    port = field(1, "") + field(2, "TCP") + field(3, 443) + field(4, target) + field(5, 0)
    spec = field(1, port) + field(3, "") + field(4, "ExternalName") + field(10, "api.example")
    found = decode_protobuf(body("v1", "Service", field(1, field(1, "s")) + field(2, spec)))
    assert found["spec"] == {
        "ports": [{"protocol": "TCP", "port": 443, "targetPort": "web"}],
        "type": "ExternalName",
        "externalName": "api.example",
    }


def test_an_entry_of_a_map_may_lack_its_value():
    raw = field(1, field(1, "c")) + field(2, field(1, "empty"))
    assert decode_protobuf(body("v1", "ConfigMap", raw))["data"] == {"empty": ""}


def test_fields_of_later_versions_are_skipped():
    raw = field(1, field(1, "n")) + field(99, "x") + varint(98 << 3 | 5) + b"1234"
    raw += varint(97 << 3 | 1) + b"12345678" + field(96, 2**63)
    assert decode_protobuf(body("v1", "Namespace", raw))["metadata"] == {"name": "n"}


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        MAGIC,
        MAGIC + b"\x0a\xff",
        MAGIC + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        MAGIC + b"\x0b",
        body("v1", "Pod", b""),
        body("v1", "Secret", b"\x08\x01"),
        body("v1", "Secret", field(1, field(1, b"\xff"))),
    ],
)
def test_what_is_not_kubernetes_protobuf_of_a_known_kind_is_refused(bad):
    with pytest.raises(BadRequestError):
        decode_protobuf(bad)


@given(st.binary(max_size=80), st.sampled_from(["Secret", "Service", "ConfigMap", "Namespace"]))
def test_any_bytes_are_decoded_or_refused(raw, kind):
    for sent in (raw, MAGIC + raw, body("v1", kind, raw)):
        try:
            assert isinstance(decode_protobuf(sent), dict)
        except BadRequestError:
            continue
