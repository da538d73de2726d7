"""InferenceObjectives become, for each pool, the priority of a request.

A request says which objective it has by a header with the objective's name. One that says
nothing has its model's, by the first of: an objective's annotation

    tidegate.dev/models: chat, chat-*          models, `*` at the end for all that begin so

an InferenceModelRewrite's annotation, for the models that its rules match

    tidegate.dev/objective: NAME

or, as `criticality`, an InferenceModel. An objective of one of a rollout's pools holds for both,
the pool's own first.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

from tidegate.api.inference import (
    InferenceModel,
    InferenceModelRewrite,
    InferenceObjective,
    LegacyInferenceModelRewrite,
    LegacyInferenceObjective,
)
from tidegate.api.meta import Key, Resource
from tidegate.api.versions import upgrade
from tidegate.routing.moves import Moves
from tidegate.routing.snapshot import Snapshot
from tidegate.routing.table import Objectives

MODELS: Final = "tidegate.dev/models"
OBJECTIVE: Final = "tidegate.dev/objective"

R = TypeVar("R", bound=Resource)
Named = tuple[str, int]
Pair = tuple[list[Named], list[Named]]
"""Priorities by objective, and by model; of two for a name the first counts."""


def objectives_by_pool(snapshot: Snapshot, moves: Moves) -> Mapping[Key, Objectives]:
    """Return the objectives of each pool that has some, those of joined pools among them."""
    own: dict[Key, Pair] = {}
    for objective in _objectives(snapshot):
        names, models = own.setdefault(_pool(objective), ([], []))
        priority = objective.spec.priority or 0
        names.append((objective.metadata.name, priority))
        listed = objective.metadata.annotations.get(MODELS, "").split(",")
        models += [(name.strip(), priority) for name in listed if name.strip()]
    for pool, found in _of_rewrites(snapshot, own):
        own[pool][1].extend(found)
    for model in _sorted(snapshot.all(InferenceModel).values()):
        for newest in upgrade(model):
            if isinstance(newest, InferenceObjective):
                pair = own.setdefault(_pool(newest), ([], []))
                pair[1].append((model.spec.model_name, newest.spec.priority or 0))
    pools = {*own, *(other for pool in own for other in moves.joined(pool))}
    return {pool: _merged(pool, own, moves) for pool in pools}


def _objectives(snapshot: Snapshot) -> Iterator[InferenceObjective]:
    """Yield all objectives, newest kind first, the oldest object first."""
    yield from _sorted(snapshot.all(InferenceObjective).values())
    for old in _sorted(snapshot.all(LegacyInferenceObjective).values()):
        for newest in upgrade(old):
            if isinstance(newest, InferenceObjective):
                yield newest


def _of_rewrites(snapshot: Snapshot, own: Mapping[Key, Pair]) -> Iterator[tuple[Key, list[Named]]]:
    for kind in (InferenceModelRewrite, LegacyInferenceModelRewrite):
        for rewrite in _sorted(snapshot.all(kind).values()):
            pool = _pool(rewrite)
            named = dict(own.get(pool, ([], []))[0])
            priority = named.get(rewrite.metadata.annotations.get(OBJECTIVE, ""))
            if priority is not None:
                rules = rewrite.spec.rules
                yield (
                    pool,
                    [
                        (name, priority)
                        for rule in rules
                        for name in ([m.model.value for m in rule.matches] or ["*"])
                    ],
                )


def _merged(pool: Key, own: Mapping[Key, Pair], moves: Moves) -> Objectives:
    pairs = [own.get(pool), *(own.get(other) for other in moves.joined(pool))]
    found = [pair for pair in pairs if pair is not None]
    by_model = _first(entry for _, models in found for entry in models)
    return Objectives(
        by_name=_first(entry for names, _ in found for entry in names),
        by_model={name: p for name, p in by_model.items() if not name.endswith("*")},
        by_prefix=tuple((name[:-1], p) for name, p in by_model.items() if name.endswith("*")),
    )


def _first(entries: Iterable[Named]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, priority in entries:
        found.setdefault(name, priority)
    return found


def _sorted(resources: Iterable[R]) -> list[R]:
    return sorted(resources, key=lambda one: (one.metadata.creation_timestamp, one.key))


def _pool(one: InferenceObjective | InferenceModelRewrite) -> Key:
    return Key(one.metadata.namespace, one.spec.pool_ref.name)
