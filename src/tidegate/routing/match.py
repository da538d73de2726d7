"""Which rule a request meets.

The index holds every choice in its order of precedence, so matching is a few dictionary
lookups, from the most specific to the least; the first candidate whose conditions hold wins.
The cost depends on the request (labels of its host, segments of its path), not on the number
of routes; only regular expressions on paths are tried one by one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from tidegate.routing.table import (
    Bucket,
    Candidate,
    HeaderTest,
    Listener,
    Match,
    PathIndex,
    QueryTest,
    RoutingTable,
)

MODEL_HEADER: Final = b"x-gateway-model-name"
"""Stands for the body's `model` in rules; the name is that of upstream's body-based routing."""


@dataclass(slots=True)
class Request:
    """What a match may depend on. One per request: it keeps what it has parsed."""

    host: str
    """Lower case, without port; IPv6 literals keep their brackets."""
    method: str
    path: str
    """As on the wire, without the query."""
    query: str = ""
    headers: Sequence[tuple[bytes, bytes]] = ()
    """Names in lower case."""
    model: str | None = None
    """The body's model: the value of `x-gateway-model-name`, whatever the headers say."""
    _values: dict[bytes, bytes] | None = field(default=None, init=False, repr=False)
    _params: dict[str, str] | None = field(default=None, init=False, repr=False)

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header; values of repeated lines are joined by ", "."""
        if name == MODEL_HEADER:
            return None if self.model is None else self.model.encode(errors="surrogatepass")
        if self._values is None:
            self._values = _joined(self.headers)
        return self._values.get(name)

    def param(self, name: str) -> str | None:
        """Return the first value of a query parameter, percent-decoded."""
        if self._params is None:
            self._params = dict(reversed(parse_qsl(self.query, keep_blank_values=True)))
        return self._params.get(name)


def match(table: RoutingTable, port: int, request: Request) -> Match | None:
    """Return the rule for a request that came in at `port`, or None when no route takes it.

    The most specific listener of the host decides alone, as Gateway API asks; among its
    routes, those with a less specific hostname are asked when none before them matches.
    """
    served = table.ports.get(port)
    if served is None or request.path[:1] != "/":
        return None
    if served.only is not None:
        return served.only
    listener = listener_for(table, port, request.host)
    if listener is None:
        return None
    for index in listener.routes.find(request.host):
        found = _find(index, request)
        if found is not None:
            return found.match
    return None


def listener_for(table: RoutingTable, port: int, host: str) -> Listener | None:
    """Return the listener of `host` (a Host header without port, or an SNI), in lower case."""
    served = table.ports.get(port)
    found = served.listeners.find(host) if served is not None else []
    return found[0] if found else None


def misdirected(table: RoutingTable, port: int, sni: str | None, host: str) -> bool:
    """Return whether a TLS connection for `sni` must not carry a request for `host`.

    Listeners of one port may have different certificates, so a request for another listener
    than the handshake's is answered 421 (RFC 9110, section 15.5.20). Without SNI all may pass.
    """
    if sni is None:
        return False
    return listener_for(table, port, sni) is not listener_for(table, port, host)


def _find(index: PathIndex, request: Request) -> Candidate | None:
    bucket = index.exact.get(request.path)
    if bucket is not None:
        found = _first(bucket, request)
        if found is not None:
            return found
    for pattern, candidate in index.patterns:
        if pattern.fullmatch(request.path) and _holds(candidate, request):
            return candidate
    for prefix in _prefixes(request.path, index.depth):
        bucket = index.prefixes.get(prefix)
        if bucket is not None:
            found = _first(bucket, request)
            if found is not None:
                return found
    return None


def _prefixes(path: str, depth: int) -> Iterator[str]:
    """Yield the prefixes of `path` by whole segments, longest first, down to '' (the root)."""
    ends: list[int] = []
    end = 0
    while len(ends) <= depth and end >= 0:
        ends.append(end)
        end = path.find("/", end + 1)
    if end < 0 and len(ends) <= depth:
        yield path
    for end in reversed(ends):
        yield path[:end]


def _first(bucket: Bucket, request: Request) -> Candidate | None:
    best = next((one for one in bucket.rest if _holds(one, request)), None)
    if bucket.pivot:
        value = request.header(bucket.pivot)
        for one in bucket.by_value.get(value, ()) if value is not None else ():
            if best is not None and best.rank < one.rank:
                break
            if _holds(one, request):
                return one
    return best


def _holds(candidate: Candidate, request: Request) -> bool:
    return (
        (candidate.method is None or candidate.method == request.method)
        and all(_header_holds(test, request) for test in candidate.headers)
        and all(_param_holds(test, request) for test in candidate.query)
    )


def _header_holds(test: HeaderTest, request: Request) -> bool:
    value = request.header(test.name)
    if value is None or isinstance(test.value, bytes):
        return value == test.value
    return test.value.fullmatch(value) is not None


def _param_holds(test: QueryTest, request: Request) -> bool:
    value = request.param(test.name)
    if value is None or isinstance(test.value, str):
        return value == test.value
    return test.value.fullmatch(value) is not None


def _joined(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    values: dict[bytes, bytes] = {}
    for name, value in headers:
        values[name] = values[name] + b", " + value if name in values else value
    return values
