"""Continuous batching as a pure model: jobs in, tokens and their times out.

The engine does one step at a time. A step decodes one token of every running sequence and
prefills prompts with the rest of its token budget; how long it takes comes from the profile.
Sequences beyond `max_num_seqs`, or without room in the KV cache, wait in order. A sequence
that can't grow pushes out the youngest, which later starts over with all its tokens as prompt.

Time is the caller's: `advance(now)` ends the steps that are over by `now`, `next_at` says when
to call again. Nothing here reads a clock, so a fleet of engines can run on one event heap.

Invariant: at most `max_num_seqs` run, and every sequence that isn't aborted finishes.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tidegate.simulator.errors import SettingsError
from tidegate.simulator.kv import BlockPool
from tidegate.simulator.profiles import Profile

CATCH_UP_S: Final = 0.02
"""A caller that calls this late doesn't slow the engine; later ones do, as a GPU can't hurry."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a request asks of the engine."""

    prompt_tokens: int
    output_tokens: int
    """How many tokens to generate; at least 1."""
    prefix: tuple[int, ...] = ()
    """Hashes of the prompt's full blocks, each over everything before it."""
    adapter: str = ""
    """The LoRA adapter that it wants; '' is the base model."""


@dataclass(slots=True, eq=False)
class Running:
    """A job in the engine. Times in seconds on the caller's clock."""

    job: Job
    arrived_at: float
    admitted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    cached_tokens: int = 0
    """Prompt tokens that were in the prefix cache when it first ran."""
    generated: int = 0
    computed: int = 0
    """Tokens in the KV cache."""
    target: int = 0
    """Tokens to have in the KV cache before it decodes: the prompt, and more after a preemption."""
    private: int = 0
    """Unshared blocks that it holds."""
    seated: bool = False
    """Whether it runs; else it waits, or is gone."""
    aborted: bool = False

    @property
    def finished(self) -> bool:
        """Whether all tokens were generated."""
        return self.generated >= self.job.output_tokens


@dataclass(frozen=True, slots=True)
class Progress:
    """`tokens` more tokens of a sequence, made at `at`.

    It stands for itself: the sequence may have moved on when it is read.
    """

    sequence: Running
    first: int
    """How many tokens were there before."""
    tokens: int
    at: float
    gap: float | None
    """Seconds a token since the last one; None for the first."""

    @property
    def last(self) -> bool:
        """Whether these are the sequence's last tokens."""
        return self.first + self.tokens >= self.sequence.job.output_tokens


@dataclass(slots=True)
class Totals:
    """What the engine counted since it started, in tokens and preemptions."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0


@dataclass(slots=True)
class Pace:
    """Factors on the profile's times: how a sick server is slow."""

    ttft: float = 1.0
    itl: float = 1.0


Chunks = list[tuple[Running, int]]
"""Sequences with how many of their prompt's tokens a step prefills."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step in the making."""

    ends_at: float
    prefills: Chunks
    decodes: list[Running]
    tokens: int
    """How many tokens each decoding sequence makes: 1 wherever steps take time."""


