"""One inference request from its parsed body to the last byte of its answer.

The whole answer is known when the request arrives (`plan`); the engine only says when each
token of it is due. An answer with `n` choices is `n` jobs of the engine that share their prompt.
"""

from dataclasses import dataclass

from tidegate.simulator import checks, logprobs, openai, text, tools
from tidegate.simulator.driver import Driver
from tidegate.simulator.errors import RequestError
from tidegate.simulator.faults import HEALTHY, Faults
from tidegate.simulator.http import Reply
from tidegate.simulator.jobs import Job, Progress, Running
from tidegate.simulator.metrics import Metrics
from tidegate.simulator.openai import ChatRequest, CompletionRequest, Face, ToolCall, Usage
from tidegate.simulator.profiles import Profile

RESET_AFTER_S = 0.02
"""How long a client gets to read what was sent before the reset: a reset discards it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one choice will answer: the work, the text of each token, and why it ends."""

    job: Job
    words: list[str]
    finish: str
    point: int
    tool: ToolCall | None = None
    stop: str | None = None
    """The text that ended it."""


def plan(
    request: ChatRequest | CompletionRequest,
    profile: Profile,
    seed: int | str,
    adapter: str,
    choice: int = 0,
) -> Plan:
    """Return what the simulator will answer to `request`.

    Args:
        request: Its body.
        profile: Of the server.
        seed: Equal ones give equal answers.
        adapter: The adapter that it wants; '' is the base model.
        choice: Which of its `n` choices.

    Raises:
        RequestError: It is longer than the model's context, or asks for what can't be.

    """
    prompt = request.prompt()
    size, longest = text.count_tokens(prompt), profile.max_model_len
    checks.check_length(request, size, longest)
    limit, left = request.limit(), longest - size
    room = left if limit is None else min(limit, left)
    checks.sampled(request, room)
    salt = f"{seed}/{request.seed}/{request.model}"
    point = text.point_of(prompt, f"{salt}/{choice}" if choice else salt)
    blocks = text.blocks_of(prompt, profile.block_size, adapter)
    if isinstance(request, ChatRequest) and (tool := tools.choose(request, point)) is not None:
        called, words = tools.call(tool, point)
        finish = "length" if len(words) > room else "tool_calls"
        words = words[:room]
        return Plan(Job(size, len(words), blocks, adapter), words, finish, point, called)
    length, finish = _length(request, point, room, profile)
    words, stop = _cut(text.answer(point, length), openai.stops(request))
    job = Job(size, len(words), blocks, adapter)
    return Plan(job, words, "stop" if stop else finish, point, stop=stop)


def _length(
    request: ChatRequest | CompletionRequest, point: int, room: int, profile: Profile
) -> tuple[int, str]:
    spread = profile.longest_answer - profile.shortest_answer + 1
    natural = max(profile.shortest_answer + point % spread, request.min_tokens)
    if natural < room and not (request.ignore_eos and request.limit()):
        return natural, "stop"
    return room, "length"


