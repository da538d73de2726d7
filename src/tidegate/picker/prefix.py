"""Which endpoint's prefix cache probably holds how much of a prompt.

A prompt is hashed in blocks, each hash over the one before, so that one hash stands for all of
a prefix. Where a prompt goes, its prefixes are noted. Match counting is contiguous for each
endpoint: the first prefix that it lacks ends its match.

**Blocks grow.** The first `FINE` blocks have the configured size; from there on it doubles every
`OCTAVE` blocks. A match is never off by more than a sixteenth of itself, and 131,072 tokens
are 128 hashes instead of 2,048: cost and memory grow with the logarithm of the prompt.

**Endpoints are bits.** A prefix's holders are one integer, bit n for slot n, so following the
match of a thousand endpoints is one `&` a block.

**Memory is bounded** as the servers' is, by what was used last, in two generations: what is used
goes to the young one; when that is full, the old one is forgotten and the young one is old. So
what is remembered of an endpoint is between a half and the whole of its cache, and keeping that
order costs a set look-up a prompt and not a list's for each block.

Invariant: `_holders[h]` has bit n exactly if `h` is in one of slot n's two sets.
"""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from xxhash import xxh3_64_intdigest

from tidegate.picker.vectors import Vector

FINE: Final = 32
"""Blocks of the configured size."""
OCTAVE: Final = 16
"""Blocks of each size after that."""
FEW: Final = 12
"""Up to so many endpoints are marked one by one; that is cheaper than unpacking all bits."""


