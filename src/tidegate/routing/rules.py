"""HTTPRoute rules become `Rule`s: arms with backends or failures, filters, limits.

What is wrong with a rule takes its share of the requests and no more: a backend that can't
be resolved fails for its weight; a filter that isn't supported fails the whole rule, because
to skip it would change what the request means.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from tidegate.api import gateway
from tidegate.api.meta import Key
from tidegate.routing.filters import Compiled, compile_filters
from tidegate.routing.index import Entry, PathTest
from tidegate.routing.moves import Move
from tidegate.routing.patterns import bytes_pattern, text_pattern
from tidegate.routing.references import World
from tidegate.routing.table import (
    NO_FILTERS,
    Arm,
    Backend,
    Failure,
    Filters,
    HeaderTest,
    QueryTest,
    RetryPolicy,
    Rule,
)

UNIT_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
PATH_KINDS: Final[dict[str, Literal["exact", "prefix", "regex"]]] = {
    "Exact": "exact",
    "PathPrefix": "prefix",
    "RegularExpression": "regex",
}


@dataclass(slots=True)
class Problems:
    """What is wrong with a route, each with the field where it is."""

    unresolved: list[tuple[str, Failure]] = field(default_factory=list)
    unsupported: list[tuple[str, str]] = field(default_factory=list)
    broken: set[int] = field(default_factory=set)
    """Rules that answer nothing but an error, or were left out, because of what is unsupported."""


@dataclass(frozen=True, slots=True)
class CompiledRoute:
    """A route as the table takes it."""

    route: gateway.HTTPRoute
    entries: tuple[Entry, ...]
    backends: tuple[Backend, ...]
    """All that it may send to, mirrors included."""
    pools: frozenset[Key]
    """The InferencePools that it reaches, those that can't serve included."""
    problems: Problems


@dataclass(frozen=True, slots=True)
class _Part:
    """A rule whose references were followed."""

    source: gateway.HTTPRouteRule
    arms: tuple[Arm, ...]
    filters: Filters
    move: Move | None
    """The rollout that has the rule."""


def compile_route(world: World, route: gateway.HTTPRoute) -> CompiledRoute:
    """Return the rules of `route`; never raises."""
    problems = Problems()
    parts = [_part(world, route, one, i, problems) for i, one in enumerate(route.spec.rules)]
    backends = _distinct(backend for part in parts for backend in _backends(part))
    pools = tuple(
        backend
        for backend in _distinct(arm.backend for part in parts for arm in part.arms if arm.backend)
        if backend.kind == "InferencePool"
    )
    entries = [
        entry
        for i, part in enumerate(parts)
        for entry in _entries(route, i, _rule(route, i, part, pools, problems), problems)
    ]
    reached = frozenset(
        key
        for ref in _references(route.spec.rules)
        if (key := world.pool_key(ref, route.metadata.namespace)) is not None
    )
    return CompiledRoute(route, tuple(entries), backends, reached, problems)


def seconds(duration: str | None) -> float | None:
    """Return a duration such as `1m30s` (GEP-2257) in seconds; None when unset."""
    if duration is None:
        return None
    parts = re.findall(r"([0-9]+)(ms|h|m|s)", duration)
    return sum(int(number) * UNIT_S[unit] for number, unit in parts)


def salt(route: str, rule: str) -> bytes:
    """Return a rule's salt: made of names only, so that no edit of weights reshuffles."""
    return blake2b(f"{route}/{rule}".encode(errors="replace"), digest_size=16).digest()


def _part(
    world: World, route: gateway.HTTPRoute, rule: gateway.HTTPRouteRule, i: int, problems: Problems
) -> _Part:
    where = f"spec.rules[{i}]"
    by_prefix = all(one.path.type == "PathPrefix" for one in rule.matches)
    namespace = route.metadata.namespace

    def resolve(ref: gateway.BackendObjectReference) -> Backend | Failure:
        return world.backend(ref, namespace)

    compiled = compile_filters(rule.filters, resolve, by_prefix=by_prefix)
    _note(compiled, where, problems)
    if compiled.unsupported:
        problems.broken.add(i)
    arms = []
    for j, ref in enumerate(rule.backend_refs):
        at = f"{where}.backendRefs[{j}]"
        own = compile_filters(ref.filters, resolve, by_prefix=by_prefix)
        _note(own, at, problems)
        backend = resolve(ref)
        if isinstance(backend, Failure):
            problems.unresolved.append((at, backend))
        arms.append((_order(ref, namespace), _arm(ref, backend, own)))
    arms.sort(key=lambda pair: pair[0])
    ordered = tuple(arm for _, arm in arms)
    move = world.moves.of(namespace, f"HTTPRoute/{route.metadata.name}/{rule.name or i}")
    if move is not None:
        ordered = move.ordered(ordered)
    return _Part(rule, ordered, compiled.filters, move)


def _note(compiled: Compiled, where: str, problems: Problems) -> None:
    problems.unsupported += [(f"{where}.filters", text) for text in compiled.unsupported]
    problems.unresolved += [(f"{where}.filters", failure) for failure in compiled.unresolved]


def _order(ref: gateway.HTTPBackendRef, namespace: str) -> tuple[str, str, int]:
    """Sorts arms by what they name, so that the order of a manifest's lines moves nobody."""
    own = namespace if ref.namespace is None else ref.namespace
    return (f"{own}/{ref.name}", ref.kind, ref.port or 0)


