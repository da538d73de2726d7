"""The weights that a routing table puts into effect, by route, rule and arm."""

from collections.abc import Iterator

from tidegate.routing.table import Bucket, Hosts, PathIndex, RoutingTable, Rule, T


def arm_weights(table: RoutingTable) -> dict[tuple[str, ...], int]:
    """Return (route, rule, arm) → weight for every split in `table`."""
    return {
        (rule.route, rule.name, arm.name): arm.weight for rule in _rules(table) for arm in rule.arms
    }


def _rules(table: RoutingTable) -> Iterator[Rule]:
    """Yield every rule, some more than once: a rule may match by many paths and hosts."""
    for port in table.ports.values():
        for listener in _each(port.listeners):
            for index in _each(listener.routes):
                yield from _indexed(index)


def _each(hosts: Hosts[T]) -> Iterator[T]:
    yield from hosts.exact.values()
    yield from hosts.wildcard.values()
    if hosts.any is not None:
        yield hosts.any


def _indexed(index: PathIndex) -> Iterator[Rule]:
    for _, candidate in index.patterns:
        yield candidate.match.rule
    for bucket in (*index.exact.values(), *index.prefixes.values()):
        yield from _listed(bucket)


def _listed(bucket: Bucket) -> Iterator[Rule]:
    for candidates in (bucket.rest, *bucket.by_value.values()):
        for candidate in candidates:
            yield candidate.match.rule