@dataclass(slots=True)
class Engine:
    """The batch, the queue and the cache of one simulated server."""

    profile: Profile
    pace: Pace = field(default_factory=Pace)
    totals: Totals = field(default_factory=Totals)
    waiting: deque[Running] = field(default_factory=deque)
    running: list[Running] = field(default_factory=list)
    cache: BlockPool = field(init=False)
    _step: Step | None = None

    def __post_init__(self) -> None:
        self.cache = BlockPool(self.profile.blocks)

    @property
    def next_at(self) -> float | None:
        """When the step in the making ends; None when there's nothing to do."""
        return self._step.ends_at if self._step else None

    def submit(self, job: Job, now: float) -> Running:
        """Queue a job; an idle engine starts on it at once.

        Raises:
            SettingsError: It could never run: it doesn't fit into the KV cache.

        """
        if self._blocks_for(job.prompt_tokens + job.output_tokens) > self.profile.blocks:
            tokens = self.profile.blocks * self.profile.block_size
            raise SettingsError(f"job: found {job}, expected at most {tokens} tokens")
        sequence = Running(job, arrived_at=now)
        self.waiting.append(sequence)
        if self._step is None:
            self._step = self._schedule(now)
        return sequence

    def abort(self, sequence: Running) -> None:
        """Forget a sequence; its blocks are free at once. Finished ones are left alone."""
        if sequence.aborted or sequence.finished:
            return
        sequence.aborted = True
        if sequence.seated:
            self._drop(sequence)
        else:
            self.waiting.remove(sequence)
        if not self.running and not self.waiting:
            self._step = None

    def advance(self, now: float) -> list[Progress]:
        """End the steps that are over by `now` and return what they made, in order of time."""
        progress: list[Progress] = []
        while (step := self._step) is not None and step.ends_at <= now:
            progress.extend(self._end(step))
            self._step = self._schedule(max(step.ends_at, now - CATCH_UP_S))
        return progress

    def _schedule(self, now: float) -> Step | None:
        profile = self.profile
        preemptions = self.totals.preemptions
        tokens = self._burst()
        decodes = self._grow(tokens)
        prefills = self._chunks(profile.max_num_batched_tokens - len(decodes))
        if self.totals.preemptions == preemptions:  # else the room would go back and forth
            taken = len(decodes) + sum(chunk for _, chunk in prefills)
            prefills += self._admit(profile.max_num_batched_tokens - taken, now)
        if not decodes and not prefills:
            return None
        return Step(now + self._duration(len(decodes), prefills), prefills, decodes, tokens)

    def _duration(self, decoding: int, prefills: Chunks) -> float:
        profile, pace = self.profile, self.pace
        prompt = profile.prefill_time(sum(chunk for _, chunk in prefills)) * pace.ttft
        if not decoding:
            return profile.step_s * pace.ttft + prompt
        return (profile.step_s + profile.decode_time(decoding)) * pace.itl + prompt

    def _burst(self) -> int:
        """Return how many tokens a step may make without changing what anybody sees.

        Steps that take no time and have the same batch are one: it saves a benchmark's
        server most of its work.
        """
        seats = self.profile.max_num_seqs - len(self.running)
        if not self.profile.instant or (self.waiting and seats):
            return 1
        if any(one.computed < one.target for one in self.running):
            return 1
        return min((one.job.output_tokens - one.generated for one in self.running), default=1)

    def _grow(self, tokens: int) -> list[Running]:
        """Make room for `tokens` more of each decoding sequence and return those."""
        decoding = [one for one in self.running if one.computed >= one.target]
        for one in decoding:
            more = self._blocks_for(one.computed + tokens) - len(one.job.prefix) - one.private
            while more > 0 and one.seated and not self.cache.grow(more):
                self._preempt(self.running[-1])
            if more > 0 and one.seated:
                one.private += more
        return [one for one in decoding if one.seated]

    def _chunks(self, budget: int) -> Chunks:
        """Return the next piece of every prompt that is being prefilled, within `budget`."""
        chunks = []
        for one in self.running:
            chunk = min(one.target - one.computed, budget)
            if chunk > 0:
                chunks.append((one, chunk))
                budget -= chunk
        return chunks

    def _admit(self, budget: int, now: float) -> Chunks:
        """Start waiting sequences, in order, while there are seats, tokens and blocks."""
        chunks = []
        while self.waiting and budget > 0 and len(self.running) < self.profile.max_num_seqs:
            one = self.waiting[0]
            if not self._start(one, now):
                break
            self.running.append(self.waiting.popleft())
            one.seated = True
            chunk = min(one.target - one.computed, budget)
            chunks.append((one, chunk))
            budget -= chunk
        return chunks

    def _start(self, one: Running, now: float) -> bool:
        """Give a waiting sequence its blocks; False where there's no room."""
        job = one.job
        one.target = job.prompt_tokens + one.generated
        resident = self.cache.resident(job.prefix) * self.profile.block_size
        private = self._blocks_for(one.target) - len(job.prefix)
        if not self.cache.take(job.prefix, private):
            return False
        one.private = private
        one.computed = min(resident, one.target - 1)  # the last token's logits are always needed
        if one.admitted_at is None:
            one.admitted_at, one.cached_tokens = now, one.computed
            self.totals.prefix_queries += job.prompt_tokens
            self.totals.prefix_hits += one.computed
        return True

    def _preempt(self, one: Running) -> None:
        self._drop(one)
        one.computed = 0
        one.target = one.job.prompt_tokens + one.generated
        self.waiting.appendleft(one)
        self.totals.preemptions += 1

    def _drop(self, one: Running) -> None:
        self.running.remove(one)
        one.seated = False
        self.cache.release(one.job.prefix, one.private)
        one.private = 0

    def _end(self, step: Step) -> Iterable[Progress]:
        for one, chunk in step.prefills:
            if one.aborted:
                continue
            one.computed += chunk
            if one.computed >= one.target:
                yield self._made(one, 1, step.ends_at)
        for one in step.decodes:
            if not one.aborted:
                one.computed += step.tokens
                yield self._made(one, step.tokens, step.ends_at)

    def _made(self, one: Running, tokens: int, at: float) -> Progress:
        gap = None if one.last_token_at is None else (at - one.last_token_at) / tokens
        first = one.generated
        one.generated += tokens
        self.totals.generated_tokens += tokens
        if one.first_token_at is None:
            one.first_token_at = at
            self.totals.prompt_tokens += one.job.prompt_tokens
        one.last_token_at = at
        if one.finished:
            self._drop(one)
        return Progress(one, first, tokens, at, gap)

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.profile.block_size)
