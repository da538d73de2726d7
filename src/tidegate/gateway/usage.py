"""How long an answer is that comes whole, by its `usage`, without reading the rest of it."""

from typing import Final

_KEY: Final = b'"completion_tokens":'
"""In a text it would stand with its quotes escaped."""
_DIGITS: Final = 12


def output_tokens(piece: bytes) -> int:
    """Return the answer's tokens, if this piece of its body tells them; else 0."""
    at = piece.rfind(_KEY)
    if at < 0:
        return 0
    number = piece[at + len(_KEY) :][:_DIGITS].lstrip()
    length = len(number) - len(number.lstrip(b"0123456789"))
    return int(number[:length] or b"0")
