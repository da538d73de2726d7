"""Records folded by time, arm and kind of request: what workers ship and history keeps.

A request belongs to the block in which it *started*. So at any moment both arms of a block
have been watched for the same time, and neither long answers nor hung ones can tilt the
comparison. `Folder.look` counts what is still running: that it began, its first byte once it
is there, and that it hangs once it is past its deadline. Where the client gave up before, all
that is known of the time to the first byte is that it is longer than the client had waited
(it is right-censored): such waits are kept apart, for whoever has a time to hold them against.

Invariant: merging is associative and commutative, so blocks of many workers, and parts of one
block, may come in any order. Sessions are kept as the smallest hashes (bottom-k sketch: Bar-
Yossef et al. 2002), which a union merges without counting anybody twice.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from tidegate.judge.histogram import add_all, bin_of
from tidegate.judge.record import Check, Record

SKETCH: Final = 64
"""Hashes kept of a block's sessions: up to so many are counted exactly."""
MAX_BLOCKS: Final = 20_000
"""Blocks that a folder holds; requests beyond are counted as lost."""
PROMPT_EDGES: Final = (256, 1024, 4096)
"""Prompt lengths in tokens that divide the strata."""
BYTES_PER_TOKEN: Final = 4

_STARTED: Final = 1
_FIRST: Final = 2
_ALL: Final = _STARTED | _FIRST
_TOO_MANY_REQUESTS: Final = 429
_TIMEOUT: Final = 504
_CLIENT_LEFT: Final = 499


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Which block: when, where, and what kind of request."""

    start: float
    """Seconds since the epoch."""
    scope: str
    """Whose weights split: `namespace/route` and rule."""
    arm: str
    stratum: int
    """As `stratum_of`: requests of one stratum are alike."""


class Block(msgspec.Struct, array_like=True):
    """What happened to the requests of one place. All counts are of requests."""

    place: Place
    span_s: float = 10.0
    requests: int = 0
    answered: int = 0
    """Whose answer began, with a status below 400."""
    ended: int = 0
    """That are over; the rest runs or hangs."""
    server_errors: int = 0
    """5xx but timeouts, and 429: the arm could not serve it."""
    timeouts: int = 0
    hung: int = 0
    """No first byte before the deadline. It stays so, whatever comes later."""
    client_errors: int = 0
    """4xx: what the canary's version no longer accepts."""
    abandoned: int = 0
    """The client left before the first byte."""
    completed: int = 0
    """Answers that ended whole, their client still there."""
    broken: int = 0
    """The answer began and did not end well."""
    empty: int = 0
    """A good answer without any output."""
    truncated: int = 0
    """Cut at the limit of tokens (`finish_reason: length`)."""
    checked: int = 0
    invalid: int = 0
    refused: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    anonymous: int = 0
    """Requests without a session: each is one of its own."""
    anonymous_bad: int = 0
    ttft: dict[int, int] = {}
    """Seconds to the first byte of streamed answers, as `histogram`."""
    itl: dict[int, int] = {}
    """Mean seconds between the events of one answer."""
    per_token: dict[int, int] = {}
    """Seconds of the whole request per output token."""
    output: dict[int, int] = {}
    """Output tokens."""
    sessions: list[int] = []
    """The smallest hashes of sessions, at most `SKETCH`, ascending."""
    bad_sessions: list[int] = []
    """The same of sessions that had an error."""
    left: dict[int, int] = {}
    """Seconds after which clients that wanted a stream left without a first byte."""
    left_anonymous: dict[int, int] = {}
    """The same of requests without a session."""
    left_sessions: dict[int, list[int]] = {}
    """By the same bins: the smallest hashes of the sessions that left then."""

    @property
    def begun(self) -> int:
        """Requests whose first byte, or the lack of it, is known."""
        return self.answered + self.errors + self.client_errors + self.abandoned

    @property
    def finished(self) -> int:
        """Answers that began and are over, whole or broken."""
        return self.completed + self.broken

    @property
    def errors(self) -> int:
        """Requests that the arm failed before their first byte."""
        return self.server_errors + self.timeouts + self.hung

    @property
    def bad(self) -> int:
        """Requests that were failed at any time."""
        return self.errors + self.broken


