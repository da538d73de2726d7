"""The access log: one line a request, made of its record. Off unless asked for.

Lines look like the other logs' and are written without them, many at once: a line must not cost
more than its request.
"""

import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from tidegate.judge.record import Record
from tidegate.telemetry.logs import without_secrets

MAX_TEXT: Final = 128
"""Characters kept of what clients choose."""


class AccessLog:
    """Lines that wait to be written to stderr."""

    def __init__(self, log_format: Literal["json", "console"]) -> None:
        self._line = _json_line if log_format == "json" else _console_line
        self._lines: list[str] = []

    def note(self, record: Record) -> None:
        """Say with the next `flush` that a request ended."""
        self._lines.append(self._line(record))

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        sys.stderr.write("".join(lines))
        sys.stderr.flush()


def fields(record: Record) -> dict[str, Any]:
    """Return what the access log says of `record`; what is empty is left out.

    Times are seconds, rounded to microseconds.
    """
    told: dict[str, Any] = {"method": _clean(record.method)}
    for name in _NAMES:
        value = getattr(record, name)
        if value:
            told[name] = value
    if record.model:
        told["model"] = _clean(record.model)
    if record.target:
        told["target"] = record.target
    told["status"] = record.status
    for name in _NUMBERS:
        value = getattr(record, name)
        if value:
            told[name] = value
    if record.ttft_s is not None:
        told["ttft_s"] = round(record.ttft_s, 6)
    told["duration_s"] = round(record.duration_s, 6)
    if not told["method"]:
        del told["method"]
    return told


_NAMES: Final = ("route", "rule", "arm", "pool", "endpoint")
_NUMBERS: Final = (
    "reason", "streamed", "broken", "client_gone", "retries", "request_bytes", "response_bytes",
    "events", "output_tokens",
)  # fmt: skip


def _json_line(record: Record) -> str:
    head = {"event": "request", "level": "info", "timestamp": _ended_at(record)}
    return msgspec.json.encode(head | fields(record)).decode() + "\n"


def _console_line(record: Record) -> str:
    told = " ".join([f"{name}={value}" for name, value in fields(record).items()])
    return f"{_ended_at(record)} [info     ] request{' ' * 24}{told}\n"


def _ended_at(record: Record) -> str:
    ended = datetime.fromtimestamp(record.started_at + record.duration_s, UTC)
    return ended.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _clean(text: str) -> str:
    """Return `text` cut, with what isn't printable escaped: a client must not forge lines."""
    cut = without_secrets(text[:MAX_TEXT])
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode("ascii")
