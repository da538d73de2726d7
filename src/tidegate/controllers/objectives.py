"""Conditions of what refers to a pool: objectives, rewrites, and the older InferenceModel."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tidegate.api.inference import (
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    InferencePool,
    LegacyInferenceModelRewrite,
    LegacyInferenceObjective,
    LegacyInferencePool,
)
from tidegate.api.meta import Key, Resource
from tidegate.controllers.cache import Cache
from tidegate.controllers.conditions import condition
from tidegate.controllers.statuses import StatusWriter
from tidegate.controllers.sweep import Sweep
from tidegate.routing.objectives import OBJECTIVE
from tidegate.routing.statuses import StatusUpdate
from tidegate.store.interface import Store

MANAGER: Final = "tidegate-objectives"
Referrer = InferenceObjective | InferenceModelRewrite | InferenceModel
REFERRERS: Final[tuple[type[Referrer], ...]] = (
    InferenceObjective,
    InferenceModelRewrite,
    LegacyInferenceObjective,
    LegacyInferenceModelRewrite,
    InferenceModel,
)
KINDS: Final[tuple[type[Resource], ...]] = (*REFERRERS, InferencePool, LegacyInferencePool)


class Objectives(Sweep):
    """Says of each referrer whether what it refers to exists, and of models whose name is taken."""

    def __init__(self, cache: Cache, store: Store, now: Callable[[], float]) -> None:
        self._cache = cache
        self._writer = StatusWriter(cache, store, now, MANAGER)
        super().__init__("objectives")

    async def reconcile(self, _: str) -> None:
        """Write the conditions that differ."""
        await self._writer.write_all(list(self._statuses()))

    def _statuses(self) -> Iterator[StatusUpdate]:
        pools = self._cache.all(InferencePool).keys() | self._cache.all(LegacyInferencePool).keys()
        taken = _names_in_use(self._cache.all(InferenceModel).values())
        for kind in REFERRERS:
            for key, one in self._cache.all(kind).items():
                accepted = _accepted(one, found=Key(key.namespace, one.spec.pool_ref.name) in pools)
                if isinstance(one, InferenceModel) and key in taken:
                    accepted = _in_use(one, taken[key])
                elif OBJECTIVE in one.metadata.annotations and accepted["status"] == "True":
                    accepted = self._with_objective(one)
                yield StatusUpdate(kind, key, {"conditions": [accepted]})

    def _with_objective(self, one: Referrer) -> dict[str, object]:
        """Say so where the objective that a rewrite's models should have isn't there."""
        named = one.metadata.annotations[OBJECTIVE]
        key, pool = Key(one.metadata.namespace, named), one.spec.pool_ref.name
        for kind in (InferenceObjective, LegacyInferenceObjective):
            found = self._cache.all(kind).get(key)
            if found is not None and found.spec.pool_ref.name == pool:
                return _accepted(one, found=True)
        text = (
            f"metadata.annotations[{OBJECTIVE}]: found {named!r}, expected an InferenceObjective"
            f" of the pool {pool!r}; until then it has no effect"
        )
        return condition("Accepted", "True", "Accepted", text, one.metadata.generation)


def _accepted(one: Referrer, *, found: bool) -> dict[str, object]:
    generation, pool = one.metadata.generation, one.spec.pool_ref.name
    if found:
        return condition("Accepted", "True", "Accepted", "", generation)
    text = f"spec.poolRef.name: found {pool!r}, expected an InferencePool of this namespace"
    return condition("Accepted", "False", "PoolNotFound", text, generation)


def _names_in_use(models: Iterable[InferenceModel]) -> dict[Key, Key]:
    """Return the models whose name another one of their pool had first, and that one."""
    first: dict[tuple[str, str, str], Key] = {}
    later: dict[Key, Key] = {}
    for one in sorted(models, key=lambda one: (one.metadata.creation_timestamp, one.key)):
        name = (one.metadata.namespace, one.spec.pool_ref.name, one.spec.model_name)
        if name in first:
            later[one.key] = first[name]
        first.setdefault(name, one.key)
    return later


def _in_use(one: InferenceModel, owner: Key) -> dict[str, object]:
    text = (
        f"spec.modelName: found {one.spec.model_name!r}, which the older InferenceModel"
        f" {owner.name!r} of the same pool has; expected a name of its own"
    )
    return condition("Accepted", "False", "ModelNameInUse", text, one.metadata.generation)
