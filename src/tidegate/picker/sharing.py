"""What the workers of one gateway tell each other, so that they pick as one would.

Each worker says what it has in flight at each endpoint, what prompts went where, and what its
scrapes saw. Counts are absolute and said again from time to time, so a lost message is healed by
the next; prefixes are hints, and a lost one costs a cache hit. Nothing is asked, nobody waits.

    out: take() -> messages for all others          in: hear(message, now)

How messages travel is not known here (`gateway.mesh`, or a list in a simulation). Each endpoint
is scraped by one of the workers: `owner` says by which, from the names alone.

Invariant: an endpoint's `siblings` is the sum of what the workers that are alive said last.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Final
from zlib import crc32

import msgspec

from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.state import (
    EndpointState,
    Event,
    Listed,
    Model,
    Sample,
    ScrapeFailed,
    Shared,
)

SILENT_AFTER_S: Final = 1.0
"""A worker that said nothing for so long is gone, and what it had in flight with it."""
MESSAGE_BYTES: Final = 48_000
"""About how long a message gets; a datagram must fit into a socket's buffer."""
MANY: Final = 1_000
"""Endpoints' loads in one message."""
REPEATS: Final = 3
"""Whole messages that say of an endpoint that there is nothing more."""

Load = tuple[str, int, int, int]
"""Address, requests in flight, prompt tokens to compute, tokens."""
Prefix = tuple[str, str, int, bytes]
"""Pool, address, how many hashes of the chain are left out, the others (64 bits each)."""


class Message(msgspec.Struct, array_like=True, frozen=True):
    """One message of a worker."""

    sender: str
    loads: list[Load] = []
    prefixes: list[Prefix] = []
    seen: list[tuple[str, Sample]] = []
    listed: list[tuple[str, tuple[Model, ...]]] = []
    failed: list[tuple[str, str]] = []
    lists: list[str] = []
    """Endpoints whose models somebody wants to have listed anew."""
    leaving: bool = False
    """The worker ends: don't wait for it to fall silent."""


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Message).decode


def owner(address: str, workers: Sequence[str]) -> str:
    """Return which of `workers` scrapes an endpoint: of a set that changes, few change hands."""
    key = address.encode()
    return max(workers, key=lambda worker: (crc32(key, crc32(worker.encode())), worker))


class _Worker:
    """What another worker said."""

    __slots__ = ("heard_at", "loads")

    def __init__(self) -> None:
        self.heard_at = 0.0
        self.loads: dict[str, Shared] = {}


