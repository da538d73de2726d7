"""Builds what `match` searches: hostname → path → candidates in their order of precedence.

All sorting is done here, once a table; a match then takes the first candidate that holds.
Order and meaning are those of Gateway API v1 (`HTTPRouteRule.matches`): the path's kind and
length, a method, the number of headers, the number of query parameters, the oldest route,
its `namespace/name`, the rule's place. Gateway API leaves regular expressions to the
implementation: here they come after exact paths and before prefixes, the longest pattern
first, because a pattern beside the usual catch-all `/` would otherwise never be asked.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from tidegate.routing.patterns import text_pattern
from tidegate.routing.table import (
    Bucket,
    Candidate,
    HeaderTest,
    Hosts,
    Listener,
    Match,
    PathIndex,
    PortTable,
    QueryTest,
    Rule,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PathTest:
    """A path to match: `value` is a path, a path prefix or a regular expression."""

    kind: Literal["exact", "prefix", "regex"] = "prefix"
    value: str = "/"


@dataclass(frozen=True, slots=True)
class Entry:
    """One match of one rule."""

    rule: Rule
    age: tuple[str, str, int, int] = ("", "", 0, 0)
    """Breaks ties: when the route was made (RFC 3339), `namespace/name`, rule, match."""
    path: PathTest = PathTest()
    method: str | None = None
    headers: tuple[HeaderTest, ...] = ()
    query: tuple[QueryTest, ...] = ()

    @property
    def precedence(self) -> tuple[object, ...]:
        """Sorts entries of the same path, the one to ask first in front."""
        return (self.method is None, -len(self.headers), -len(self.query), self.age)


def index_hosts(values: Mapping[str, T]) -> Hosts[T]:
    """Return `values` (by hostname pattern, '' = any) for lookups by host."""
    return Hosts(
        exact={host: value for host, value in values.items() if host and host[0] != "*"},
        wildcard={host[1:]: value for host, value in values.items() if host[:1] == "*"},
        any=values.get(""),
    )


def index_routes(entries: Iterable[tuple[str, Entry]]) -> Hosts[PathIndex]:
    """Return the index of `entries`, each with one hostname pattern of its route."""
    by_host: defaultdict[str, list[Entry]] = defaultdict(list)
    for host, entry in entries:
        by_host[host].append(entry)
    return index_hosts({host: index_paths(members) for host, members in by_host.items()})


def index_port(listeners: Sequence[Listener]) -> PortTable:
    """Return the table of one port; `listeners` agree on it and on its protocol.

    Their hostnames differ: those that share one were merged before.
    """
    hosts = index_hosts({listener.hostname: listener for listener in listeners})
    first = listeners[0]
    return PortTable(first.port, first.protocol, hosts, _only(listeners))


def index_paths(entries: Iterable[Entry]) -> PathIndex:
    """Return the index of the entries of one hostname."""
    exact: defaultdict[str, list[Candidate]] = defaultdict(list)
    prefixes: defaultdict[str, list[Candidate]] = defaultdict(list)
    patterns: list[tuple[re.Pattern[str], Candidate]] = []
    for rank, entry in enumerate(sorted(entries, key=lambda entry: entry.precedence)):
        candidate = _candidate(rank, entry)
        match entry.path.kind:
            case "exact":
                exact[entry.path.value].append(candidate)
            case "prefix":
                prefixes[entry.path.value.rstrip("/")].append(candidate)
            case "regex":
                pattern = text_pattern(entry.path.value)
                if pattern is not None:
                    patterns.append((pattern, candidate))
    patterns.sort(key=lambda pair: -len(pair[0].pattern))
    return PathIndex(
        {path: _bucket(members) for path, members in exact.items()},
        tuple(patterns),
        {path: _bucket(members) for path, members in prefixes.items()},
        max((path.count("/") for path in prefixes), default=0),
    )


def _candidate(rank: int, entry: Entry) -> Candidate:
    prefix = entry.path.value if entry.path.kind == "prefix" else ""
    matched = Match(entry.rule, prefix)
    return Candidate(rank, matched, entry.method, entry.headers, entry.query)


def _bucket(candidates: Sequence[Candidate]) -> Bucket:
    pivot = _pivot(candidates)
    rest: list[Candidate] = []
    by_value: defaultdict[bytes, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        value = _exact_values(candidate).get(pivot)
        (rest if value is None else by_value[value]).append(candidate)
    return Bucket(tuple(rest), pivot, {value: tuple(some) for value, some in by_value.items()})


def _pivot(candidates: Sequence[Candidate]) -> bytes:
    """Return the header that tells most candidates apart; b'' where none does."""
    counts = Counter(name for candidate in candidates for name in _exact_values(candidate))
    return max(counts, key=lambda name: (counts[name], name), default=b"")


def _exact_values(candidate: Candidate) -> dict[bytes, bytes]:
    return {test.name: test.value for test in candidate.headers if isinstance(test.value, bytes)}


def _only(listeners: Sequence[Listener]) -> Match | None:
    """Return the one match of a port that has nothing else, if it takes every path."""
    if len(listeners) != 1 or listeners[0].hostname:
        return None
    routes = listeners[0].routes
    if routes.exact or routes.wildcard or routes.any is None:
        return None
    paths = routes.any
    if paths.exact or paths.patterns or set(paths.prefixes) != {""}:
        return None
    root = paths.prefixes[""]
    if root.by_value:
        return None
    first = root.rest[0]
    return None if first.method or first.headers or first.query else first.match
