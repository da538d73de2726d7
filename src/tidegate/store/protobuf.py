r"""Bodies in Kubernetes' protobuf, which kubectl sends for the core kinds; answers are JSON.

A body is the four bytes `k8s\0` and a `runtime.Unknown` whose `raw` is the object
(`k8s.io/apimachinery/pkg/runtime/serializer/protobuf`). Go writes every field that isn't a
pointer, empty or not; JSON leaves empty ones out, so does this. Field numbers are those of
`generated.proto` in `k8s.io/api/core/v1` and `k8s.io/apimachinery/pkg/apis/meta/v1`.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tidegate.api.errors import BadRequestError

PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
MAGIC: Final = b"k8s\x00"

Wire = int | bytes
Decode = Callable[[Wire], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in JSON, how its value is decoded, whether there may be many."""

    name: str
    decode: Decode
    many: bool = False
    pairs: bool = False
    """Whether each value is one entry of a map."""
    keep_empty: bool = False
    """Whether an empty value says something: in Go it is a pointer."""


Message = Mapping[int, Field]


def decode_protobuf(body: bytes) -> dict[str, Any]:
    """Return the object in `body`, as JSON has it.

    Raises:
        BadRequestError: It isn't Kubernetes' protobuf, or of a kind that isn't spoken.

    """
    if not body.startswith(MAGIC):
        raise BadRequestError("the body isn't Kubernetes' protobuf: it doesn't begin with k8s\\0")
    envelope = _decode(body[len(MAGIC) :], _UNKNOWN)
    head = envelope.get("typeMeta", {})
    message = _KINDS.get((head.get("apiVersion", ""), head.get("kind", "")))
    if message is None:
        kind = f"{head.get('kind', 'no kind')} of {head.get('apiVersion', 'no group')}"
        raise BadRequestError(f"protobuf is not spoken for {kind}: send JSON")
    return {**head, **_decode(envelope.get("raw", b""), message)}


def _decode(data: bytes, message: Message) -> dict[str, Any]:
    """Return the known fields of a message that aren't empty."""
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        field = message.get(number)
        if field is None:
            continue
        decoded = field.decode(value)
        if field.pairs:
            found.setdefault(field.name, {})[decoded.get("key", "")] = decoded["value"]
        elif field.many:
            found.setdefault(field.name, []).append(decoded)
        elif decoded or field.keep_empty:
            found[field.name] = decoded
    return found


def _fields(data: bytes) -> Iterator[tuple[int, Wire]]:
    """Yield field numbers and raw values (protobuf.dev/programming-guides/encoding)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: Wire
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
            case 1:
                value, at = _slice(data, at, 8)
            case 2:
                size, at = _varint(data, at)
                value, at = _slice(data, at, size)
            case 5:
                value, at = _slice(data, at, 4)
            case wire:
                raise BadRequestError(f"the body isn't protobuf: wire type {wire} at byte {at}")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise BadRequestError(f"the body isn't protobuf: it ends within a number at byte {at}")


def _slice(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise BadRequestError(f"the body isn't protobuf: it ends within a field at byte {at}")
    return data[at : at + size], at + size


def _text(value: Wire) -> str:
    try:
        return _raw(value).decode()
    except UnicodeDecodeError as error:
        raise BadRequestError(f"the body has text that isn't UTF-8: {error}") from error


def _raw(value: Wire) -> bytes:
    if isinstance(value, int):
        raise BadRequestError("the body isn't protobuf of its kind: found a number, expected bytes")
    return value


def _base64(value: Wire) -> str:
    return base64.b64encode(_raw(value)).decode()


def _integer(value: Wire) -> int:
    if isinstance(value, bytes):
        raise BadRequestError("the body isn't protobuf of its kind: found bytes, expected a number")
    # Negative numbers come as two's complement of 64 bits.
    return value - (1 << 64) if value >> 63 else value


def _boolean(value: Wire) -> bool:
    return bool(_integer(value))


def _message(message: Message) -> Decode:
    return lambda value: _decode(_raw(value), message)


def _map_of(decode: Decode) -> Decode:
    """Return how an entry of a map is decoded; an empty value isn't always written."""
    entry = {1: Field("key", _text), 2: Field("value", decode, keep_empty=True)}
    return lambda value: {"value": decode(b""), **_decode(_raw(value), entry)}


def _texts(name: str) -> Field:
    return Field(name, _map_of(_text), pairs=True)


def _integer_or_text(value: Wire) -> int | str:
    parts = _decode(
        _raw(value),
        {1: Field("is_text", _integer), 2: Field("number", _integer), 3: Field("text", _text)},
    )
    found: int | str = parts.get("text", "") if parts.get("is_text") else parts.get("number", 0)
    return found


_UNKNOWN: Final[Message] = {
    1: Field("typeMeta", _message({1: Field("apiVersion", _text), 2: Field("kind", _text)})),
    2: Field("raw", _raw),
}

# Without what only the server writes.
_METADATA: Final = Field(
    "metadata",
    _message(
        {
            1: Field("name", _text),
            2: Field("generateName", _text),
            3: Field("namespace", _text),
            5: Field("uid", _text),
            6: Field("resourceVersion", _text),
            11: _texts("labels"),
            12: _texts("annotations"),
            14: Field("finalizers", _text, many=True),
        }
    ),
    keep_empty=True,
)

_SERVICE_PORT: Final[Message] = {
    1: Field("name", _text),
    2: Field("protocol", _text),
    3: Field("port", _integer),
    4: Field("targetPort", _integer_or_text),
    5: Field("nodePort", _integer),
    6: Field("appProtocol", _text),
}
_SERVICE_SPEC: Final[Message] = {
    1: Field("ports", _message(_SERVICE_PORT), many=True),
    2: _texts("selector"),
    3: Field("clusterIP", _text),
    4: Field("type", _text),
    5: Field("externalIPs", _text, many=True),
    7: Field("sessionAffinity", _text),
    8: Field("loadBalancerIP", _text),
    10: Field("externalName", _text),
    11: Field("externalTrafficPolicy", _text),
    13: Field("publishNotReadyAddresses", _boolean),
    17: Field("ipFamilyPolicy", _text),
    18: Field("clusterIPs", _text, many=True),
    19: Field("ipFamilies", _text, many=True),
    22: Field("internalTrafficPolicy", _text),
}
_REVIEW: Final[Message] = {1: _METADATA}

_KINDS: Final[Mapping[tuple[str, str], Message]] = {
    ("v1", "Namespace"): {1: _METADATA},
    ("v1", "Secret"): {
        1: _METADATA,
        2: Field("data", _map_of(_base64), pairs=True),
        3: Field("type", _text),
        4: _texts("stringData"),
        5: Field("immutable", _boolean, keep_empty=True),
    },
    ("v1", "ConfigMap"): {
        1: _METADATA,
        2: _texts("data"),
        3: Field("binaryData", _map_of(_base64), pairs=True),
        4: Field("immutable", _boolean, keep_empty=True),
    },
    ("v1", "Service"): {1: _METADATA, 2: Field("spec", _message(_SERVICE_SPEC))},
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): _REVIEW,
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): _REVIEW,
    ("authentication.k8s.io/v1", "SelfSubjectReview"): _REVIEW,
}
