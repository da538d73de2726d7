"""What is noted of an answer that comes whole, as it passes: how long it is, whether it was cut."""

from typing import Final

from tidegate.gateway.sse import ABORTED
from tidegate.judge.record import Record

_TOKENS: Final = b'"completion_tokens":'
"""In a text it would stand with its quotes escaped."""
_DIGITS: Final = 12


def note_piece(record: Record, piece: bytes) -> None:
    """Note what a piece of a body tells; that a word is cut in two by its end is rare."""
    at = piece.rfind(_TOKENS)
    if at >= 0:
        number = piece[at + len(_TOKENS) :][:_DIGITS].lstrip()
        length = len(number) - len(number.lstrip(b"0123456789"))
        record.output_tokens = int(number[:length] or b"0")
    if ABORTED in piece:
        record.finish = "abort"
