"""What makes requests belong together: the session key, and the hints that a body gives.

The first that is there decides: the session header, `prompt_cache_key`, `user`, the opening
of the conversation. The opening ends with the first message that isn't an instruction,
because many users share a system prompt, and it stays the same while the conversation grows.
A prompt for completion counts as a whole: templates begin alike, so its beginning would send
everybody to one arm. Bodies are never kept: of a conversation only a hash leaves this file.
"""

from collections.abc import Iterable, Sequence
from enum import IntFlag
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from tidegate.routing.table import Rule

SESSION_HEADER: Final = b"x-session-id"
"""Names the session where the route configures no other header."""

EDGE: Final = 8192
"""Bytes hashed at each end of a long text: a bounded cost for unbounded documents."""


class Feature(IntFlag):
    """What a request asks of a model server beside text; not all serve it alike."""

    TOOLS = 1
    JSON_SCHEMA = 2
    LOGPROBS = 4
    N = 8
    SEED = 16


_INSTRUCTIONS: Final = frozenset({b'"system"', b'"developer"'})


class BodyHints(Struct, frozen=True, gc=False):
    """What a request's body says of its route and its session."""

    model: str | None = None
    stream: bool = False
    prompt_cache_key: str | None = None
    user: str | None = None
    opening: bytes | None = None
    """A hash of the conversation's beginning."""
    features: int = 0
    """`Feature` bits."""
    max_tokens: int = 0
    """The longest answer that is asked for; 0 where none is said."""
    malformed: bool = False
    """The body begins like a JSON object and is none."""


NO_HINTS: Final = BodyHints()


_ABSENT: Final = Raw(b"")


class _Message(Struct):
    """A turn of a conversation (`messages` of chat, `input` of responses)."""

    role: Raw = Raw(b"")
    content: Raw = Raw(b"")


class _Body(Struct):
    """The fields that matter, of the shape they should have; the rest is skipped."""

    model: str | None = None
    stream: bool | None = None
    prompt_cache_key: str | None = None
    user: str | None = None
    messages: list[_Message] = []
    system: Raw = Raw(b"")
    prompt: Raw = Raw(b"")
    instructions: Raw = Raw(b"")
    input: Raw = Raw(b"")
    tools: Raw = _ABSENT
    response_format: Raw = _ABSENT
    logprobs: Raw = _ABSENT
    n: Raw = _ABSENT
    seed: Raw = _ABSENT
    max_tokens: Raw = _ABSENT
    max_completion_tokens: Raw = _ABSENT


class _LooseBody(Struct):
    """The same fields, whatever their types."""

    model: Any = None
    stream: Any = None
    prompt_cache_key: Any = None
    user: Any = None
    messages: Raw = Raw(b"")
    system: Raw = Raw(b"")
    prompt: Raw = Raw(b"")
    instructions: Raw = Raw(b"")
    input: Raw = Raw(b"")
    tools: Raw = _ABSENT
    response_format: Raw = _ABSENT
    logprobs: Raw = _ABSENT
    n: Raw = _ABSENT
    seed: Raw = _ABSENT
    max_tokens: Raw = _ABSENT
    max_completion_tokens: Raw = _ABSENT


_BODY: Final = msgspec.json.Decoder(_Body)
_LOOSE_BODY: Final = msgspec.json.Decoder(_LooseBody)
_MESSAGES: Final = msgspec.json.Decoder(list[_Message])


def session_key(
    rule: Rule, headers: Iterable[tuple[bytes, bytes]], hints: BodyHints
) -> bytes | None:
    """Return what names the request's session, or None when nothing does.

    Keys of different sources never collide. `headers` have lower-case names.
    """
    wanted = rule.session_header or SESSION_HEADER
    for name, value in headers:
        if name == wanted and value:
            return b"header:" + value
    if hints.prompt_cache_key:
        return b"cache:" + hints.prompt_cache_key.encode(errors="surrogatepass")
    if hints.user:
        return b"user:" + hints.user.encode(errors="surrogatepass")
    return b"opening:" + hints.opening if hints.opening else None


