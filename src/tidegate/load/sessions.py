"""Conversations: what a session says in each turn, and who it says it is.

All sessions share a system prompt, so a server can reuse its beginning; the first user
message is the session's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

_VOCABULARY: Final = (
    "please tell explain compare list describe summarise write translate check plan small large "
    "quiet early late river harbour boat letter number garden winter summer engine table window "
    "music paper stone light colour market village bridge"
)
_WORDS: Final = _VOCABULARY.split()

Identity = Literal["prompt_cache_key", "user", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What sessions are like. Lengths in words, near enough tokens."""

    model: str
    turns: int = 1
    """Requests of a session, one after the other."""
    system_words: int = 40
    """The shared beginning."""
    user_words: int = 20
    """Each user message."""
    max_tokens: int = 64
    """The answer's limit."""
    ignore_eos: bool = False
    """Every answer has `max_tokens` tokens: a field that vLLM knows and OpenAI doesn't."""
    stream: bool = True
    think_s: float = 0.0
    """Mean time between an answer and the next turn, exponential."""
    identity: Identity = "prompt_cache_key"
    """The body's field that names the session."""
    prefix: str = "session"
    """Names are PREFIX-SEED-NUMBER."""


class _Content(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    delta: _Content = _Content()
    message: _Content = _Content()


class _Answer(Struct, frozen=True):
    choices: list[_Choice] = []


class Session:
    """One conversation.

    Args:
        workload: What it is like.
        seed: The run's seed: with the same one, the same number says the same.
        number: Which session of the run.

    """

    def __init__(self, workload: Workload, seed: int, number: int) -> None:
        self.number = number
        self.workload = workload
        self.name = f"{workload.prefix}-{seed}-{number}"
        self.rng = Random(f"{seed}/{number}")
        self._messages: list[dict[str, str]] = []
        if workload.system_words:
            shared = Random(f"{seed}/system")
            self._say("system", _words(shared, workload.system_words))

    def ask(self) -> bytes:
        """Return the body of the next turn."""
        self._say("user", _words(self.rng, self.workload.user_words))
        body: dict[str, Any] = {
            "model": self.workload.model,
            "messages": self._messages,
            "max_tokens": self.workload.max_tokens,
            "stream": self.workload.stream,
        }
        if self.workload.ignore_eos:
            body["ignore_eos"] = True
        if self.workload.identity != "none":
            body[self.workload.identity] = self.name
        return msgspec.json.encode(body)

    def hear(self, answer: Sequence[bytes]) -> None:
        """Take an answer into the conversation: the data of its events, or its body in pieces."""
        pieces = answer if self.workload.stream else [b"".join(answer)]
        self._say("assistant", "".join(_text_of(piece) for piece in pieces))

    def pause(self) -> float:
        """Return how long it thinks before the next turn, in seconds."""
        mean = self.workload.think_s
        return self.rng.expovariate(1 / mean) if mean else 0.0

    def _say(self, role: str, content: str) -> None:
        self._messages.append({"role": role, "content": content})


def _text_of(data: bytes) -> str:
    try:
        choices = msgspec.json.decode(data, type=_Answer).choices
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return "".join(one.delta.content or one.message.content or "" for one in choices)


def _words(rng: Random, count: int) -> str:
    return " ".join(rng.choices(_WORDS, k=count))