_SUMS: Final = tuple(name for name, kind in Block.__annotations__.items() if kind is int)
_HISTOGRAMS: Final = ("ttft", "itl", "per_token", "output", "left", "left_anonymous")


def merge(one: Block, other: Block) -> Block:
    """Return both blocks of one place as one."""
    merged = msgspec.structs.replace(
        one,
        sessions=smallest(one.sessions, other.sessions),
        bad_sessions=smallest(one.bad_sessions, other.bad_sessions),
        left_sessions={
            index: smallest(one.left_sessions.get(index, []), other.left_sessions.get(index, []))
            for index in one.left_sessions.keys() | other.left_sessions.keys()
        },
        **{name: dict(getattr(one, name)) for name in _HISTOGRAMS},
    )
    for name in _SUMS:
        setattr(merged, name, getattr(one, name) + getattr(other, name))
    for name in _HISTOGRAMS:
        add_all(getattr(merged, name), getattr(other, name))
    return merged


def merge_all(blocks: Iterable[Block]) -> dict[Place, Block]:
    """Return the blocks merged by place."""
    merged: dict[Place, Block] = {}
    for block in blocks:
        there = merged.get(block.place)
        merged[block.place] = block if there is None else merge(there, block)
    return merged


def smallest(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Return the sketch of the union of two sketches."""
    return sorted({*one, *other})[:SKETCH]


def stratum_of(record: Record) -> int:
    """Return which requests this one is like: by prompt length, cached or not, streamed or not."""
    tokens = record.prompt_tokens or record.request_bytes // BYTES_PER_TOKEN
    length = bisect_right(PROMPT_EDGES, tokens)
    cached = 2 * record.cached_tokens >= tokens > 0
    # What was asked for and not what came: a stratum must not change while the request runs.
    return 4 * length + 2 * cached + record.asked_stream


def is_streamed(stratum: int) -> bool:
    """Whether the requests of a stratum asked for a stream."""
    return stratum % 2 == 1


def scope_of(route: str, rule: str) -> str:
    """Return the scope of a route's (`namespace/name`) rule."""
    return f"{route}/{rule}"


class Folder:
    """Folds records into blocks until they are taken. One a worker; knows no clock."""

    def __init__(self, *, span_s: float = 10.0, deadline_s: float = 30.0) -> None:
        """Fold into blocks of `span_s`; without a first byte for `deadline_s`, it hangs."""
        self._span_s = span_s
        self._deadline_s = deadline_s
        self._blocks: dict[tuple[float, str, str, str, int], Block] = {}
        self.lost = 0
        """Requests that there was no room for."""

    def fold(self, record: Record) -> None:
        """Count a request that ended. One without an arm is nobody's."""
        if not record.arm:
            return
        blocks = self._blocks_of(record)
        self._count(blocks, record, record.duration_s, over=True)
        for block in blocks:
            block.ended += 1
            if record.status < 400:
                _end(block, record)

    def look(self, running: Iterable[Record], now: float) -> None:
        """Count of the requests under way what is certain at `now` (seconds since the epoch).

        Call it with all of them before each `take`: else a failure is counted before the
        successes that began beside it. It notes in a record what it has counted; how often a
        request was looked at changes no count in the end.
        """
        for record in running:
            if record.arm and record.noted != _ALL:
                blocks = self._blocks_of(record)
                self._count(blocks, record, now - record.started_at, over=False)

    def take(self) -> list[Block]:
        """Return what was folded since the last call, and forget it."""
        taken = list(self._blocks.values())
        self._blocks = {}
        return taken

    def _blocks_of(self, record: Record) -> tuple[Block, ...]:
        """Return the blocks of the splits that drew for a request: of pools, and of models."""
        block = self._block(record, record.route, record.rule, record.arm)
        if not record.split:
            return (block,)
        return block, self._block(record, record.split, "", record.target)

    def _block(self, record: Record, route: str, rule: str, arm: str) -> Block:
        start = record.started_at // self._span_s * self._span_s
        key = (start, route, rule, arm, stratum_of(record))
        block = self._blocks.get(key)
        if block is None:
            block = Block(Place(start, scope_of(route, rule), arm, key[-1]), self._span_s)
            if len(self._blocks) < MAX_BLOCKS:
                self._blocks[key] = block
            else:
                self.lost += 1
        return block

    def _count(self, blocks: tuple[Block, ...], record: Record, age: float, *, over: bool) -> None:
        """Count that the request began, and what its first byte, or the lack of it, says."""
        if not record.noted & _STARTED:
            record.noted |= _STARTED
            for block in blocks:
                block.requests += 1
                if record.session:
                    _keep(block.sessions, record.session)
                else:
                    block.anonymous += 1
        if record.noted & _FIRST:
            return
        waited = age if record.ttft_s is None else record.ttft_s
        if waited <= self._deadline_s and not over and record.ttft_s is None:
            return
        record.noted |= _FIRST
        for block in blocks:
            self._first(block, record, waited)

    def _first(self, block: Block, record: Record, waited: float) -> None:
        if waited > self._deadline_s:
            block.hung += 1
            _add(block.ttft, self._deadline_s)
            _count_bad(block, record)
        elif _begun(block, record, waited):
            _count_bad(block, record)


def _begun(block: Block, record: Record, waited: float) -> bool:
    """Count how the answer began; return whether the arm failed the request."""
    status = record.status
    if status < 400 and not (record.client_gone and record.ttft_s is None):
        block.answered += 1
        if record.streamed and record.ttft_s is not None:
            _add(block.ttft, record.ttft_s)
        return False
    if status < 400 or status == _CLIENT_LEFT:
        block.abandoned += 1
        if record.asked_stream and record.ttft_s is None:
            _leave(block, record, waited)
        return False
    if status == _TIMEOUT:
        block.timeouts += 1
    elif status >= 500 or status == _TOO_MANY_REQUESTS:
        block.server_errors += 1
    else:
        block.client_errors += 1
        return False
    return True


def _leave(block: Block, record: Record, waited: float) -> None:
    """Count a client that had waited so many seconds for the first byte of a stream."""
    _add(block.left, waited)
    if record.session:
        _keep(block.left_sessions.setdefault(bin_of(waited), []), record.session)
    else:
        _add(block.left_anonymous, waited)


def _end(block: Block, record: Record) -> None:
    """Count how an answer ended."""
    if record.broken:
        block.broken += 1
        _count_bad(block, record)
    if record.broken or record.client_gone:
        return
    block.completed += 1
    tokens = record.output_tokens or record.events
    if tokens:
        _add(block.output, tokens)
        _add(block.per_token, record.duration_s / tokens)
        block.output_tokens += tokens
    elif record.streamed or not record.response_bytes:
        block.empty += 1
    if record.events > 1 and record.itl_sum_s > 0:
        _add(block.itl, record.itl_sum_s / (record.events - 1))
    block.prompt_tokens += record.prompt_tokens
    block.cached_tokens += record.cached_tokens
    block.truncated += record.finish == "length"
    if record.checked:
        block.checked += 1
        block.invalid += bool(record.failed_checks & Check.INVALID)
        block.refused += bool(record.failed_checks & Check.REFUSED)


def _add(counts: dict[int, int], value: float) -> None:
    index = bin_of(value)
    counts[index] = counts.get(index, 0) + 1


def _count_bad(block: Block, record: Record) -> None:
    if not record.session:
        block.anonymous_bad += 1
    else:
        _keep(block.bad_sessions, record.session)


def _keep(sketch: list[int], session: int) -> None:
    """Keep `session` if it is among the smallest."""
    if len(sketch) == SKETCH and session >= sketch[-1]:
        return
    at = bisect_left(sketch, session)
    if at < len(sketch) and sketch[at] == session:
        return
    sketch.insert(at, session)
    del sketch[SKETCH:]


def distinct(sketch: Sequence[int]) -> float:
    """Return how many sessions a sketch stands for: exact below `SKETCH`, else within 13 %."""
    if len(sketch) < SKETCH:
        return float(len(sketch))
    return (SKETCH - 1) * 2.0**64 / max(1, sketch[-1])