class Sharing:
    """One worker's part."""

    def __init__(
        self,
        name: str,
        *,
        wake: Callable[[], None],
        note: Callable[[str, Event], None],
        refresh: Callable[[Iterable[str]], None],
    ) -> None:
        """Make the part of the worker called `name`.

        Args:
            name: Different from all others'.
            wake: Called when there is something to say and there was nothing before.
            note: Takes what other workers' scrapes saw, by address.
            refresh: Has those of these endpoints' models listed that we scrape.

        """
        self._refresh = refresh
        self.name = name
        self._wake = wake
        self._note = note
        self._workers: dict[str, _Worker] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._pools: dict[str, Pool] = {}
        self._numbers = count()
        self._numbered: dict[int, str] = {}
        self._dirty: dict[int, EndpointState] = {}
        self._said: dict[str, Load] = {}
        self._repeats: dict[str, int] = {}
        self._seen: dict[str, Sample] = {}
        self._failed: dict[str, str] = {}
        self._lists: dict[str, tuple[Model, ...]] = {}
        self._listed: set[str] = set()
        self._wanted: list[str] = []
        self._asked: set[str] = set()
        self._awake = self._hearing = False

    @property
    def workers(self) -> list[str]:
        """All that are alive, this one too, in a fixed order."""
        return sorted([self.name, *self._workers])

    def set_pools(self, endpoints: Mapping[str, Endpoint], pools: Mapping[str, Pool]) -> None:
        """Speak of these from now on: endpoints by address, pools by identity."""
        before, self._endpoints, self._pools = self._endpoints, dict(endpoints), dict(pools)
        for address, endpoint in before.items():
            if endpoints.get(address) is not endpoint:
                self._forget(endpoint)
        self._hearing = True
        for address, endpoint in endpoints.items():
            if before.get(address) is not endpoint:
                number = next(self._numbers)
                self._numbered[number] = address
                endpoint.seats += ((self, number),)
                self._sum(address, 0.0)
        self._hearing = False
        self._listen()

    def _forget(self, endpoint: Endpoint) -> None:
        """Speak no more of an endpoint."""
        for seat in endpoint.seats:
            if seat[0] is self:
                del self._numbered[seat[1]]
        endpoint.seats = tuple(seat for seat in endpoint.seats if seat[0] is not self)
        self._said.pop(endpoint.address, None)
        self._repeats.pop(endpoint.address, None)
        self._lists.pop(endpoint.address, None)
        self._listed.discard(endpoint.address)
        self._asked.discard(endpoint.address)
        for worker in self._workers.values():
            worker.loads.pop(endpoint.address, None)

    # what happens here

    def see_load(self, slot: int, state: EndpointState) -> None:
        """Say soon what this worker has in flight at an endpoint; `slot` is its number here."""
        if self._workers and not self._hearing:
            self._dirty[slot] = state
            self.rouse()

    def see_all(self, slot: int, state: EndpointState) -> None:
        """Nothing new: samples go by `scraped`."""

    def scraped(self, address: str, event: Event) -> None:
        """Say soon what a scrape of this worker saw."""
        match event:
            case Listed(models):
                if self._lists.get(address) == models and address not in self._asked:
                    return
                self._asked.discard(address)
                self._lists[address] = models
                self._listed.add(address)
            case Sample() if self._workers:
                self._seen[address] = event
            case ScrapeFailed(reason) if self._workers:
                self._failed[address] = reason
            case _:
                return
        if self._workers:
            self.rouse()

    def ask_lists(self, addresses: Iterable[str]) -> None:
        """Have other workers list the models of these endpoints anew, and say so."""
        if self._workers:
            self._wanted += addresses
            self.rouse()

    def rouse(self) -> None:
        """Have `take` called soon."""
        if not self._awake:
            self._awake = True
            self._wake()

    def take(self, *, whole: bool = False, leaving: bool = False) -> list[bytes]:
        """Return what is to be said to all others; nothing is said twice.

        `whole`: say all that is in flight, and that we are here, even if nothing changed.
        """
        self._awake = False
        loads = self._all_loads() if whole else self._new_loads()
        messages = [Message(self.name, listed=[(a, self._lists[a])]) for a in self._listed]
        seen, failed = list(self._seen.items()), list(self._failed.items())
        lists, self._wanted = self._wanted, []
        if whole or leaving or loads or seen or failed or lists:
            messages.append(Message(self.name, loads[:MANY], [], seen, [], failed, lists, leaving))
        rest = range(MANY, len(loads), MANY)
        messages += [Message(self.name, loads[begin : begin + MANY]) for begin in rest]
        messages += [Message(self.name, prefixes=some) for some in self._prefixes()]
        self._dirty, self._seen, self._failed, self._listed = {}, {}, {}, set()
        return [_ENCODE(one) for one in messages]

    # what others say

    def hear(self, data: bytes, now: float) -> bool:
        """Take a message; return whether there is now another set of workers.

        A message that makes no sense is ignored: its sender is of another version.
        """
        try:
            message = _DECODE(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        if message.sender == self.name:
            return False
        if message.leaving:
            return self._drop(message.sender)
        known = self._workers.get(message.sender)
        worker = known or _Worker()
        worker.heard_at = now
        self._workers[message.sender] = worker
        self._hearing = True
        try:
            self._take_in(worker, message, now)
        finally:
            self._hearing = False
        if known is None:
            self._listed.update(self._lists)  # it has seen nothing yet
            self._listen()
        return known is None

    def expire(self, now: float) -> bool:
        """Forget the workers that fell silent; return whether there were any."""
        silent = [n for n, one in self._workers.items() if now - one.heard_at > SILENT_AFTER_S]
        dropped = [self._drop(name) for name in silent]
        return any(dropped)

    def _take_in(self, worker: _Worker, message: Message, now: float) -> None:
        for address, in_flight, prefill, tokens in message.loads:
            worker.loads[address] = Shared(in_flight, prefill, tokens)
            self._sum(address, now)
        for address, sample in message.seen:
            self._note(address, sample)
        for address, models in message.listed:
            self._note(address, Listed(models))
        for address, reason in message.failed:
            self._note(address, ScrapeFailed(reason))
        if message.lists:
            self._asked.update(message.lists)
            self._refresh(message.lists)
        for identity, address, start, packed in message.prefixes:
            self._take_prefix(identity, address, start, packed)

    def _take_prefix(self, identity: str, address: str, start: int, packed: bytes) -> None:
        pool, endpoint = self._pools.get(identity), self._endpoints.get(address)
        if pool is None or endpoint is None or pool.prefix is None:
            return
        slot = pool.slot_of(endpoint)
        hashes = array("Q", packed[: len(packed) // 8 * 8]).tolist()
        if slot is not None and start + len(hashes) <= len(pool.prefix.tokens):
            pool.prefix.note(slot, hashes, start)

    def _drop(self, name: str) -> bool:
        worker = self._workers.pop(name, None)
        if worker is None:
            return False
        self._hearing = True
        for address in worker.loads:
            self._sum(address, worker.heard_at)
        self._hearing = False
        self._listen()
        return True

    def _sum(self, address: str, now: float) -> None:
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            return
        said = [w.loads[address] for w in self._workers.values() if address in w.loads]
        total = Shared(
            sum(one.in_flight for one in said),
            sum(one.prefill for one in said),
            sum(one.tokens for one in said),
        )
        if total != endpoint.state.siblings:
            endpoint.note(total, now)

    def _listen(self) -> None:
        """Have the pools keep what prompts went where, if somebody wants to know."""
        for pool in self._pools.values():
            pool.news = (pool.news or []) if self._workers else None

    # what is said

    def _new_loads(self) -> list[Load]:
        known = self._numbered
        changed = [(number, state) for number, state in self._dirty.items() if number in known]
        loads = [_load(known[number], state) for number, state in changed]
        loads = [one for one in loads if one != self._said.get(one[0], (one[0], 0, 0, 0))]
        self._said.update((one[0], one) for one in loads)
        self._repeats.update((one[0], REPEATS) for one in loads)
        return loads

    def _all_loads(self) -> list[Load]:
        loads = [_load(address, one.state) for address, one in self._endpoints.items()]
        loads = [one for one in loads if any(one[1:]) or one[0] in self._repeats]
        self._said.update((one[0], one) for one in loads)
        # That there is nothing more must be heard too, so it is said more than once.
        left = {address: left - 1 for address, left in self._repeats.items() if left > 1}
        self._repeats = left | {one[0]: REPEATS for one in loads if any(one[1:])}
        return loads

    def _prefixes(self) -> Iterator[list[Prefix]]:
        """Yield what prompts went where, in parts of about `MESSAGE_BYTES`."""
        part: list[Prefix] = []
        size = 0
        for identity, pool in self._pools.items():
            for slot, start, hashes in pool.news or ():
                endpoint = pool.endpoints[slot]
                if endpoint is not None:
                    part.append((identity, endpoint.address, start, array("Q", hashes).tobytes()))
                    size += 8 * len(hashes) + 100
                if size > MESSAGE_BYTES:
                    yield part
                    part, size = [], 0
            if pool.news:
                pool.news = []
        if part:
            yield part


def _load(address: str, state: EndpointState) -> Load:
    return (address, state.in_flight, state.prefill, state.tokens)
