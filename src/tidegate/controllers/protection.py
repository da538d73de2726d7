"""Holds pools that a route sends to, as Kubernetes holds volumes that a Pod uses.

Deleting one would fail its share of the requests, so a pool to which any HTTPRoute sends has a
finalizer: `kubectl delete` waits, an Event says for what, and the pool goes as soon as no
route sends to it. A weight of 0 sends nothing: the old pool of a finished rollout is free.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from tidegate.api.errors import ConflictError
from tidegate.api.gateway import BackendObjectReference, HTTPBackendRef, HTTPRoute
from tidegate.api.inference import InferencePool, LegacyInferencePool
from tidegate.api.meta import Key, Resource
from tidegate.controllers.cache import Cache
from tidegate.controllers.events import Said, write_event
from tidegate.controllers.finalizers import set_finalizers
from tidegate.controllers.sweep import Sweep
from tidegate.store.interface import Store

MANAGER: Final = "tidegate-protection"
ROUTED: Final = "tidegate.dev/routed"
"""The finalizer."""
Pool = InferencePool | LegacyInferencePool
POOLS: Final[tuple[type[Pool], ...]] = (InferencePool, LegacyInferencePool)
KINDS: Final[tuple[type[Resource], ...]] = (HTTPRoute, *POOLS)
_GROUPS: Final = frozenset({"inference.networking.k8s.io", "inference.networking.x-k8s.io"})
_OTHER: Final[dict[type[Pool], type[Pool]]] = {
    InferencePool: LegacyInferencePool,
    LegacyInferencePool: InferencePool,
}
"""A pool of the same name in the other group stands in for one that goes."""
Users = dict[Key, list[Key]]
"""Routes by the pools to which they send; a pool may be written in either group."""


class Protection(Sweep):
    """Puts the finalizer on pools that are sent to, and takes it off the others."""

    def __init__(self, cache: Cache, store: Store) -> None:
        self._cache = cache
        self._store = store
        super().__init__("protection")

    async def reconcile(self, _: str) -> None:
        """Hold and release what has to be."""
        users = users_of(self._cache.all(HTTPRoute).values())
        for kind in POOLS:
            for key, pool in self._cache.all(kind).items():
                other = self._cache.all(_OTHER[kind]).get(key)
                stands_in = other is not None and other.metadata.deletion_timestamp is None
                await self._look(pool, [] if stands_in else users.get(key, []))

    async def _look(self, pool: Pool, users: list[Key]) -> None:
        held = ROUTED in pool.metadata.finalizers
        if pool.metadata.deletion_timestamp is None:
            if held != bool(users):
                await self._finalizers(pool, [ROUTED] if users else [])
        elif held and users:
            await self._tell(pool, users)
        elif held:
            await self._finalizers(pool, [])

    async def _finalizers(self, pool: Pool, finalizers: list[str]) -> None:
        try:
            await set_finalizers(self._store, pool, finalizers, manager=MANAGER)
        except ConflictError:
            return  # it is gone, and maybe there is another of its name: its change comes

    async def _tell(self, pool: Pool, users: list[Key]) -> None:
        names = ", ".join(map(str, users))
        message = (
            f"held: HTTPRoute {names} sends requests to this pool; it is deleted once"
            " no route does (take it out of the route, or set its weight to 0)"
        )
        said = Said("Warning", "StillRouted", message, pool.metadata.deletion_timestamp)
        name = f"pool-{pool.metadata.uid}-still-routed"
        await write_event(self._store, name, pool, said, manager=MANAGER)


def users_of(routes: Iterable[HTTPRoute]) -> Users:
    """Return which routes send requests to which pools."""
    users: Users = {}
    for route in routes:
        if route.metadata.deletion_timestamp is not None:
            continue
        for pool in dict.fromkeys(_pools(route)):
            users.setdefault(pool, []).append(route.key)
    return users


def _pools(route: HTTPRoute) -> Iterator[Key]:
    for ref in _references(route):
        if ref.group in _GROUPS and ref.kind == "InferencePool":
            yield Key(ref.namespace or route.metadata.namespace, ref.name)


def _references(route: HTTPRoute) -> Iterator[HTTPBackendRef | BackendObjectReference]:
    for rule in route.spec.rules:
        sending = [ref for ref in rule.backend_refs if ref.weight != 0]
        yield from sending
        filters = [*rule.filters, *(one for ref in sending for one in ref.filters)]
        yield from (one.request_mirror.backend_ref for one in filters if one.request_mirror)