def _cut(words: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    """End the answer before the first stop text, which itself is generated and not shown."""
    whole = "".join(words)
    found = [(at, at + len(stop)) for stop in stops if (at := whole.find(stop)) >= 0]
    if not found:
        return words, None
    start, end = min(found)
    shown, offset = [], 0
    for word in words:
        if offset >= end:
            break
        shown.append(word[: max(0, start - offset)])
        offset += len(word)
    return shown, whole[start:end]


class Choice:
    """One choice of an answer, which listens to the engine."""

    __slots__ = ("_chat", "face", "generation", "plan", "sequence", "top")

    def __init__(self, generation: "Generation", planned: Plan, face: Face) -> None:
        request = generation.request
        self.plan = planned
        self.face = face
        self.top = logprobs.asked(request)
        self.sequence: Running | None = None
        self.generation = generation
        self._chat = isinstance(request, ChatRequest)

    def progressed(self, made: Progress) -> None:
        """Take tokens that the engine made."""
        self.generation.progressed(self, made)

    def events(self, made: Progress) -> list[bytes]:
        """Return the events of those tokens."""
        first, finish = made.first, self.plan.finish
        words = self.plan.words[first : first + made.tokens]
        events = [] if first else self.face.opening()
        if self.plan.tool is None and self.top is None:
            if not made.last:
                return events + self.face.events(words)
            last = self.face.event(words[-1], finish, stop=self.plan.stop)
            return [*events, *self.face.events(words[:-1]), last]
        ends = [None] * (len(words) - 1) + [finish if made.last else None]
        pairs = enumerate(zip(words, ends, strict=True), first)
        return events + [self._rich_event(word, n, end) for n, (word, end) in pairs]

    def whole(self) -> bytes:
        """Return it as part of an answer that isn't streamed."""
        planned = self.plan
        likely = None if self.top is None else self._logprobs(planned.words, 0)
        return self.face.choice(
            "".join(planned.words), planned.finish, planned.tool, likely, planned.stop
        )

    def _rich_event(self, word: str, index: int, finish: str | None) -> bytes:
        if (tool := self.plan.tool) is not None:
            return self.face.tool_event(tool, word, index == 0, finish)
        return self.face.event(word, finish, self._logprobs([word], index), self.plan.stop)

    def _logprobs(self, words: list[str], first: int) -> bytes:
        return logprobs.encode(self._chat, words, first, self.plan.point, self.top or 0)


class Generation:
    """Writes one answer while the engine makes it.

    Args:
        request: Its body.
        plans: What its choices will be.
        faces: How each is written.
        reply: Where to.
        faults: Those that were switched on when it came.

    """

    __slots__ = (
        "_choices", "_driver", "_events", "_faults", "_metrics", "_reply", "_running", "request",
    )  # fmt: skip

    def __init__(
        self,
        request: ChatRequest | CompletionRequest,
        plans: list[Plan],
        faces: list[Face],
        reply: Reply,
        faults: Faults = HEALTHY,
    ) -> None:
        self.request = request
        self._reply = reply
        self._faults = faults
        self._events = 0
        self._running = len(plans)
        self._driver: Driver
        self._metrics: Metrics
        self._choices = [Choice(self, *one) for one in zip(plans, faces, strict=True)]

    def start(self, driver: Driver, metrics: Metrics) -> None:
        """Hand the jobs to the engine."""
        if self._faults.reset_after_events == 0:
            self._reply.reset()
            return
        self._driver, self._metrics = driver, metrics
        self._reply.on_gone = self.abort
        if self.request.stream:
            self._reply.start_events()
        for one in self._choices:
            one.sequence = driver.submit(one.plan.job, one)

    def abort(self) -> None:
        """Stop: nobody listens any more."""
        for one in self._choices:
            if one.sequence is not None and not one.sequence.finished:
                self._driver.abort(one.sequence)
                self._metrics.finished["abort"] += 1

    def fail(self, error: RequestError) -> None:
        """End it with an error, in the midst of a stream too."""
        self._reply.on_gone = None
        self._metrics.finished["error"] += self._running
        body = openai.error_body(error)
        if self.request.stream:
            self._reply.events(b"data: %b\n\n" % body + openai.DONE)
            self._reply.end()
        else:
            self._reply.send(error.status, body)

    def progressed(self, choice: Choice, made: Progress) -> None:
        """Take tokens of one choice."""
        if made.last:
            self._running -= 1
            reason = choice.plan.finish
            self._metrics.finished["stop" if reason == "tool_calls" else reason] += 1
            if not self._running:
                longest = max(one.plan.job.output_tokens for one in self._choices)
                self._metrics.answered(len(self._choices), self.request.limit(), longest)
        if self.request.stream:
            self._stream(choice, made)
        elif self._running:
            return
        elif self._faults.reset_after_events is not None:
            self._reply.reset()
        else:
            choices = [one.whole() for one in self._choices]
            self._reply.send(200, choice.face.ended(choices, self._usage()))

    def _stream(self, choice: Choice, made: Progress) -> None:
        events = choice.events(made)
        if not self._running:
            options = self.request.stream_options
            if options is not None and options.include_usage:
                events.append(choice.face.usage_event(self._usage()))
            else:
                events[-1] = openai.signed(events[-1])
            events.append(openai.DONE)
        faults, sent = self._faults, self._events
        self._events += len(events)
        if (most := faults.reset_after_events) is not None and self._events >= most:
            self._cut(events[: most - sent])
        elif (most := faults.stall_after_events) is not None and self._events > most:
            self._reply.events_if(b"".join(events[: max(0, most - sent)]))
        else:
            self._reply.events(b"".join(events))
            if not self._running:
                self._reply.end()

    def _cut(self, events: list[bytes]) -> None:
        self._reply.events(b"".join(events))
        self._reply.on_gone = None
        for one in self._choices:
            if one.sequence is not None:
                self._driver.abort(one.sequence)
        self._driver.later(RESET_AFTER_S, self._reply.reset)

    def _usage(self) -> Usage:
        first = self._choices[0]
        cached = first.sequence.cached_tokens if first.sequence is not None else 0
        made = sum(one.plan.job.output_tokens for one in self._choices)
        return Usage(first.plan.job.prompt_tokens, made, cached)
