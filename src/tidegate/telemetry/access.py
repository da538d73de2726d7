"""The access log: one line a request, made of its record. Off unless asked for."""

from typing import Any, Final

import structlog

from tidegate.judge.record import Record

MAX_TEXT: Final = 128
"""Characters kept of what clients choose."""

_log = structlog.get_logger("tidegate.access")


def log(record: Record) -> None:
    """Log that a request ended."""
    _log.info("request", **fields(record))


def fields(record: Record) -> dict[str, Any]:
    """Return what the access log says of `record`; what is empty is left out.

    Times are seconds, rounded to microseconds.
    """
    told = {
        "method": _clean(record.method),
        "route": record.route,
        "rule": record.rule,
        "arm": record.arm,
        "pool": record.pool,
        "endpoint": record.endpoint,
        "model": _clean(record.model),
        "status": record.status,
        "reason": record.reason,
        "streamed": record.streamed,
        "broken": record.broken,
        "client_gone": record.client_gone,
        "retries": record.retries,
        "request_bytes": record.request_bytes,
        "response_bytes": record.response_bytes,
        "events": record.events,
        "ttft_s": None if record.ttft_s is None else round(record.ttft_s, 6),
        "duration_s": round(record.duration_s, 6),
    }
    return {name: value for name, value in told.items() if value or name in _ALWAYS}


_ALWAYS: Final = frozenset({"status", "duration_s"})


def _clean(text: str) -> str:
    """Return `text` cut, with what isn't printable escaped: a client must not forge lines."""
    cut = text[:MAX_TEXT]
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode("ascii")
