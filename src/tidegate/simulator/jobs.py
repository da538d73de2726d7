"""What an engine works on: jobs, their course through it, and the steps that it takes."""

from dataclasses import dataclass
from math import sqrt
from typing import Any


@dataclass(slots=True)  # not frozen: that would triple what making one costs
class Job:
    """What a request asks of the engine. Not to be changed once it is submitted."""

    prompt_tokens: int
    output_tokens: int
    """How many tokens to generate; at least 1."""
    prefix: tuple[int, ...] = ()
    """Hashes of the prompt's full blocks, each over everything before it."""
    adapter: str = ""
    """The LoRA adapter that it wants; '' is the base model."""


@dataclass(slots=True)
class Clock:
    """Counts an engine's decode steps."""

    ticks: int = 0


@dataclass(slots=True, eq=False)
class Running:
    """A job in the engine. Times in seconds on the caller's clock."""

    job: Job
    clock: Clock
    arrived_at: float
    admitted_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    """When the last token was made that was told."""
    cached_tokens: int = 0
    """Prompt tokens that were in the prefix cache when it first ran."""
    target: int = 0
    """Tokens to have in the KV cache before it decodes: the prompt, and more after a preemption."""
    prefilled: int = 0
    """Of those, how many it has."""
    told: int = 0
    """Tokens that were told."""
    settled: int = 0
    """Tokens that were generated before `since`."""
    since: int = -1
    """The tick at which it began to decode; -1 while it doesn't."""
    ends_at_tick: int = -1
    """The tick at which it has all its tokens; -1 while it doesn't decode."""
    seated: bool = False
    """Whether it runs; else it waits, or is gone."""
    preemptions: int = 0
    """How often it was pushed out of the batch."""
    aborted: bool = False
    owner: Any = None
    """Whatever the caller wants to find here again."""

    @property
    def generated(self) -> int:
        """How many tokens were generated."""
        return self.settled + (self.clock.ticks - self.since if self.since >= 0 else 0)

    @property
    def computed(self) -> int:
        """How many tokens are in the KV cache."""
        return self.prefilled + (self.clock.ticks - self.since if self.since >= 0 else 0)

    @property
    def finished(self) -> bool:
        """Whether all tokens were generated."""
        return self.generated >= self.job.output_tokens


@dataclass(slots=True)
class Progress:
    """`tokens` more tokens of a sequence, the last of them made at `at`.

    It stands for itself: the sequence may have moved on when it is read.
    """

    sequence: Running
    first: int
    """How many tokens were there before."""
    tokens: int
    at: float
    gap: float | None
    """Seconds a token since the last one that was told; None for the first."""

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


class Step:
    """One step in the making, or a run of `tokens` steps that only decode.

    Args:
        started_at: When it began.
        prefills: What it prefills; a run nothing.
        tokens: How many steps it is.
        first_s: How long it takes, or the first one of a run.
        more_s: How much longer each step of a run takes than the one before it.

    """

    __slots__ = ("ends_at", "first_s", "more_s", "prefills", "started_at", "tokens")

    def __init__(
        self, started_at: float, prefills: Chunks, tokens: int, first_s: float, more_s: float = 0.0
    ) -> None:
        self.started_at = started_at
        self.prefills = prefills
        self.tokens = tokens
        self.first_s = first_s
        self.more_s = more_s
        self.ends_at = started_at + first_s if tokens == 1 else self.end_of(tokens)

    def end_after(self, tokens: int) -> None:
        """Make it a run of so many steps."""
        self.tokens = tokens
        self.ends_at = self.end_of(tokens)

    def end_of(self, tokens: int) -> float:
        """Return when a run's first `tokens` steps are over."""
        growth = self.more_s * (tokens * (tokens - 1) // 2)
        return self.started_at + self.first_s * tokens + growth

    def begun_by(self, now: float) -> int:
        """Return how many steps of a run have begun by `now`; the last is not over."""
        if now <= self.started_at:
            return 1
        passed, more = now - self.started_at, self.more_s
        if more:
            half = self.first_s - more / 2
            over = int((sqrt(half * half + 2 * more * passed) - half) / more)
        else:
            over = int(passed / self.first_s)
        over = min(over, self.tokens - 1)
        while over and self.end_of(over) > now:  # rounding, here and below
            over -= 1
        while over < self.tokens - 1 and self.end_of(over + 1) <= now:
            over += 1
        return over + 1
