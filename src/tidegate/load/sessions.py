"""Conversations: what a session says in each turn, and who it says it is.

All sessions share a system prompt, so a server can reuse its beginning; the first user
message is the session's own. Recorded requests (`Recorded`) have their own lengths, and a
session's later ones begin as its earlier ones did.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Struct

from tidegate.load.trace import Arrival

_VOCABULARY: Final = (
    "please tell explain compare list describe summarise write translate check plan small large "
    "quiet early late river harbour boat letter number garden winter summer engine table window "
    "music paper stone light colour market village bridge"
)
_WORDS: Final = _VOCABULARY.split()

_SHORT_VOCABULARY: Final = (
    "the and for you can how now one day get see way may use her his our out two new old any "
    "try let say ask set run put far big low yes sea air sun cup key map pen law oil art"
)
_SHORT: Final = _SHORT_VOCABULARY.split()
"""Words that are one token each with their space, in most tokenizers and in the simulator."""

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
    usage: bool = True
    """Streams are asked to end with the count of their tokens."""


class _Content(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    delta: _Content = _Content()
    message: _Content = _Content()


class _Answer(Struct, frozen=True):
    choices: list[_Choice] = []


class Conversation(Protocol):
    """What the loop needs of a session."""

    number: int
    """Which session of the run."""
    turns: int
    """How many requests are still to come."""
    first_turn: int
    """How many requests of the session were others' to make."""

    def ask(self) -> bytes:
        """Return the body of the next turn."""

    def hear(self, answer: Sequence[bytes]) -> None:
        """Take an answer."""

    def pause(self) -> float:
        """Return how long it thinks before the next turn, in seconds."""


class Session:
    """One conversation.

    Args:
        workload: What it is like.
        seed: The run's seed: with the same one, the same number says the same.
        number: Which session of the run.

    """

    def __init__(self, workload: Workload, seed: int, number: int) -> None:
        self.number = number
        self.turns = workload.turns
        self.first_turn = 0
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
        return _body(self.workload, self._messages, self.workload.max_tokens, self.name)

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


class Recorded:
    """One request of a trace: a conversation of one turn.

    Its prompt is the first so many words of its session's own endless text, so requests of one
    session share their beginnings as turns of a real conversation do.

    Args:
        workload: What all requests have in common; lengths and turns are the trace's.
        seed: The run's.
        arrival: The recorded request.
        number: Which session of the trace it is.
        turn: How many requests of its session came before.

    """

    def __init__(
        self, workload: Workload, seed: int, arrival: Arrival, number: int, turn: int
    ) -> None:
        self.number = number
        self.turns = 1
        self.first_turn = turn
        self._workload = workload
        self._seed = seed
        self._arrival = arrival

    def ask(self) -> bytes:
        """Return the body."""
        arrival, workload = self._arrival, self._workload
        words = Random(f"{self._seed}/{arrival.session}").choices(_SHORT, k=arrival.prompt_tokens)
        messages = [{"role": "user", "content": " ".join(words)}]
        name = f"{workload.prefix}-{self._seed}-{self.number}"
        return _body(workload, messages, arrival.output_tokens, name)

    def hear(self, answer: Sequence[bytes]) -> None:
        """Take an answer; the next prompt is recorded, so it doesn't matter."""

    def pause(self) -> float:
        """Return 0: there is no other turn."""
        return 0.0


def recorded(workload: Workload, seed: int, arrivals: Sequence[Arrival]) -> list[Recorded]:
    """Return the requests of a trace."""
    numbers: dict[str, int] = {}
    turns: Counter[str] = Counter()
    requests = []
    for one in arrivals:
        number = numbers.setdefault(one.session, len(numbers))
        requests.append(Recorded(workload, seed, one, number, turns[one.session]))
        turns[one.session] += 1
    return requests


def _body(workload: Workload, messages: list[dict[str, str]], max_tokens: int, name: str) -> bytes:
    body: dict[str, Any] = {
        "model": workload.model,
        "messages": messages,
        "max_tokens": max_tokens,
        "stream": workload.stream,
    }
    if workload.stream and workload.usage:
        body["stream_options"] = {"include_usage": True}
    if workload.ignore_eos:
        body["ignore_eos"] = True
    if workload.identity != "none":
        body[workload.identity] = name
    return msgspec.json.encode(body)


def _text_of(data: bytes) -> str:
    try:
        choices = msgspec.json.decode(data, type=_Answer).choices
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return "".join(one.delta.content or one.message.content or "" for one in choices)


def _words(rng: Random, count: int) -> str:
    return " ".join(rng.choices(_WORDS, k=count))