def _arm(ref: gateway.HTTPBackendRef, backend: Backend | Failure, own: Compiled) -> Arm:
    weight = 1 if ref.weight is None else ref.weight
    if isinstance(backend, Failure):
        return Arm(ref.name, weight, None, backend)
    if own.unsupported:
        failure = Failure(500, "UnsupportedValue", "; ".join(own.unsupported))
        return Arm(ref.name, weight, None, failure)
    return Arm(ref.name, weight, backend, filters=own.filters)


def _rule(
    route: gateway.HTTPRoute, i: int, part: _Part, pools: tuple[Backend, ...], problems: Problems
) -> Rule:
    source = part.source
    name = source.name or str(i)
    timeouts = source.timeouts or gateway.HTTPRouteTimeouts()
    return Rule(
        route=str(route.key),
        name=name,
        arms=part.arms,
        total=sum(arm.weight for arm in part.arms),
        salt=_salt(part, str(route.key), name),
        filters=part.filters if i not in problems.broken else NO_FILTERS,
        failure=_failure(i, part, problems),
        # 0s switches a timeout off, as does leaving it out.
        request_timeout_s=seconds(timeouts.request) or None,
        backend_timeout_s=seconds(timeouts.backend_request) or None,
        retry=_retry(source.retry),
        session_header=_session_header(source.session_persistence),
        pools=pools,
    )


def _salt(part: _Part, route: str, name: str) -> bytes:
    if part.move is not None and part.move.salts(part.arms):
        return part.move.salt
    return salt(route, name)


def _failure(i: int, part: _Part, problems: Problems) -> Failure | None:
    if i in problems.broken:
        texts = [text for at, text in problems.unsupported if at == f"spec.rules[{i}].filters"]
        return Failure(500, "UnsupportedValue", "; ".join(texts))
    if part.filters.redirect is not None:
        return None
    if not part.arms:
        return Failure(500, "NoBackends", "the rule has neither backendRefs nor a redirect")
    if not any(arm.weight for arm in part.arms):
        return Failure(500, "NoWeight", "all backendRefs of the rule have weight 0")
    return None


def _retry(retry: gateway.HTTPRouteRetry | None) -> RetryPolicy:
    usual = RetryPolicy()
    if retry is None:
        return usual
    return RetryPolicy(
        codes=frozenset(retry.codes) or usual.codes,
        attempts=retry.attempts or usual.attempts,
        backoff_s=seconds(retry.backoff) or usual.backoff_s,
    )


def _session_header(persistence: gateway.SessionPersistence | None) -> bytes | None:
    if persistence is None or persistence.type != "Header" or not persistence.session_name:
        return None
    return persistence.session_name.lower().encode(errors="replace")


def _entries(route: gateway.HTTPRoute, i: int, rule: Rule, problems: Problems) -> Iterable[Entry]:
    matches = route.spec.rules[i].matches or (gateway.HTTPRouteMatch(),)
    texts = [text for match in matches for text in _wrong_patterns(match)]
    if texts:
        problems.unsupported += [(f"spec.rules[{i}].matches", text) for text in texts]
        problems.broken.add(i)
        return
    for j, match in enumerate(matches):
        age = (route.metadata.creation_timestamp, str(route.key), i, j)
        path = PathTest(PATH_KINDS[match.path.type], match.path.value)
        yield Entry(rule, age, path, match.method, _headers(match), _query(match))


def _headers(match: gateway.HTTPRouteMatch) -> tuple[HeaderTest, ...]:
    """Return the header tests; of equivalent names only the first counts (Gateway API)."""
    tests: dict[bytes, HeaderTest] = {}
    for one in match.headers:
        name = one.name.lower().encode()
        pattern = bytes_pattern(one.value) if one.type == "RegularExpression" else None
        tests.setdefault(name, HeaderTest(name, pattern or one.value.encode()))
    return tuple(tests.values())


def _query(match: gateway.HTTPRouteMatch) -> tuple[QueryTest, ...]:
    tests: dict[str, QueryTest] = {}
    for one in match.query_params:
        pattern = text_pattern(one.value) if one.type == "RegularExpression" else None
        tests.setdefault(one.name, QueryTest(one.name, pattern or one.value))
    return tuple(tests.values())


def _wrong_patterns(match: gateway.HTTPRouteMatch) -> Iterable[str]:
    """Yield a sentence for each regular expression that doesn't compile."""
    path = match.path
    if path.type == "RegularExpression" and text_pattern(path.value) is None:
        yield f"path {path.value!r} is no regular expression"
    for header in match.headers:
        if header.type == "RegularExpression" and bytes_pattern(header.value) is None:
            yield f"header {header.name}: {header.value!r} is no regular expression"
    for param in match.query_params:
        if param.type == "RegularExpression" and text_pattern(param.value) is None:
            yield f"query parameter {param.name}: {param.value!r} is no regular expression"


def _references(
    rules: Iterable[gateway.HTTPRouteRule],
) -> Iterable[gateway.BackendObjectReference]:
    for rule in rules:
        yield from rule.backend_refs
        for one in (*rule.filters, *(one for ref in rule.backend_refs for one in ref.filters)):
            if one.request_mirror is not None:
                yield one.request_mirror.backend_ref


def _backends(part: _Part) -> Iterable[Backend]:
    for arm in part.arms:
        if arm.backend is not None:
            yield arm.backend
        yield from (mirror.backend for mirror in arm.filters.mirrors)
    yield from (mirror.backend for mirror in part.filters.mirrors)


def _distinct(backends: Iterable[Backend]) -> tuple[Backend, ...]:
    return tuple({backend.identity: backend for backend in backends}.values())
