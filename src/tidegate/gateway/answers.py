"""An answer, read as it passes, and let go once it has been looked at.

OpenAI's shapes (chats and completions), streamed or whole. One that can't be read, or is too
long to be worth it, is nobody's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec

MOST_BYTES: Final = 256 * 1024


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    index: int = 0
    function: _Function = _Function()


class _Part(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    text: str | None = None
    message: _Part = _Part()
    delta: _Part = _Part()
    finish_reason: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []


_ANSWER: Final = msgspec.json.Decoder(_Answer)


@dataclass(slots=True)
class ToolCall:
    """One call of a tool."""

    name: str = ""
    arguments: str = ""
    """JSON, if all is well."""


@dataclass(slots=True)
class Answer:
    """What the first choice says."""

    text: str = ""
    refusal: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finish: str = ""
    """`finish_reason`."""

    def digest(self) -> bytes:
        """Return a hash of the text."""
        return blake2b(self.text.encode(errors="replace")).digest()

    def take(self, choice: _Choice, *, streamed: bool) -> None:
        """Add a choice, or a piece of one."""
        part = choice.delta if streamed else choice.message
        self.text += choice.text or part.content or ""
        self.refusal += part.refusal or ""
        self.finish = choice.finish_reason or self.finish
        for number, call in enumerate(part.tool_calls or ()):
            self._call(call, call.index if streamed else number)

    def _call(self, call: _Call, index: int) -> None:
        if not 0 <= index <= len(self.calls):
            return
        if index == len(self.calls):
            self.calls.append(ToolCall())
        known = self.calls[index]
        known.name += call.function.name or ""
        known.arguments += call.function.arguments or ""


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

    def read(self) -> Answer | None:
        """Return the answer; None if it can't be read."""
        if self._skip or not self._parts:
            return None
        body = b"".join(self._parts)
        if body.lstrip()[:1] == b"{":
            return _read([body], streamed=False)
        return _read(_events(body), streamed=True)


def _events(body: bytes) -> Iterable[bytes]:
    for line in body.split(b"\n"):
        event = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and event != b"[DONE]":
            yield event


def _read(pieces: Iterable[bytes], *, streamed: bool) -> Answer | None:
    answer, some = Answer(), False
    for piece in pieces:
        try:
            choices = _ANSWER.decode(piece).choices
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None
        some = True
        for choice in choices:
            if choice.index == 0:
                answer.take(choice, streamed=streamed)
    return answer if some else None
