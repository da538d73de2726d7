"""Base-model updates: the weights of a node update, and what is bound to the old pool.

Upstream an InferenceObjective or InferenceModelRewrite binds one pool, so requests that move
to the new pool would lose their priority and their aliases. While a rollout moves, what is
bound to one of its pools holds for both; when it is complete, it is bound to the new one.
The objects themselves are not touched before.
"""

from collections.abc import Iterable, Mapping

from tidegate.api.inference import GROUP, InferenceModelRewrite, InferenceObjective
from tidegate.api.rollout import InferenceRollout
from tidegate.rollout.observed import Binding
from tidegate.rollout.strategies.node import find, patch, read
from tidegate.rollout.strategies.weights import Patch, put, test

__all__ = ["bindings", "find", "joined", "patch", "read", "rebind"]


def bindings(
    pools: Iterable[str],
    namespace: str,
    objectives: Iterable[InferenceObjective],
    rewrites: Iterable[InferenceModelRewrite],
) -> tuple[Binding, ...]:
    """Return what is bound to one of `pools` in `namespace`, in a fixed order."""
    wanted = frozenset(pools)
    objects: list[InferenceObjective | InferenceModelRewrite] = [*objectives, *rewrites]
    found = [
        Binding(
            "InferenceObjective"
            if isinstance(each, InferenceObjective)
            else "InferenceModelRewrite",
            each.metadata.name,
            each.spec.pool_ref.name,
        )
        for each in objects
        if each.metadata.namespace == namespace
        and each.spec.pool_ref.group == GROUP
        and each.spec.pool_ref.name in wanted
    ]
    return tuple(sorted(found, key=lambda each: each.identity))


def joined(rollouts: Iterable[InferenceRollout]) -> Mapping[tuple[str, str], frozenset[str]]:
    """Return, for each (namespace, pool) of a moving rollout, all pools that it stands for."""
    groups: dict[tuple[str, str], frozenset[str]] = {}
    for each in rollouts:
        namespace = each.metadata.namespace
        names = frozenset(each.status.joined)
        for pool in each.status.joined:
            names |= groups.get((namespace, pool), frozenset())
        for pool in names:
            groups[namespace, pool] = names
    return groups


def rebind(old: str, new: str) -> Patch:
    """Return the edits that bind an objective or rewrite to another pool."""
    return [test("/spec/poolRef/name", old), put("/spec/poolRef/name", new)]
