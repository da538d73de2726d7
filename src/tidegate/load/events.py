"""Server-sent events, cut out of a byte stream as it comes."""

from typing import Final

DONE: Final = b"[DONE]"


class EventReader:
    """Collects bytes and gives the data of whole events.

    Enough of the format for what model servers send: one `data:` line an event; comments and
    other fields are skipped.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that end in `data`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
