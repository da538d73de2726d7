"""What `kubectl get` shows of an object: columns and how a cell is read.

A column's source is a JSON path, as in a CRD's printer columns, or a function of the whole
object where no path can say it. Objects come as stored: a cell never fails, it is empty.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

Source = str | Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `date` cells hold an RFC 3339 time, which the server shows as an age."""

    name: str
    source: Source
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    priority: int = 0
    """0 is always shown, 1 only with `-o wide`."""
    description: str = ""


AGE: Final = Column("Age", ".metadata.creationTimestamp", type="date")


def accepted(conditions: str) -> Column:
    """Return the column with the status of the condition `Accepted` found under a path."""
    return Column("Accepted", f'{conditions}[?(@.type=="Accepted")].status')


def involved(obj: Mapping[str, Any]) -> str:
    """Return what an event is about, as `kind/name`."""
    about = obj.get("involvedObject")
    if not isinstance(about, Mapping):
        return ""
    return f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}"


def cell(column: Column, obj: Mapping[str, Any]) -> str | int | float | bool | None:
    """Return what `column` shows of `obj`; None for nothing.

    Several values of a path are joined by commas; a lone number or boolean stays one.
    """
    if callable(column.source):
        return column.source(obj) or None
    values = [value for value in values_at(obj, column.source) if value is not None]
    if len(values) == 1 and isinstance(values[0], (int, float)):
        return values[0]
    return ",".join(str(value) for value in values) or None


def values_at(obj: object, path: str) -> list[Any]:
    """Return the values that a JSON path meets in `obj`, in order.

    Spoken are `.name`, `[*]`, `[0]` and `[?(@.name=="value")]`, which is what printer
    columns use.
    """
    found: list[Any] = [obj]
    for step in _steps(path):
        found = [value for holder in found for value in step(holder)]
    return found


Step = Callable[[Any], Iterator[Any]]

_TOKEN: Final = re.compile(
    r"\.(?P<field>[\w-]+)|\[(?P<every>\*)\]|\[(?P<index>\d+)\]"
    r"|\[\?\(@\.(?P<key>[\w-]+)==\"(?P<value>[^\"]*)\"\)\]"
)


@lru_cache(maxsize=256)
def _steps(path: str) -> tuple[Step, ...]:
    return tuple(_step(match.groupdict()) for match in _TOKEN.finditer(path))


def _step(token: Mapping[str, str | None]) -> Step:
    if (name := token["field"]) is not None:
        return lambda holder: _field(holder, name)
    if (index := token["index"]) is not None:
        return lambda holder: iter(_items(holder)[int(index) : int(index) + 1])
    if (key := token["key"]) is not None:
        return lambda holder: (
            item
            for item in _items(holder)
            if isinstance(item, Mapping) and item.get(key) == token["value"]
        )
    return lambda holder: iter(_items(holder))


def _field(holder: object, name: str) -> Iterator[Any]:
    if isinstance(holder, Mapping) and name in holder:
        yield holder[name]


def _items(holder: object) -> list[Any]:
    return holder if isinstance(holder, list) else []


def hostnames(route: Mapping[str, Any]) -> str:
    """Return a route's hosts as kubectl shows a list, or nothing for all hosts."""
    hosts = values_at(route, ".spec.hostnames[*]")
    return "[" + ",".join(f'"{host}"' for host in hosts) + "]" if hosts else ""


def backends(route: Mapping[str, Any]) -> str:
    """Return the backends with their weights, rules apart: `llm=90 llm-new=10; other=1`."""
    rules = (_weighted(rule, ".backendRefs[*]") for rule in values_at(route, ".spec.rules[*]"))
    return "; ".join(rule for rule in rules if rule)


def _weighted(rule: object, path: str, name: str = "name") -> str:
    refs = [ref for ref in values_at(rule, path) if isinstance(ref, Mapping)]
    return " ".join(f"{ref.get(name, '?')}={_weight(ref)}" for ref in refs)


def _weight(ref: Mapping[str, Any]) -> object:
    weight = ref.get("weight")
    return 1 if weight is None else weight


def selector(path: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a cell with the labels found at `path` as `app=llm,tier=gold`."""

    def labels(obj: Mapping[str, Any]) -> str:
        found = values_at(obj, path)
        pairs = found[0] if found and isinstance(found[0], Mapping) else {}
        return ",".join(f"{name}={value}" for name, value in sorted(pairs.items()))

    return labels


def port_list(pool: Mapping[str, Any]) -> str:
    """Return a pool's ports, comma-separated."""
    return ",".join(str(port) for port in values_at(pool, ".spec.targetPorts[*].number"))


def pool_parents(pool: Mapping[str, Any]) -> str:
    """Return the Gateways that routes connect the pool to, each once."""
    names = values_at(pool, ".status.parents[*].parentRef.name")
    return ",".join(dict.fromkeys(str(name) for name in names))


def targets(rewrite: Mapping[str, Any]) -> str:
    """Return what each rule rewrites to: `food-review => v1=90 v2=10; * => base=1`."""
    return "; ".join(_rewrite(rule) for rule in values_at(rewrite, ".spec.rules[*]"))


def _rewrite(rule: object) -> str:
    models = [str(value) for value in values_at(rule, ".matches[*].model.value")]
    return f"{'|'.join(models) or '*'} => {_weighted(rule, '.targets[*]', 'modelRewrite')}"


def model_server_source(server: Mapping[str, Any]) -> str:
    """Return which of a ModelServer's sources is set."""
    for source in ("command", "simulator", "addresses"):
        if any(value or value == {} for value in values_at(server, f".spec.{source}")):
            return source
    return ""
