"""The text of an answer, read as it passes, kept as a hash only.

OpenAI's shapes (chats and completions), streamed or whole. A text that can't be read, or is
too long to be worth it, has no digest.
"""

from hashlib import blake2b
from typing import Final

import msgspec

MOST_BYTES: Final = 256 * 1024


class _Part(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    text: str | None = None
    message: _Part = _Part()
    delta: _Part = _Part()


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []


_ANSWER: Final = msgspec.json.Decoder(_Answer)


class AnswerText:
    """Gathers one answer."""

    __slots__ = ("_parts", "_size", "_skip")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._skip = False

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._size += len(data)
        if self._size > MOST_BYTES:
            self._skip = True
            self._parts.clear()
        if not self._skip:
            self._parts.append(data)

    def digest(self) -> bytes | None:
        """Return a hash of the first choice's text; None if it can't be read."""
        if self._skip or not self._parts:
            return None
        body = b"".join(self._parts)
        text = _streamed(body) if body.lstrip()[:1] != b"{" else _whole(body)
        return None if text is None else blake2b(text.encode(errors="replace")).digest()


def _streamed(body: bytes) -> str | None:
    texts: list[str] = []
    for line in body.split(b"\n"):
        event = line.removeprefix(b"data:").strip()
        if not line.startswith(b"data:") or event == b"[DONE]":
            continue
        text = _whole(event)
        if text is None:
            return None
        texts.append(text)
    return "".join(texts) if texts else None


def _whole(body: bytes) -> str | None:
    try:
        answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    first = [choice for choice in answer.choices if choice.index == 0]
    parts = [choice.text or choice.message.content or choice.delta.content for choice in first]
    return "".join(part or "" for part in parts)
