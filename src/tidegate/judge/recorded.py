"""Requests as JSON lines: what the gateway and the load generator record, and replays read.

A line is one request: numbers and names, never prompts, answers or what clients call things.
Whoever has logs of their own writes the same fields; only `started_at` and `duration_s` must be
there. Unknown fields are passed over.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import msgspec

from tidegate.api.errors import TidegateError
from tidegate.judge.record import Record


class RecordedError(TidegateError):
    """A line is no recorded request."""

    reason = "BadRecord"


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request. Times in seconds."""

    started_at: float
    """Since the epoch, when the request's first byte was read."""
    duration_s: float
    """Until its last byte was sent."""
    status: int = 200
    """Of HTTP, as the client got it."""
    ttft_s: float | None = None
    """To the first byte of the answer's body; missing where there was none."""
    itl_sum_s: float = 0.0
    """From the first event of a stream to its last."""
    events: int = 0
    """Of a stream, with data."""
    session: int | str = 0
    """Whose: sessions stay together when requests are dealt. Text is hashed."""
    asked_stream: bool = False
    """The client wanted a stream, whatever came of it."""
    streamed: bool = False
    broken: bool = False
    """The answer began and did not end well."""
    client_gone: bool = False
    """The client left before its end."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, in the prefix cache."""
    output_tokens: int = 0
    request_bytes: int = 0
    """Says how long the prompt is where nobody counted its tokens."""
    response_bytes: int = 0
    finish: str = ""
    """`finish_reason`."""
    checked: bool = False
    """Checks looked at the answer."""
    failed_checks: int = 0
    """1: it breaks its schema; 2: it refuses; 3: both."""
    retries: int = 0
    endpoint: str = "-"
    """Who answered; empty where the gateway refused it by itself: such aren't replayed."""

    def record(self) -> Record:
        """Return it as the judge's."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        fields["asked_stream"] |= self.streamed
        return Record(**fields, session=_hash(self.session))


_FIELDS = tuple(name for name in Line.__struct_fields__ if name != "session")
_DECODER = msgspec.json.Decoder(Line)


def _hash(session: int | str) -> int:
    if isinstance(session, int):
        return session
    return int.from_bytes(blake2b(session.encode(), digest_size=8).digest(), "big")


def write(record: Record) -> bytes:
    """Return a record as a line."""
    fields = {name: getattr(record, name) for name in _FIELDS}
    return msgspec.json.encode(Line(**fields, session=record.session)) + b"\n"


def read(lines: Iterable[bytes], name: str) -> Iterator[Record]:
    """Yield the records of JSON lines; empty ones are passed over.

    Args:
        lines: Each with or without its end.
        name: Of the file, for errors.

    Raises:
        RecordedError: A line is no record, and isn't just cut off at the end.

    """
    problem = ""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if problem:
            raise RecordedError(problem)
        try:
            yield _DECODER.decode(line).record()
        except msgspec.MsgspecError as error:
            # What was killed while it wrote leaves half a line, but only at the end.
            problem = f"{name}, line {number}: {error}; expected a recorded request (docs/judge.md)"
            if line.endswith(b"\n"):
                raise RecordedError(problem) from error
