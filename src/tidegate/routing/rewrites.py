"""InferenceModelRewrites become, for each pool, what a client's model name stands for.

A rule has targets with weights: a split like that of backends, sticky by the same session and
independent of all others by its own salt. Targets keep the manifest's order. Of several rules
for a name the oldest object's counts (the first in it); a rule without matches takes what no
other names (upstream `apix/v1alpha2/inferencemodelrewrite_types.go`).
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

from tidegate.api.inference import (
    InferenceModel,
    InferenceModelRewrite,
    LegacyInferenceModelRewrite,
    RewriteRule,
)
from tidegate.api.meta import Key
from tidegate.api.versions import upgrade
from tidegate.routing.moves import Moves
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.table import ModelSplit, Rewrites, Target

Origin = InferenceModelRewrite | InferenceModel


def rewrites_by_pool(snapshot: Snapshot, moves: Moves) -> Mapping[Key, Rewrites]:
    """Return the rewrites of each pool that has some, those of joined pools among them."""
    own: dict[Key, list[tuple[str | None, ModelSplit]]] = {}
    for origin, rewrite in sorted(_all(snapshot), key=lambda pair: _age(pair[0])):
        pool = Key(rewrite.metadata.namespace, rewrite.spec.pool_ref.name)
        for index, rule in enumerate(rewrite.spec.rules):
            split = _split(origin, index, rule, moves)
            if split is not None:
                names: list[str | None] = [each.model.value for each in rule.matches]
                names = names or [None]
                own.setdefault(pool, []).extend((name, split) for name in names)
    pools = {*own, *(other for pool in own for other in moves.joined(pool))}
    return {
        pool: _merged(
            [*own.get(pool, ()), *(e for o in moves.joined(pool) for e in own.get(o, ()))]
        )
        for pool in pools
    }


def _all(snapshot: Snapshot) -> Iterator[tuple[Origin, InferenceModelRewrite]]:
    kinds: tuple[type[Origin], ...] = (
        InferenceModelRewrite,
        LegacyInferenceModelRewrite,
        InferenceModel,
    )
    for kind in kinds:
        for origin in snapshot.all(kind).values():
            for newest in upgrade(origin):
                if isinstance(newest, InferenceModelRewrite):
                    yield origin, newest


def _age(origin: Origin) -> tuple[str, Key]:
    return (origin.metadata.creation_timestamp, origin.key)


def _split(origin: Origin, index: int, rule: RewriteRule, moves: Moves) -> ModelSplit | None:
    if not rule.targets:
        return None
    namespace = origin.metadata.namespace
    whole = f"{type(origin).__name__}/{origin.metadata.name}"
    name = whole if isinstance(origin, InferenceModel) else f"{whole}/{index}"
    scope = f"{namespace}/{name}"
    move = moves.of(namespace, name)
    salt = blake2b(scope.encode(errors="replace"), digest_size=16).digest()
    targets = tuple(
        Target(each.model_rewrite, 1 if each.weight is None else each.weight)
        for each in rule.targets
    )
    total = sum(each.weight for each in targets)
    return ModelSplit(scope, targets, total, salt if move is None else move.salt)


def _merged(entries: Iterable[tuple[str | None, ModelSplit]]) -> Rewrites:
    by_model: dict[str, ModelSplit] = {}
    any_model: ModelSplit | None = None
    for name, split in entries:
        if name is not None:
            by_model.setdefault(name, split)
        elif any_model is None:
            any_model = split
    return Rewrites(by_model, any_model)
