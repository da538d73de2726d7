"""Conversations as numbers: when they come, what they ask, which prefixes they share.

A prompt has no text here. It is the first so many tokens of two endless texts: a shared one
(a system prompt) and then the conversation's own. So a prefix is known by its text and its
length, and the hashes that the prefix index and a server's cache want are those two in one
number. Texts under different adapters are different texts, as they are to a server.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, islice
from random import Random
from typing import Final

from tidegate.fleet.workload import Names, Shared, Traffic, Workload, seconds
from tidegate.load.arrivals import Shape, shaped
from tidegate.load.trace import read

LENGTH_BITS: Final = 24
"""A text's number is moved by so many: lengths stay below."""


class Draw:
    """Numbers from 0 with 1 / (n + 1)^skew as their chance."""

    __slots__ = ("_sums",)

    def __init__(self, count: int, skew: float) -> None:
        self._sums = list(accumulate((n + 1.0) ** -skew for n in range(count)))

    def next(self, rng: Random) -> int:
        """Draw one."""
        return bisect_right(self._sums, rng.random() * self._sums[-1])


class Turn:
    """One request of a conversation."""

    __slots__ = ("answer", "prompt", "talk")

    def __init__(self, talk: "Talk", prompt: int, answer: int) -> None:
        self.talk = talk
        self.prompt = prompt
        """Tokens of the whole prompt, of all turns before too."""
        self.answer = answer
        """Tokens that the answer will have."""

    def chain(self, ends: Sequence[int]) -> list[int]:
        """Return the hashes of the prompt's prefixes that end at `ends`, as far as it reaches."""
        talk = self.talk
        few, all_ = bisect_right(ends, talk.shared_tokens), bisect_right(ends, self.prompt)
        shared, own = talk.shared << LENGTH_BITS, talk.own << LENGTH_BITS
        return [shared | end for end in ends[:few]] + [own | end for end in ends[few:all_]]

    def blocks(self, size: int) -> tuple[int, ...]:
        """Return the hashes of the prompt's full blocks, for a server's cache."""
        talk = self.talk
        few, count = talk.shared_tokens // size, self.prompt // size
        shared, own = talk.shared << LENGTH_BITS, talk.own << LENGTH_BITS
        few = min(few, count)
        return tuple(chain(range(shared, shared + few), range(own + few, own + count)))


class Talk:
    """One conversation.

    All that it will say is drawn at its start, so it says the same whoever serves it.
    """

    __slots__ = ("_plan", "adapter", "own", "shared", "shared_tokens", "tenant", "tokens")

    def __init__(
        self, own: int, tenant: bytes, adapter: str, plan: list[tuple[int, int, float]]
    ) -> None:
        self.own = own
        """The number of its own text."""
        self.shared = own
        self.shared_tokens = 0
        self.tenant = tenant
        self.adapter = adapter
        """'' is the base model."""
        self.tokens = 0
        """Said so far, by both."""
        self._plan = plan

    @property
    def pause(self) -> float | None:
        """How long somebody thinks before the next turn, in seconds; None: it is over."""
        return self._plan[-1][2] if self._plan else None

    def turn(self) -> Turn:
        """Return the next request."""
        user, answer, _ = self._plan.pop()
        prompt = self.tokens + user
        self.tokens = prompt + answer
        return Turn(self, prompt, answer)


class Source:
    """The conversations of one kind of traffic, drawn from a seed."""

    __slots__ = (
        "_adapters", "_number", "_numbers", "_rng", "_systems", "_tenants", "_think_s", "kind",
        "workload",
    )  # fmt: skip

    def __init__(self, workload: Workload, kind: Traffic, number: int) -> None:
        self.workload = workload
        self.kind = kind
        self._think_s = seconds(kind.think)
        self._number = number
        self._rng = Random(f"{workload.seed}/{kind.name}")
        self._numbers = iter(range(1 << 40))
        self._systems = _draw(kind.system)
        self._adapters = _draw(kind.adapters)
        self._tenants = _draw(kind.tenants)

    def starts(self) -> Iterator[tuple[float, Turn]]:
        """Yield when conversations start, in order, with their first turns."""
        if self.kind.trace is not None:
            return self._recorded(self.kind.trace)
        return self._drawn()

    def _drawn(self) -> Iterator[tuple[float, Turn]]:
        begin, shape = seconds(self.kind.starts), self.shape
        for at in shaped(self._rng, shape.rate, shape.peak):
            if at >= shape.duration_s:
                return
            yield begin + at, self._talk().turn()

    @property
    def shape(self) -> Shape:
        """How many conversations a second start over time."""
        rate, burst = self.kind.rate or 1.0, self.kind.burst
        left = seconds(self.workload.duration) - seconds(self.kind.starts)
        if burst is None:
            return Shape(first=rate, last=rate, duration_s=left)
        return Shape(
            first=rate,
            last=rate,
            duration_s=left,
            burst_factor=burst.factor,
            burst_every_s=seconds(burst.every),
            burst_s=seconds(burst.length),
        )

    def _recorded(self, name: str) -> Iterator[tuple[float, Turn]]:
        talks: dict[str, Talk] = {}
        begin, duration = seconds(self.kind.starts), seconds(self.workload.duration)
        for one in read(self.workload.folder / name):
            at = begin + one.at / self.kind.speed
            if at >= duration:
                return
            talk = talks.get(one.session)
            if talk is None:
                talk = talks[one.session] = self._talk(0)  # the trace says when it goes on
                talk.tenant = one.session.encode()
            yield at, Turn(talk, one.prompt_tokens, one.output_tokens)

    def _talk(self, turns: int | None = None) -> Talk:
        kind, rng = self.kind, self._rng
        own = (next(self._numbers) * 64 + self._number) * 2 + 1
        tenant = f"{kind.name}-{self._tenants.next(rng) if self._tenants else 0}".encode()
        adapter = self._adapters.next(rng) if self._adapters else -1
        plan = [
            (self._drawn_length(kind.user), self._drawn_length(kind.answer), self._pause())
            for _ in range(kind.turns if turns is None else turns)
        ]
        talk = Talk(own, tenant, f"adapter-{adapter}" if adapter >= 0 else "", plan)
        if kind.system is not None and self._systems is not None:
            system = self._systems.next(rng)
            # Even numbers, so that they are no conversation's; each adapter has its own.
            talk.shared = ((system * 4096 + adapter + 1) * 64 + self._number) * 2
            talk.shared_tokens = talk.tokens = kind.system.tokens
        return talk

    def _pause(self) -> float:
        return self._rng.expovariate(1 / self._think_s) if self._think_s else 0.0

    def _drawn_length(self, mean: int) -> int:
        if not self.kind.spread:
            return mean
        return max(1, round(self._rng.expovariate(1 / mean)))


def sources(workload: Workload) -> list[Source]:
    """Return the sources of a workload."""
    return [Source(workload, kind, n) for n, kind in enumerate(workload.traffic)]


def expected(workload: Workload) -> int:
    """Return about how many requests there will be: for a progress bar."""
    total = 0.0
    for source in sources(workload):
        kind = source.kind
        if kind.trace is not None:
            total += sum(1 for _ in islice(source.starts(), 10_000_000))
        else:
            total += source.shape.expected * kind.turns
    return max(1, min(round(total), workload.requests or round(total)))


def _draw(names: Names | Shared | None) -> Draw | None:
    return None if names is None else Draw(names.count, names.skew)