def parse_hints(body: bytes) -> BodyHints:
    """Return the hints of an OpenAI- or Anthropic-style JSON body; never raises.

    Of a field given twice the last counts, as for the model servers. Fields of a wrong type
    are as if absent. Bodies that don't begin like a JSON object give no hints.
    """
    try:
        return _hints(_BODY.decode(body))
    except msgspec.ValidationError:
        return _loose_hints(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return BodyHints(malformed=True) if body.lstrip(b" \t\r\n")[:1] == b"{" else NO_HINTS


def _hints(body: _Body) -> BodyHints:
    return BodyHints(
        body.model,
        body.stream is True,
        body.prompt_cache_key,
        body.user,
        _opening(body),
        _features(body),
        _number(body.max_completion_tokens) or _number(body.max_tokens),
    )


_UNASKED: Final = frozenset((b"null", b"false", b"[]", b"0"))
"""How a parameter looks that is there and asks for nothing."""
_SHORT: Final = 20
"""Bytes; a longer value asks for something."""
_TOOLS, _JSON_SCHEMA, _LOGPROBS, _N, _SEED = (int(feature) for feature in Feature)


def _features(body: _Body) -> int:
    features = 0
    if body.tools is not _ABSENT and _asks(body.tools):
        features |= _TOOLS
    if body.response_format is not _ABSENT and b"json_schema" in bytes(body.response_format):
        features |= _JSON_SCHEMA
    if body.logprobs is not _ABSENT and _asks(body.logprobs):
        features |= _LOGPROBS
    if body.n is not _ABSENT and _number(body.n) > 1:
        features |= _N
    if body.seed is not _ABSENT and bytes(body.seed) != b"null":
        features |= _SEED
    return features


def _asks(raw: Raw) -> bool:
    return len(memoryview(raw)) > _SHORT or bytes(raw) not in _UNASKED


def _number(raw: Raw) -> int:
    if raw is _ABSENT or len(memoryview(raw)) > _SHORT:
        return 0
    text = bytes(raw)
    return int(text) if text.isdigit() else 0


def _loose_hints(body: bytes) -> BodyHints:
    try:
        loose = _LOOSE_BODY.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        whole_object = body.lstrip(b" \t\r\n")[:1] == b"{"
        return BodyHints(malformed=True) if whole_object else NO_HINTS
    return _hints(
        _Body(
            _text(loose.model),
            loose.stream is True,
            _text(loose.prompt_cache_key),
            _text(loose.user),
            _turns(loose.messages),
            loose.system,
            loose.prompt,
            loose.instructions,
            loose.input,
            loose.tools,
            loose.response_format,
            loose.logprobs,
            loose.n,
            loose.seed,
            loose.max_tokens,
            loose.max_completion_tokens,
        )
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _turns(raw: Raw) -> list[_Message]:
    try:
        return _MESSAGES.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []


def _opening(body: _Body) -> bytes | None:
    if body.messages:
        return _hash([body.system, *_first_turns(body.messages)])
    if bytes(body.prompt):
        return _hash([body.prompt])
    if bytes(body.input):
        turns = _turns(body.input)
        return _hash([body.instructions, *(_first_turns(turns) if turns else [body.input])])
    return None


def _first_turns(messages: Sequence[_Message]) -> list[Raw]:
    """Return the contents up to the first message that is no instruction."""
    found = []
    for message in messages:
        found.append(message.content)
        if bytes(message.role) not in _INSTRUCTIONS:
            break
    return found


def _hash(parts: Sequence[Raw]) -> bytes:
    """Return a hash of the parts as the client spelled them."""
    # JSON holds no NUL, so it parts the texts without doubt.
    whole = b"\0".join(parts)
    if len(whole) > 2 * EDGE:
        whole = b"\0".join([_edges(bytes(part)) for part in parts])
    return blake2b(whole, digest_size=16).digest()


def _edges(text: bytes) -> bytes:
    """Return the length and both ends of a long text; others whole."""
    if len(text) <= 2 * EDGE:
        return text
    return b"%d\0%b%b" % (len(text), text[:EDGE], text[-EDGE:])
