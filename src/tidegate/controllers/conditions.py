"""Statuses as they are written: conditions keep the time of their last change.

A status is computed without times. Before it is written, each condition takes over the time
of its twin in the stored status when its `status` is the same, and gets the present time
otherwise (Kubernetes API conventions, "Typical status properties").
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tidegate.api import gateway


def timestamp(now: float) -> str:
    """Return `now` (seconds since the epoch) as RFC 3339 in UTC, in whole seconds."""
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(
    kind: str,
    status: Literal["True", "False", "Unknown"],
    reason: str,
    message: str,
    generation: int,
) -> dict[str, Any]:
    """Return a condition without a time, as it goes into a status."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }


def with_times(wanted: Any, current: Any, now: float) -> Any:
    """Return `wanted` with `lastTransitionTime` in all of its conditions.

    Args:
        wanted: A status, or a part of one, as plain data.
        current: The same part of the stored status, as plain data; None where there is none.
        now: Seconds since the epoch.

    """
    if isinstance(wanted, Mapping):
        old = current if isinstance(current, Mapping) else {}
        merged = {name: with_times(value, old.get(name), now) for name, value in wanted.items()}
        return _timed(merged, old, now) if _is_condition(wanted) else merged
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return [with_times(item, _twin(item, current), now) for item in wanted]
    return wanted


def _is_condition(value: Mapping[str, Any]) -> bool:
    return {"type", "status", "reason"} <= value.keys()


def _timed(new: dict[str, Any], old: Mapping[str, Any], now: float) -> dict[str, Any]:
    same = old.get("status") == new["status"] and old.get("lastTransitionTime")
    return {**new, "lastTransitionTime": same or timestamp(now)}


def _twin(item: Any, current: Any) -> Any:
    if not isinstance(current, Sequence) or not isinstance(item, Mapping):
        return None
    wanted = _identity(item)
    return next((c for c in current if isinstance(c, Mapping) and _identity(c) == wanted), None)


def _identity(item: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what tells list items apart: a condition's type, a listener's name, a parent."""
    if _is_condition(item):
        return (item["type"],)
    return (item.get("name"), _reference(item.get("parentRef")), item.get("controllerName"))


def _reference(ref: Mapping[str, Any] | None) -> frozenset[tuple[str, Any]]:
    filled = {"group": gateway.GROUP, "kind": "Gateway", **(ref or {})}
    return frozenset((name, value) for name, value in filled.items() if value is not None)
