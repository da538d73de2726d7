"""Conditions of what refers to a pool: objectives, rewrites, and the older InferenceModel."""

from collections.abc import Callable, Iterator
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
from tidegate.controllers.loop import Loop
from tidegate.controllers.routes import SETTLE_S
from tidegate.controllers.statuses import StatusWriter
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


class Objectives:
    """Says of each referrer whether its pool exists."""

    def __init__(self, cache: Cache, store: Store, now: Callable[[], float]) -> None:
        self._cache = cache
        self._writer = StatusWriter(cache, store, now, MANAGER)
        self.loop: Loop[str] = Loop("objectives", self.reconcile, settle_s=SETTLE_S, parallel=1)

    async def run(self) -> None:
        """Reconcile until cancelled. The cache must be complete by now."""
        self.loop.add("")
        await self.loop.run()

    def changed(self) -> None:
        """Say that any of `KINDS` changed."""
        self.loop.add("")

    async def reconcile(self, _: str) -> None:
        """Write the conditions that differ."""
        await self._writer.write_all(list(self._statuses()))

    def _statuses(self) -> Iterator[StatusUpdate]:
        pools = self._cache.all(InferencePool).keys() | self._cache.all(LegacyInferencePool).keys()
        for kind in REFERRERS:
            for key, one in self._cache.all(kind).items():
                pool = one.spec.pool_ref.name
                found = Key(key.namespace, pool) in pools
                yield StatusUpdate(
                    kind,
                    key,
                    {"conditions": [_accepted(one.metadata.generation, pool, found=found)]},
                )


def _accepted(generation: int, pool: str, *, found: bool) -> dict[str, object]:
    if found:
        return condition("Accepted", "True", "Accepted", "", generation)
    text = f"spec.poolRef.name: found {pool!r}, expected an InferencePool of this namespace"
    return condition("Accepted", "False", "PoolNotFound", text, generation)
