"""Tokens and words: prompts become token counts and block hashes, answers are made of words.

A token is four bytes of UTF-8, near enough to what tokenizers give for English. An answer is
a fixed function of seed, model and prompt, one word a token, so the same question to the same
simulator has the same answer, as at temperature 0.
"""

from hashlib import blake2b
from typing import Final

BYTES_PER_TOKEN: Final = 4

_VOCABULARY: Final = (
    "a all and are as at back be bridge but by calm canal come day deep down each ebb every "
    "far fill flow for from gate go harbour high in is it keep land level light lock long low "
    "moon near of on one open out over rise river run sea shore slow so still tide time to turn "
    "under water way wind with"
)
WORDS: Final = tuple(f" {word}" for word in _VOCABULARY.split())
"""The vocabulary of answers: 64 words, so a word is six bits of a number."""

_MASK: Final = (1 << 64) - 1
# Knuth's MMIX generator; its high bits are good enough for words.
_MULTIPLIER: Final = 6364136223846793005
_INCREMENT: Final = 1442695040888963407


def count_tokens(data: bytes) -> int:
    """Return how many tokens a prompt has; an empty one still has one."""
    return max(1, -(-len(data) // BYTES_PER_TOKEN))


def token_ids(data: bytes) -> list[int]:
    """Return a prompt's tokens as numbers: its bytes, four at a time."""
    return [
        int.from_bytes(data[start : start + BYTES_PER_TOKEN], "little")
        for start in range(0, len(data), BYTES_PER_TOKEN)
    ]


def blocks_of(data: bytes, block_size: int, salt: str) -> tuple[int, ...]:
    """Return a hash for each full block of a prompt, chained over all before it.

    Args:
        data: The prompt.
        block_size: Tokens a block.
        salt: What doesn't share blocks with others: the model's name.

    """
    size = block_size * BYTES_PER_TOKEN
    chain = hash(salt)
    blocks = []
    for end in range(size, len(data) + 1, size):
        chain = hash((chain, data[end - size : end]))
        blocks.append(chain)
    return tuple(blocks)


def point_of(data: bytes, salt: str) -> int:
    """Return where a prompt's answer starts, in [0, 2**64)."""
    key = salt.encode()[:64]
    return int.from_bytes(blake2b(data, digest_size=8, key=key).digest(), "little")


def answer(point: int, tokens: int) -> list[str]:
    """Return the first `tokens` words of the answer that starts at `point`."""
    words = []
    for _ in range(tokens):
        point = (point * _MULTIPLIER + _INCREMENT) & _MASK
        words.append(WORDS[point >> 58])
    return words


def logprob(point: int, index: int) -> float:
    """Return how likely the answer's word at `index` was said to be, in (-2, 0]."""
    mixed = (point ^ (index * _INCREMENT)) * _MULTIPLIER & _MASK
    return -(mixed >> 54) / 512
