"""Resources become the table that workers serve, and the statuses that the controller writes.

`compile` is total: whatever was admitted compiles. What is broken gets a status and fails for
its own share of the requests; everything else is served. The same snapshot always gives the
same result, so workers and the controller each compile for themselves.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tidegate.api import gateway
from tidegate.api.meta import Key
from tidegate.routing.index import Entry, index_port, index_routes
from tidegate.routing.listeners import Attachment, State, assess, attach, intersects
from tidegate.routing.references import CONTROLLER, World
from tidegate.routing.rules import CompiledRoute, compile_route
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.statuses import StatusUpdate, statuses
from tidegate.routing.table import Backend, Listener, RoutingTable

__all__ = ["Compiled", "StatusUpdate", "compile"]

Place = tuple[int, str]
"""A port and a listener hostname ('' = any)."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The outcome of one snapshot."""

    table: RoutingTable
    statuses: tuple[StatusUpdate, ...]


def compile(snapshot: Snapshot, *, addresses: Sequence[str] = ("127.0.0.1",)) -> Compiled:  # noqa: A001  # the word for it
    """Return the table and the statuses for `snapshot`; never raises.

    Args:
        snapshot: All resources of one moment; older kinds among them are upgraded here.
        addresses: Where our Gateways can be reached, for their statuses.

    """
    world = World(snapshot)
    states = assess(world)
    attached = [
        (compile_route(world, route), attachments)
        for route in world.routes
        if (attachments := attach(world, states, route)) or _once_ours(route)
    ]
    updates = tuple(statuses(world, states, attached, addresses))
    return Compiled(_table(states, attached), updates)


def _once_ours(route: gateway.HTTPRoute) -> bool:
    """Return whether an older status of ours must be cleared away."""
    return any(one.controller_name == CONTROLLER for one in route.status.parents)


def _table(
    states: Mapping[Key, Sequence[State]],
    attached: Sequence[tuple[CompiledRoute, tuple[Attachment, ...]]],
) -> RoutingTable:
    entries: defaultdict[Place, list[tuple[str, Entry]]] = defaultdict(list)
    backends: dict[str, Backend] = {}
    for route, attachments in attached:
        for place in _places(attachments):
            entries[place] += _entries(route, place)
        if any(one.states for one in attachments):
            backends.update((one.identity, one) for one in route.backends)
    ports: defaultdict[int, list[Listener]] = defaultdict(list)
    for place, merged in _merged(states).items():
        ports[place[0]].append(_listener(place, merged, entries[place]))
    tables = {port: index_port(listeners) for port, listeners in sorted(ports.items())}
    return RoutingTable(tables, tuple(backends.values()))


def _places(attachments: Iterable[Attachment]) -> Iterable[Place]:
    """Return where a route is served, each place once."""
    return dict.fromkeys(
        _place(state) for one in attachments for state in one.states if state.serves
    )


def _entries(route: CompiledRoute, place: Place) -> list[tuple[str, Entry]]:
    hosts = [
        host
        for host in dict.fromkeys(route.route.spec.hostnames or ("",))
        if intersects(place[1], host)
    ]
    return [(host, entry) for host in hosts for entry in route.entries]


def _merged(states: Mapping[Key, Sequence[State]]) -> Mapping[Place, Sequence[State]]:
    """Return the listeners that serve by place, those of the oldest Gateway first."""
    merged: defaultdict[Place, list[State]] = defaultdict(list)
    for own in states.values():
        for state in own:
            if state.serves:
                merged[_place(state)].append(state)
    return merged


def _place(state: State) -> Place:
    return (state.listener.port, state.listener.hostname or "")


def _listener(
    place: Place, states: Sequence[State], entries: Iterable[tuple[str, Entry]]
) -> Listener:
    return Listener(
        port=place[0],
        protocol=states[0].protocol,
        hostname=place[1],
        gateways=tuple(state.name for state in states),
        certificates=tuple(dict.fromkeys(one for state in states for one in state.certificates)),
        routes=index_routes(entries),
    )