class PrefixSettings(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """How prompts are cut, and how much is remembered of them."""

    auto_tune: bool = True
    """Whether what a server says of its KV cache's size replaces `lruCapacityPerServer`."""
    block_size_tokens: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Tokens of a block. After the first 32 blocks it doubles every 16 blocks."""
    block_size: Annotated[int, Meta(ge=1)] | None = None
    """Older name, in characters; a quarter of it counts, where it is set."""
    max_prefix_blocks_to_match: Annotated[int, Meta(ge=1, le=100_000)] = 2048
    """How much of a prompt is looked at, in blocks of `blockSizeTokens`."""
    lru_capacity_per_server: Annotated[int, Meta(ge=1, le=10_000_000)] = 31_250
    """Blocks of `blockSizeTokens` that a server's KV cache is taken to hold."""
    max_entries: Annotated[int, Meta(ge=1024, le=50_000_000)] = 2_000_000
    """Prefixes remembered at most, all servers together: 100 to 300 bytes each."""

    @property
    def tokens(self) -> int:
        """Tokens of the first blocks."""
        return max(1, self.block_size // 4) if self.block_size else self.block_size_tokens

    @property
    def capacity(self) -> int:
        """Tokens that a server's cache is taken to hold."""
        return self.tokens * self.lru_capacity_per_server


def block_ends(block: int, most: int) -> list[int]:
    """Return where the blocks of a prompt end, in tokens, up to `most` tokens."""
    ends, at, count = [], 0, 0
    while at + block <= most:
        at += block
        ends.append(at)
        count += 1
        if count >= FINE and (count - FINE) % OCTAVE == 0:
            block *= 2
    return ends


class Blocks:
    """Cuts prompts, and says how many tokens a number of blocks has."""

    __slots__ = ("_byte_ends", "tokens")

    def __init__(self, settings: PrefixSettings, *, bytes_per_token: int = 4) -> None:
        most = settings.tokens * settings.max_prefix_blocks_to_match
        self.tokens: list[int] = block_ends(settings.tokens, most)
        """`tokens[n]` are in the first n + 1 blocks."""
        self._byte_ends = [end * bytes_per_token for end in self.tokens]

    def chain(self, text: bytes, seed: int, start: int = 0) -> list[int]:
        """Return the hashes of `text`'s prefixes from `start` on; a last partial block has none.

        Args:
            text: The prompt, in a form that only grows while a conversation does.
            seed: Of whatever makes equal prompts different: model, adapter, cache salt, tools.
            start: Where the prompt begins in `text`, in bytes.

        """
        hashes: list[int] = []
        room, begin, value = len(text) - start, start, seed
        for end in self._byte_ends:
            if end > room:
                break
            end += start
            value = xxh3_64_intdigest(text[begin:end], value)
            hashes.append(value)
            begin = end
        return hashes


class PrefixIndex:
    """What each slot's cache probably holds."""

    __slots__ = (
        "_capacity", "_entries", "_holders", "_old", "_settings", "_young", "_young_tokens",
        "tokens", "weights",
    )  # fmt: skip

    def __init__(self, settings: PrefixSettings, tokens: Sequence[int]) -> None:
        """Make an empty index for chains whose first n + 1 hashes stand for `tokens[n]` tokens."""
        self._settings = settings
        self.tokens = tokens
        self.weights = [end - begin for begin, end in zip([0, *tokens], tokens, strict=False)]
        self._holders: dict[int, int] = {}
        self._young: list[set[int]] = []
        self._old: list[set[int]] = []
        self._young_tokens: list[int] = []
        self._capacity: list[int] = []
        self._entries = settings.max_entries

    def __len__(self) -> int:
        """Return how many pairs of a prefix and an endpoint are remembered, at most."""
        return sum(map(len, self._young)) + sum(map(len, self._old))

    @property
    def prefixes(self) -> int:
        """How many different prefixes are remembered."""
        return len(self._holders)

    def resize(self, slots: int) -> None:
        """Have room for `slots` endpoints; there may only be more than before."""
        for _ in range(slots - len(self._young)):
            self._young.append(set())
            self._old.append(set())
            self._young_tokens.append(0)
            self._capacity.append(self._settings.capacity)
        self._entries = max(64, self._settings.max_entries // max(1, slots))

    def set_capacity(self, slot: int, tokens: int) -> None:
        """Take what an endpoint says of its cache's size, if the settings say so."""
        if tokens and self._settings.auto_tune:
            self._capacity[slot] = tokens

    def match(self, chain: Sequence[int]) -> Vector:
        """Return how many tokens of the prompt each slot's cache holds; shape (slots,)."""
        matched = np.zeros(len(self._young))
        find = self._holders.get
        alive = find(chain[0], 0) if chain else 0
        if not alive:
            return matched
        depth = 0
        for key in chain[1:]:
            now = alive & find(key, 0)
            if now != alive:
                self._mark(matched, alive ^ now, depth)
                if not now:
                    return matched
                alive = now
            depth += 1
        self._mark(matched, alive, depth)
        return matched

    def match_one(self, slot: int, chain: Sequence[int]) -> int:
        """Return how many tokens of the prompt one slot's cache holds."""
        young, old = self._young[slot], self._old[slot]
        for depth, key in enumerate(chain):
            if key not in young and key not in old:
                return self.tokens[depth - 1] if depth else 0
        return self.tokens[len(chain) - 1] if chain else 0

    def note(self, slot: int, chain: Sequence[int], start: int = 0) -> int:
        """Note that a prompt goes to `slot`; return where the part of its chain begins that is new.

        `chain` may be the rest of a chain, from its hash `start` on.
        """
        young = self._young[slot]
        if young.issuperset(chain):
            return start + len(chain)
        bit, holders, weights = 1 << slot, self._holders, self.weights
        first, added = -1, 0
        for depth, key in enumerate(chain, start):
            if key not in young:
                if first < 0:
                    first = depth
                young.add(key)
                added += weights[depth]
                holders[key] = holders.get(key, 0) | bit
        self._young_tokens[slot] += added
        full = self._young_tokens[slot] * 2 > self._capacity[slot]
        if full or len(young) * 2 > self._entries:
            self._turn(slot)
        return first

    def forget(self, slot: int) -> None:
        """Forget everything of a slot: its server is gone, or began anew."""
        self._turn(slot)
        self._turn(slot)

    def _turn(self, slot: int) -> None:
        """Make the young generation the old one."""
        young, holders, bit = self._young[slot], self._holders, 1 << slot
        for key in self._old[slot] - young:
            rest = holders[key] & ~bit
            if rest:
                holders[key] = rest
            else:
                del holders[key]
        self._old[slot] = young
        self._young[slot] = set()
        self._young_tokens[slot] = 0

    def _mark(self, matched: Vector, mask: int, depth: int) -> None:
        """Write the tokens of the first `depth` + 1 blocks for the slots of `mask`."""
        tokens = self.tokens[depth]
        if mask.bit_count() > FEW:
            size = len(matched)
            raw = np.frombuffer(mask.to_bytes((size + 7) // 8, "little"), np.uint8)
            matched[np.unpackbits(raw, count=size, bitorder="little").view(np.bool_)] = tokens
            return
        while mask:
            low = mask & -mask
            matched[low.bit_length() - 1] = tokens
            mask ^= low
