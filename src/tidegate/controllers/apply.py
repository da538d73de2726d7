"""Does what is due at the API: weights, finalizers, bindings, scales.

Each write is guarded: it happens to the object as it was looked at, or not at all. So nothing
that somebody else wrote meanwhile is ever put over; the next look sees it and decides anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tidegate.api.errors import ConflictError, InvalidError, NotFoundError
from tidegate.api.inference import InferenceModelRewrite, InferenceObjective
from tidegate.api.meta import Key, Resource
from tidegate.api.rollout import InferenceRollout
from tidegate.api.tidegate import ModelServer
from tidegate.controllers import sight
from tidegate.controllers.cache import Cache
from tidegate.controllers.finalizers import set_finalizers
from tidegate.controllers.newest import Newest
from tidegate.controllers.sight import FINALIZER, IN_USE, MANAGER
from tidegate.rollout import commands
from tidegate.rollout.plan import Plan
from tidegate.rollout.strategies import base_model
from tidegate.rollout.strategies.weights import Problem, put, test
from tidegate.store.interface import Store

Write = (
    commands.SetWeights
    | commands.HoldRollout
    | commands.ReleaseRollout
    | commands.HoldPool
    | commands.ReleasePool
    | commands.Rebind
    | commands.Scale
)
"""Commands that are a write at the API, and done at once."""

_BOUND: Final[Mapping[str, type[InferenceObjective | InferenceModelRewrite]]] = {
    each.__name__: each for each in (InferenceObjective, InferenceModelRewrite)
}


class Writer:
    """Writes for one look at one rollout."""

    def __init__(
        self, store: Store, cache: Cache, newest: Newest, rollout: InferenceRollout, plan: Plan
    ) -> None:
        self._store = store
        self._cache = cache
        self._newest = newest
        self._rollout = rollout
        self._plan = plan
        self._namespace = rollout.metadata.namespace

    async def do(self, command: Write) -> None:
        """Do what is due. What is gone by now needs nothing."""
        try:
            await self._do(command)
        except NotFoundError:
            return

    async def _do(self, command: Write) -> None:
        match command:
            case commands.SetWeights():
                await self._weights(command)
            case commands.HoldRollout():
                await self._finalizers(self._rollout, [FINALIZER])
            case commands.ReleaseRollout():
                await self._finalizers(self._rollout, [])
            case commands.HoldPool(pool):
                await self._pool(pool, [IN_USE])
            case commands.ReleasePool(pool):
                await self._pool(pool, [])
            case commands.Rebind(kind, name, pool):
                await self._rebind(kind, name, pool)
            case commands.Scale(pool, replicas):
                await self._scale(pool, replicas)

    async def _weights(self, wanted: commands.SetWeights) -> None:
        place = sight.find(self._plan, self._namespace, self._newest)
        if isinstance(place, Problem):
            return
        edits = sight.patch(self._plan, place, stable=wanted.stable, canary=wanted.canary)
        await self._edit(sight.holder_of(place), edits)

    async def _rebind(self, kind: str, name: str, pool: str) -> None:
        bound: InferenceObjective | InferenceModelRewrite | None
        bound = self._newest.get(_BOUND[kind], Key(self._namespace, name))
        if bound is not None:
            await self._edit(bound, base_model.rebind(bound.spec.pool_ref.name, pool))

    async def _edit(self, resource: Resource, edits: Sequence[dict[str, Any]]) -> None:
        """Edit an object's spec as it was looked at; or look at it again."""
        guarded = [*_as_seen(resource), *edits]
        kind, key = type(resource), resource.key
        try:
            self._newest.wrote(await self._store.edit(kind, key, guarded, manager=MANAGER))
        except InvalidError:
            fresh = await self._store.get(kind, key)
            if not self._is_other(fresh, resource):
                raise
            self._newest.wrote(fresh)

    @staticmethod
    def _is_other(fresh: Resource, seen: Resource) -> bool:
        one, other = fresh.metadata, seen.metadata
        return (one.uid, one.generation) != (other.uid, other.generation)

    async def _pool(self, name: str, finalizers: list[str]) -> None:
        pool = sight.pool_object(name, self._namespace, self._cache)
        if pool is not None:
            await self._finalizers(pool, finalizers)

    async def _finalizers(self, resource: Resource, finalizers: list[str]) -> None:
        try:
            await set_finalizers(self._store, resource, finalizers, manager=MANAGER)
        except ConflictError:
            return  # it is gone, and maybe there is another of its name: the next look sees

    async def _scale(self, pool: str, replicas: int) -> None:
        for server in sight.servers(pool, self._namespace, self._cache):
            if not server.spec.addresses and server.spec.replicas != replicas:
                edits = [put("/spec/replicas", replicas)]
                await self._store.edit(ModelServer, server.key, edits, manager=MANAGER)


def _as_seen(resource: Resource) -> list[dict[str, Any]]:
    metadata = resource.metadata
    return [
        test("/metadata/uid", metadata.uid),
        # Of the spec only: a status that somebody writes is nothing that we could spoil.
        test("/metadata/generation", metadata.generation),
    ]
