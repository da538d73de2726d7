"""Find a few series in a Prometheus text exposition without reading the rest.

A model server exposes thousands of lines and a pick needs a handful, so this searches for
names instead of parsing lines. It is tolerant: what is no valid series is stepped over, and
no input raises. Format: "Exposition formats" of the Prometheus documentation, text 0.0.4.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_SERIES: Final = 10_000
"""Series read of one name: a broken server must not hold the event loop for long."""

_REST: Final = re.compile(
    rb"""[ \t]*+
    (?:\{(?P<labels>(?:[^"}\n]|"(?:[^"\\\n]|\\[^\n])*+")*+)\})?+
    [ \t]*+(?P<value>[^\s]++)""",
    re.VERBOSE,
)
"""What follows a name. Possessive throughout: no input makes it backtrack."""

_NEWLINE: Final = ord("\n")
_LABEL: Final = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\.)*+)"')
_ESCAPED: Final = re.compile(r'\\([\\"n])')


class Series(NamedTuple):
    """One line: the labels as they stand between the braces, and the value."""

    labels: bytes
    value: float


def find_series(text: bytes, name: bytes) -> Iterator[Series]:
    """Yield the series called exactly `name`, in their order, at most `MAX_SERIES`."""
    position = 0
    for _ in range(MAX_SERIES):
        position = text.find(name, position)
        if position < 0:
            return
        begins_line = position == 0 or text[position - 1] == _NEWLINE
        position += len(name)
        series = _parse(text, position) if begins_line else None
        if series:
            yield series


def parse_labels(raw: bytes) -> dict[str, str]:
    """Return the labels of a series by name; bytes that are no UTF-8 are replaced."""
    return {
        name.decode(): _ESCAPED.sub(_unescaped, value.decode(errors="replace"))
        for name, value in _LABEL.findall(raw)
    }


def _parse(text: bytes, position: int) -> Series | None:
    rest = _REST.match(text, position)
    # Without a blank or a brace the name goes on: it is another one that begins alike.
    if rest is None or text[position] not in b" \t{":
        return None
    try:
        return Series(rest["labels"] or b"", float(rest["value"]))
    except ValueError:
        return None


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
