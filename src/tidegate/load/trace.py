"""Recorded load: which requests came when, how long they were, and whose they were.

A file has one request a line, as JSON objects (`.jsonl`) or as CSV with a head:

    {"time": 12.5, "prompt_tokens": 310, "output_tokens": 120, "session": "a"}

`session` may be left out, then every request is one of its own. Published traces are read as
they are, by the names of their columns: Azure's (`TIMESTAMP`, `ContextTokens`,
`GeneratedTokens`), BurstGPT's (`Timestamp`, `Request tokens`, `Response tokens`, `Session ID`)
and Mooncake's (`timestamp` in milliseconds, `input_length`, `output_length`). So are the requests
that a gateway recorded (`started_at`): those that had no answer are passed over, and a prompt whose
tokens nobody counted is taken to have one for each four bytes of its request.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tidegate.api.errors import TidegateError

_NAMES: Final = {
    "time": ("time", "timestamp", "arrival_time", "arrived_at", "started_at"),
    "prompt_tokens": ("prompt_tokens", "input_length", "contexttokens", "request tokens"),
    "output_tokens": ("output_tokens", "output_length", "generatedtokens", "response tokens"),
    "session": ("session", "session_id", "session id", "user"),
}


class TraceError(TidegateError):
    """A trace can't be read."""

    reason = "InvalidTrace"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One recorded request."""

    at: float
    """Seconds after the first."""
    prompt_tokens: int
    output_tokens: int
    session: str


def read(path: Path) -> list[Arrival]:
    """Return the requests of a file in the order in which they came. Raises TraceError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file) if path.suffix == ".csv" else _objects(file)
            lines = (_of_a_gateway(row) for row in rows)
            arrivals = [_arrival(row, n, path) for n, row in enumerate(lines, 1) if row is not None]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: {error}") from error
    if not arrivals:
        raise TraceError(f"{path}: found no request, expected one a line")
    first = min(one.at for one in arrivals)
    moved = [
        Arrival(one.at - first, one.prompt_tokens, one.output_tokens, one.session)
        for one in arrivals
    ]
    return sorted(moved, key=lambda one: one.at)


def _of_a_gateway(row: Any) -> Any:
    """Return what a gateway recorded as a trace has it, and all else as it is; None: no answer."""
    if not isinstance(row, dict) or "started_at" not in row:
        return row
    tokens = row.get("output_tokens") or row.get("events")
    if not tokens:
        return None
    size = row.get("request_bytes")
    estimate = max(1, size // 4) if isinstance(size, int) else None
    return {**row, "prompt_tokens": row.get("prompt_tokens") or estimate, "output_tokens": tokens}


def _objects(lines: Iterable[str]) -> Iterator[Any]:
    for line in lines:
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                yield line.strip()


def _arrival(row: Any, number: int, path: Path) -> Arrival:
    where = f"{path}, request {number}"
    if not isinstance(row, dict):
        raise TraceError(f"{where}: found {str(row)[:80]!r}, expected an object")
    fields = {str(name).lower().strip(): value for name, value in row.items()}
    at = _time(_field(fields, "time", where), where)
    if "hash_ids" in fields:  # Mooncake's are milliseconds
        at /= 1000
    session = next((fields[name] for name in _NAMES["session"] if fields.get(name)), None)
    return Arrival(
        at,
        max(1, _count(fields, "prompt_tokens", where)),
        max(1, _count(fields, "output_tokens", where)),
        f"request-{number}" if session is None else str(session),
    )


def _field(fields: dict[str, Any], name: str, where: str) -> Any:
    for alias in _NAMES[name]:
        if fields.get(alias) not in (None, ""):
            return fields[alias]
    raise TraceError(f"{where}: found no {name}, expected one of {', '.join(_NAMES[name])}")


def _count(fields: dict[str, Any], name: str, where: str) -> int:
    value = _field(fields, name, where)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise TraceError(f"{where}: {name}: found {value!r}, expected a number") from None


def _time(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        expected = "seconds, or a date and time"
        raise TraceError(f"{where}: time: found {value!r}, expected {expected}") from None
