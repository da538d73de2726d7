"""Continuous batching as a pure model: jobs in, tokens and their times out.

The engine does one step at a time. A step decodes one token of every running sequence and
prefills prompts with the rest of its token budget; how long it takes comes from the profile.
Sequences beyond `max_num_seqs`, without a slot for their adapter, or without room in the KV
cache wait in order. A sequence that can't grow pushes out the youngest, which later starts over
with all its tokens as prompt.

Time is the caller's: `advance(now)` ends the steps that are over by `now`, `next_at` says when
to call again. Nothing here reads a clock, so a fleet of engines can run on one event heap.

Steps in which nobody joins or leaves differ only by a growing context, so a run of them has a
closed form. A `coarse` engine takes such a run as one and tells of first and last tokens alone;
`interrupt` ends it early when somebody comes. Its times are those of the fine engine. To make a
run cost nothing, no sequence is touched in it: what a sequence generated is counted by the
engine's clock, and blocks by how many sequences start a new one at each of `block_size` ticks.

Invariant: at most `max_num_seqs` run, and every sequence that isn't aborted finishes.
"""

from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from tidegate.simulator.adapters import AdapterSlots
from tidegate.simulator.errors import SettingsError
from tidegate.simulator.jobs import Chunks, Clock, Job, Pace, Progress, Running, Step, Totals
from tidegate.simulator.kv import BlockPool
from tidegate.simulator.profiles import Profile

CATCH_UP_S: Final = 0.02
"""A caller that calls this late doesn't slow the engine; later ones do, as a GPU can't hurry."""


