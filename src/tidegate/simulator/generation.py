"""One inference request from its parsed body to the last byte of its answer.

The whole answer is known when the request arrives (`plan`); the engine only says when each
token of it is due.
"""

from dataclasses import dataclass

from tidegate.simulator import openai, text
from tidegate.simulator.driver import Driver
from tidegate.simulator.engine import Job, Progress, Running
from tidegate.simulator.errors import bad_request
from tidegate.simulator.http import Reply
from tidegate.simulator.metrics import Metrics
from tidegate.simulator.openai import ChatRequest, CompletionRequest, Face, Usage
from tidegate.simulator.profiles import Profile

RESET_AFTER_S = 0.02
"""How long a client gets to read what was sent before the reset: a reset discards it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be answered: the work, the text of each token, and why it ends."""

    job: Job
    words: list[str]
    finish: str


def plan(
    request: ChatRequest | CompletionRequest, profile: Profile, seed: int, adapter: str
) -> Plan:
    """Return what the simulator will answer to `request`.

    Raises:
        RequestError: It is longer than the model's context.

    """
    openai.check(request)
    prompt = request.prompt()
    size = text.count_tokens(prompt)
    limit = request.limit()
    _check_length(size, limit, profile.max_model_len)
    room = limit or profile.max_model_len - size
    point = text.point_of(prompt, f"{seed}/{request.seed}/{request.model}")
    length, finish = _length(request, point, room, profile)
    words, finish = _cut(text.answer(point, length), openai.stops(request), finish)
    blocks = text.blocks_of(prompt, profile.block_size, request.model)
    return Plan(Job(size, len(words), blocks, adapter), words, finish)


def _check_length(size: int, limit: int | None, longest: int) -> None:
    if size + (limit or 1) <= longest:
        return
    asked = f" and asked for {limit} more" if limit else ""
    raise bad_request(
        f"This model's maximum context length is {longest} tokens. However, your request has "
        f"{size} input tokens{asked}. Please reduce the length of the input messages.",
        "input_tokens",
    )


def _length(
    request: ChatRequest | CompletionRequest, point: int, room: int, profile: Profile
) -> tuple[int, str]:
    spread = profile.longest_answer - profile.shortest_answer + 1
    natural = max(profile.shortest_answer + point % spread, request.min_tokens)
    if natural < room and not (request.ignore_eos and request.limit()):
        return natural, "stop"
    return room, "length"


def _cut(words: list[str], stops: list[str], finish: str) -> tuple[list[str], str]:
    """End the answer before the first stop text, which itself is generated and not shown."""
    whole = "".join(words)
    found = [(at, at + len(stop)) for stop in stops if (at := whole.find(stop)) >= 0]
    if not found:
        return words, finish
    start, end = min(found)
    shown, offset = [], 0
    for word in words:
        if offset >= end:
            break
        shown.append(word[: max(0, start - offset)])
        offset += len(word)
    return shown, "stop"


class Generation:
    """Writes one answer while the engine makes it."""

    __slots__ = (
        "_cut_after", "_driver", "_events", "_face", "_metrics", "_plan", "_reply", "_request",
        "_sequence",
    )  # fmt: skip

    def __init__(
        self,
        request: ChatRequest | CompletionRequest,
        planned: Plan,
        face: Face,
        reply: Reply,
        cut_after: int | None,
    ) -> None:
        self._request = request
        self._plan = planned
        self._face = face
        self._reply = reply
        self._cut_after = cut_after
        self._events = 0
        self._driver: Driver
        self._metrics: Metrics
        self._sequence: Running | None = None

    def start(self, driver: Driver, metrics: Metrics) -> None:
        """Hand the job to the engine."""
        if self._cut_after == 0:
            self._reply.reset()
            return
        self._driver, self._metrics = driver, metrics
        self._reply.on_gone = self.abort
        if self._request.stream:
            self._reply.start_events()
        self._sequence = driver.submit(self._plan.job, self._progressed)

    def abort(self) -> None:
        """Stop: nobody listens any more."""
        if self._sequence is not None:
            self._driver.abort(self._sequence)
            self._metrics.finished["abort"] += 1

    def _progressed(self, made: Progress) -> None:
        if made.last:
            self._metrics.finished[self._plan.finish] += 1
        if self._request.stream:
            self._stream(made)
        elif made.last and self._cut_after is not None:
            self._reply.reset()
        elif made.last:
            whole, usage = "".join(self._plan.words), self._usage(made.sequence)
            self._reply.send(200, self._face.whole(whole, self._plan.finish, usage))

    def _stream(self, made: Progress) -> None:
        events = self._fresh_events(made)
        if self._cut_after is not None and self._events + len(events) >= self._cut_after:
            self._cut(events[: self._cut_after - self._events])
            return
        self._events += len(events)
        self._reply.events(b"".join(events))
        if made.last:
            self._reply.end()

    def _fresh_events(self, made: Progress) -> list[bytes]:
        face, words = self._face, self._plan.words
        events = [] if made.first else face.opening()
        events += [face.event(word) for word in words[made.first : made.first + made.tokens]]
        if made.last:
            events[-1] = face.event(words[-1], self._plan.finish)
            options = self._request.stream_options
            if options is not None and options.include_usage:
                events.append(face.usage_event(self._usage(made.sequence)))
            events.append(openai.DONE)
        return events

    def _cut(self, events: list[bytes]) -> None:
        self._reply.events(b"".join(events))
        self._reply.on_gone = None
        if self._sequence is not None:
            self._driver.abort(self._sequence)
        self._driver.later(RESET_AFTER_S, self._reply.reset)

    def _usage(self, sequence: Running) -> Usage:
        job = sequence.job
        return Usage(job.prompt_tokens, job.output_tokens, sequence.cached_tokens)
