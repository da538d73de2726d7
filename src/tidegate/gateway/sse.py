"""Counting the events of a `text/event-stream` as it passes.

Only lines that begin with `data:` count, and JSON never holds a raw newline, so six bytes
tell an event. Nothing is parsed or held back.
"""

from bisect import bisect_left
from typing import Final

from tidegate.judge.record import ITL_BOUNDS, Record

MARK: Final = b"\ndata:"
DONE: Final = b"\ndata: [DONE]"
ABORTED: Final = b'"finish_reason":"abort"'
"""How vLLM ends the answers that it cuts when it is stopped: with 200, and `[DONE]`."""
_LINES: Final = 4
_KEEP: Final = len(DONE) - 1


class EventMeter:
    """Notes when events of one stream pass, into the stream's record."""

    __slots__ = ("_before", "_bucket", "_last", "_latest", "_record", "_tail", "done")

    def __init__(self, record: Record) -> None:
        self._record = record
        self._tail = b"\n"
        self._last: float | None = None
        self._bucket: int | None = None
        self._latest = self._before = b""  # the last two pieces: an end, and maybe the usage
        self.done = False
        record.itl_counts = [0] * (len(ITL_BOUNDS) + 1)

    def feed(self, chunk: bytes, at: float) -> None:
        """Count the events that begin in `chunk`, which arrived `at` (seconds, any clock)."""
        text = self._tail + chunk
        count = text.count(MARK) - self._tail.count(MARK)
        if not self.done and DONE in text:
            self.done = True
            count -= 1
            if any(ABORTED in piece for piece in (self._before, self._latest, chunk)):
                self._record.finish = "abort"
        self._latest, self._before = chunk, self._latest
        self._tail = text[-_KEEP:]
        if count > 0:
            self._note(count, at)
        elif count < 0:
            # `[DONE]` came in pieces, and its beginning was taken for an event.
            self._take_back()

    def feed_chunk(self, data: bytes, at: float) -> None:
        """Count the events of an HTTP chunk, framing included."""
        # Nearly always one: the lines of the chunk's head, of the event and of the chunk's end,
        # and an empty one.
        start = data.find(b"\n") + 1
        if (
            data.count(b"\n") == _LINES
            and data.startswith(b"data: {", start)
            and data.endswith(b"\n\n\r\n")
            and self._tail.endswith(b"\n")
        ):
            self._tail = b"\n"
            self._latest, self._before = data, self._latest
            self._note(1, at)
        else:
            self.feed(data[start:-2], at)

    def _take_back(self) -> None:
        record = self._record
        record.events -= 1
        if record.itl_counts is not None and self._bucket is not None:
            record.itl_counts[self._bucket] -= 1

    def _note(self, count: int, at: float) -> None:
        record = self._record
        record.events += count
        counts = record.itl_counts
        if counts is None:
            return
        last = self._last
        self._last = at
        if last is None:
            # The first event is TTFT, no gap; what came with it followed without one.
            counts[0] += count - 1
            return
        gap = at - last
        self._bucket = bisect_left(ITL_BOUNDS, gap)
        counts[self._bucket] += 1
        counts[0] += count - 1
        record.itl_sum_s += gap