class Engine:
    """The batch, the queue and the cache of one simulated server.

    Args:
        profile: How fast it is and what it holds.
        pace: How sick it is.
        adapters: The adapters' slots; without them there are as many as anybody wants.
        coarse: Tell of first and last tokens only, and take steps in between as one.

    """

    __slots__ = (
        "_ahead", "_context", "_crossing", "_decoding", "_due", "_held_up_s", "_numbers",
        "_passed", "_prefilling", "_runs", "_step", "adapters", "cache", "clock", "coarse",
        "pace", "profile", "running", "totals", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        profile: Profile,
        pace: Pace | None = None,
        adapters: AdapterSlots | None = None,
        *,
        coarse: bool = False,
    ) -> None:
        self.profile = profile
        self.pace = pace or Pace()
        self.adapters = adapters or AdapterSlots(profile.max_num_seqs, 1 << 30, 0.0, 0.0)
        self.coarse = coarse
        self._runs = coarse or profile.instant
        self.totals = Totals()
        self.clock = Clock()
        self.waiting: deque[Running] = deque()
        self.running: list[Running] = []
        """In the order in which they were admitted."""
        self.cache = BlockPool(profile.blocks)
        self._step: Step | None = None
        self._prefilling: list[Running] = []
        self._decoding = 0
        self._context = 0
        """Tokens in the KV cache of those that decode."""
        self._ahead = 0
        """Tokens of a run for which every decoding sequence has its blocks already."""
        self._crossing = [0] * profile.block_size
        """How many sequences need a new block at a tick, by its remainder."""
        self._due: list[tuple[int, int, Running]] = []
        """Heap of the ticks at which sequences finish; some entries are stale."""
        self._numbers = count()
        self._held_up_s = 0.0
        """What loading adapters adds to the step in the making."""
        self._passed = 0

    @property
    def next_at(self) -> float | None:
        """When the step in the making ends; None when there's nothing to do."""
        return self._step.ends_at if self._step else None

    @property
    def passed_over(self) -> int:
        """How many of those that wait do so for their adapter, as of the last step."""
        return min(self._passed, len(self.waiting))

    def submit(self, job: Job, now: float, owner: Any = None) -> Running:
        """Queue a job; an idle engine starts on it at once.

        Args:
            job: What is asked.
            now: The time.
            owner: Kept with the sequence.

        Raises:
            SettingsError: It could never run: it doesn't fit into the KV cache.

        """
        if self._blocks_for(job.prompt_tokens + job.output_tokens) > self.profile.blocks:
            tokens = self.profile.blocks * self.profile.block_size
            raise SettingsError(f"job: found {job}, expected at most {tokens} tokens")
        sequence = Running(job, self.clock, now, owner=owner)
        self.waiting.append(sequence)
        if self._step is None:
            self._step = self._schedule(now)
        else:
            self.interrupt(now)
        return sequence

    def abort(self, sequence: Running, now: float | None = None) -> None:
        """Forget a sequence; its blocks are free at once. Finished ones are left alone.

        Args:
            sequence: Of this engine.
            now: The time; a coarse engine needs it.

        """
        if sequence.aborted or sequence.finished:
            return
        if now is not None:
            self.interrupt(now)
            self._settle()
        sequence.aborted = True
        if sequence.seated:
            self._drop(sequence)
        else:
            self.waiting.remove(sequence)
        if not self.running and not self.waiting:
            self._step, self._ahead = None, 0

    def interrupt(self, now: float) -> None:
        """End a run of steps with the one that is being done at `now`."""
        step = self._step
        if self.coarse and step is not None and step.tokens > 1:
            step.end_after(step.begun_by(now))

    def advance(self, now: float) -> list[Progress]:
        """End the steps that are over by `now` and return what they made, in order of time."""
        progress: list[Progress] = []
        while (step := self._step) is not None and step.ends_at <= now:
            self._end(step, progress)
            self._step = self._schedule(max(step.ends_at, now - CATCH_UP_S))
        return progress

    def counted(self, now: float) -> tuple[int, int]:
        """Return the blocks that are held and the tokens generated, in the midst of a run too."""
        step, used, total = self._step, self.cache.used, self.totals.generated_tokens
        if step is None or step.tokens == 1:
            return used, total
        begun = step.begun_by(now)
        return used + self._needed(begun), total + self._decoding * (begun - 1)

    # A step's beginning

    def _schedule(self, now: float) -> Step | None:
        profile, preemptions = self.profile, self.totals.preemptions
        if self._decoding:
            self._make_room()
        budget = profile.max_num_batched_tokens - self._decoding
        prefills = self._chunks(budget) if self._prefilling else []
        settled = self.totals.preemptions == preemptions  # else the room would go back and forth
        if self.waiting and settled:
            budget -= sum(chunk for _, chunk in prefills)
            prefills += self._admit(budget, now)
        if prefills:
            return Step(now, prefills, 1, self._duration(prefills))
        if not self._decoding:
            return None
        pace = self.pace.itl
        first = profile.decode_s(self._decoding, self._context) * pace
        more = profile.context_token_s * self._decoding * pace
        return Step(now, prefills, self._run_length() if settled else 1, first, more)

    def _duration(self, prefills: Chunks) -> float:
        profile, pace = self.profile, self.pace
        tokens = pairs = 0
        for one, chunk in prefills:
            tokens += chunk
            pairs += chunk * one.prefilled + chunk * chunk // 2
        whole = profile.step_time(tokens, pairs, self._decoding, self._context)
        held_up, self._held_up_s = self._held_up_s, 0.0
        if not self._decoding:
            return whole * pace.ttft + held_up
        decode = profile.decode_s(self._decoding, self._context)
        return decode * pace.itl + (whole - decode) * pace.ttft + held_up

    def _run_length(self) -> int:
        """Return how many steps may be one without changing what anybody sees.

        For steps that take no time that is so in a fine engine too: it saves a benchmark's
        server most of its work.
        """
        if not self._runs:
            return 1
        due = self._due
        while due[0][2].ends_at_tick != due[0][0]:
            heappop(due)  # it left before it finished, or came back since
        steps = due[0][0] - self.clock.ticks
        free = self.cache.free
        # Every sequence needs a block every `block_size` steps: see whether that is enough.
        if free >= self._decoding * (steps // self.profile.block_size + 1):
            return steps
        return self._steps_within(free, steps)

    def _steps_within(self, free: int, most: int) -> int:
        """Return how many steps `free` blocks last, the first of which has its blocks."""
        size, tick = self.profile.block_size, self.clock.ticks
        rounds = free // self._decoding
        steps, free = 1 + rounds * size, free - rounds * self._decoding
        while steps < most and (need := self._crossing[(tick + steps) % size]) <= free:
            steps, free = steps + 1, free - need
        return min(steps, most)

    def _needed(self, steps: int) -> int:
        """Return how many blocks a run's first `steps` steps take that aren't taken yet."""
        size, ahead = self.profile.block_size, self._ahead
        if steps <= ahead:
            return 0
        rounds, rest = divmod(steps - ahead, size)
        crossing, start = self._crossing, (self.clock.ticks + ahead) % size
        end = start + rest
        part = sum(crossing[start:end])
        if end > size:
            part += sum(crossing[: end - size])
        return rounds * self._decoding + part

    def _make_room(self) -> None:
        """Take the blocks of a step's decoding sequences; push out the youngest for them."""
        at = self.clock.ticks % self.profile.block_size
        while (need := self._crossing[at]) and not self.cache.grow(need):
            self._preempt(self.running[-1])
        self._ahead = 1 if self._decoding else 0

    def _chunks(self, budget: int) -> Chunks:
        """Return the next piece of every prompt that is being prefilled, within `budget`."""
        chunks = []
        for one in self._prefilling:
            chunk = min(one.target - one.prefilled, budget)
            if chunk > 0:
                chunks.append((one, chunk))
                budget -= chunk
        return chunks

    def _admit(self, budget: int, now: float) -> Chunks:
        """Start waiting sequences, in order, while there are seats, tokens and blocks.

        Those whose adapter finds no slot are passed over, as vLLM does.
        """
        chunks: Chunks = []
        passed: list[Running] = []
        seats = self.profile.max_num_seqs - len(self.running)
        while self.waiting and budget > 0 and len(chunks) < seats:
            one = self.waiting[0]
            if not self.adapters.admits(one.job.adapter):
                passed.append(self.waiting.popleft())
                continue
            if not self._start(one, now):
                break
            self._seat(self.waiting.popleft())
            chunk = min(one.target - one.prefilled, budget)
            chunks.append((one, chunk))
            budget -= chunk
        self.waiting.extendleft(reversed(passed))
        self._passed = len(passed)
        return chunks

    def _seat(self, one: Running) -> None:
        self.running.append(one)
        self._prefilling.append(one)
        one.seated = True
        if one.job.adapter:
            self._held_up_s += self.adapters.enter(one.job.adapter)

    def _start(self, one: Running, now: float) -> bool:
        """Give a waiting sequence its blocks; False where there's no room."""
        job = one.job
        one.target = job.prompt_tokens + one.settled
        resident = self.cache.resident(job.prefix) * self.profile.block_size
        if not self.cache.take(job.prefix, self._blocks_for(one.target) - len(job.prefix)):
            return False
        one.prefilled = min(resident, one.target - 1)  # the last token's logits are always needed
        if one.admitted_at is None:
            one.admitted_at, one.cached_tokens = now, one.prefilled
            self.totals.prefix_queries += job.prompt_tokens
            self.totals.prefix_hits += one.prefilled
        return True

    # A step's end

    def _end(self, step: Step, progress: list[Progress]) -> None:
        decoders = self._decoding
        if decoders:
            self._pass(step.tokens, step.tokens)
        self._ahead = 0
        for one, chunk in step.prefills:
            if one.seated:  # else aborted
                one.prefilled += chunk
                if one.prefilled >= one.target:
                    self._join(one, step.ends_at, progress)
        if not decoders:
            return
        if self.coarse:
            self._tell_finished(step.ends_at, progress)
        else:
            self._tell_all(step.ends_at, progress)

    def _pass(self, steps: int, begun: int) -> None:
        """Count `steps` steps as done; of the run, `begun` have their blocks then."""
        if begun > self._ahead:
            self.cache.grow(self._needed(begun))
        self._ahead = begun - steps
        self.clock.ticks += steps
        self._context += self._decoding * steps
        self.totals.generated_tokens += self._decoding * steps

    def _settle(self) -> None:
        """Count all steps of a run but the last as done, and make that a step of its own."""
        step = self._step
        if step is not None and (done := step.tokens - 1):
            self._pass(done, step.tokens)
            started_at, first_s = step.end_of(done), step.first_s + step.more_s * done
            self._step = Step(started_at, [], 1, first_s)

    def _join(self, one: Running, at: float, progress: list[Progress]) -> None:
        """Let a prefilled sequence decode; its prompt's last token gave the next one."""
        self._prefilling.remove(one)
        one.settled += 1
        self.totals.generated_tokens += 1
        if one.first_token_at is None:
            one.first_token_at = at
            self.totals.prompt_tokens += one.job.prompt_tokens
        ticks = self.clock.ticks
        one.since = ticks
        self._decoding += 1
        self._context += one.prefilled
        self._crossing[(ticks - one.prefilled) % self.profile.block_size] += 1
        left = one.job.output_tokens - one.settled
        if left and self._runs:
            one.ends_at_tick = ticks + left
            heappush(self._due, (ticks + left, next(self._numbers), one))
        if not self.coarse or one.told == 0 or not left:
            progress.append(self._told(one, at))
        if not left:
            self._drop(one)

    def _tell_all(self, at: float, progress: list[Progress]) -> None:
        ticks, finished = self.clock.ticks, []
        for one in self.running:
            if 0 <= one.since < ticks:
                progress.append(self._told(one, at))
                if one.told >= one.job.output_tokens:
                    finished.append(one)
        for one in finished:
            self._drop(one)

    def _tell_finished(self, at: float, progress: list[Progress]) -> None:
        ticks, due = self.clock.ticks, self._due
        while due and due[0][0] <= ticks:
            tick, _, one = heappop(due)
            if one.ends_at_tick == tick:
                progress.append(self._told(one, at))
                self._drop(one)

    def _told(self, one: Running, at: float) -> Progress:
        first, generated = one.told, one.generated
        tokens = generated - first
        gap = None if one.last_token_at is None else (at - one.last_token_at) / tokens
        one.told, one.last_token_at = generated, at
        return Progress(one, first, tokens, at, gap)

    # Leaving

    def _preempt(self, one: Running) -> None:
        self._drop(one)
        self.waiting.appendleft(one)
        one.preemptions += 1
        self.totals.preemptions += 1

    def _drop(self, one: Running) -> None:
        self.running.remove(one)
        tokens = one.target
        if one.since < 0:
            self._prefilling.remove(one)
        else:
            tokens = one.computed
            self._decoding -= 1
            self._context -= tokens
            self._crossing[(one.since - one.prefilled) % self.profile.block_size] -= 1
            tokens += self._ahead
            one.settled, one.since, one.ends_at_tick = one.generated, -1, -1
        one.seated = False
        job = one.job
        self.cache.release(job.prefix, self._blocks_for(tokens) - len(job.prefix))
        if job.adapter:
            self.adapters.leave(job.adapter)

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.profile.block_size)
