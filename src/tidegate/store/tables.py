"""What `kubectl get` prints: objects as rows, made by the server so that all clients agree.

The columns come from the scheme; ages are worded here, at the time that is passed in.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from tidegate.api.columns import Column, cell
from tidegate.api.scheme import Kind

Object = Mapping[str, Any]
Include = Literal["Metadata", "Object", "None"]

NAME_COLUMN: Final = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "The object's name, unique in its namespace.",
    "priority": 0,
}


def render_table(
    kind: Kind,
    objects: Iterable[Object],
    *,
    version: str,
    now: float,
    include: Include = "Metadata",
    headers: bool = True,
) -> dict[str, Any]:
    """Return `objects` as a Table (`meta.k8s.io/v1`).

    Args:
        kind: Gives the columns.
        objects: In the order of the rows.
        version: The resourceVersion of the whole.
        now: Seconds since the epoch, for ages.
        include: What of the object each row carries.
        headers: A watch sends them with its first event only.

    """
    table: dict[str, Any] = {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
    }
    table["columnDefinitions"] = _headers(kind) if headers else None
    table["rows"] = [_row(kind, obj, now, include) for obj in objects]
    return table


def partial(obj: Object) -> dict[str, Any]:
    """Return the metadata of `obj` alone, as an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj.get("metadata", {}),
    }


def _headers(kind: Kind) -> list[dict[str, Any]]:
    return [NAME_COLUMN, *(_header(column) for column in kind.columns)]


def _header(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "format": "",
        "description": column.description,
        "priority": column.priority,
    }


def _row(kind: Kind, obj: Object, now: float, include: Include) -> dict[str, Any]:
    cells = [obj.get("metadata", {}).get("name", "")]
    cells += [_cell(column, obj, now) for column in kind.columns]
    carried = {"Metadata": partial(obj), "Object": obj, "None": None}[include]
    return {"cells": cells, "object": carried}


def _cell(column: Column, obj: Object, now: float) -> str | int | float | bool | None:
    value = cell(column, obj)
    if column.type != "date":
        return value
    return age(value, now) if isinstance(value, str) else "<unknown>"


def age(moment: str, now: float) -> str:
    """Return how long ago `moment` (RFC 3339) was, in kubectl's words: `42s`, `5m10s`, `3d4h`."""
    try:
        then = dt.datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return "<unknown>"
    return human_duration(now - then)


def human_duration(seconds: float) -> str:
    """Return a duration as kubectl words it: two units at most, and the finer only when near.

    The steps are those of `k8s.io/apimachinery/pkg/util/duration`, HumanDuration.
    """
    if seconds <= -2:
        return "<invalid>"
    whole = max(int(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 180:
        return _two(minutes, "m", whole % 60 if minutes < 10 else 0, "s")
    if hours < 48:
        return _two(hours, "h", minutes % 60 if hours < 8 else 0, "m")
    if days < 730:
        return _two(days, "d", hours % 24 if days < 8 else 0, "h")
    return _two(days // 365, "y", days % 365 if days < 8 * 365 else 0, "d")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f"{small}{small_unit}" if small else "")
