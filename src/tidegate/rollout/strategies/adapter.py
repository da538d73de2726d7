"""Adapter updates: the weights of two targets in one rule of an InferenceModelRewrite.

A target's weight is at least 1 (upstream's schema), so 0 % is no target at all: the list of
targets is written as a whole, the others in it as they were. The legacy InferenceModel has
the same list as `targetModels`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.api.inference import InferenceModel, InferenceModelRewrite
from tidegate.rollout.plan import Plan
from tidegate.rollout.strategies.weights import Found, Patch, Problem, put, test

Holder = InferenceModelRewrite | InferenceModel


@dataclass(frozen=True, slots=True)
class Place:
    """A list of targets: of one rule, or of a legacy InferenceModel."""

    holder: Holder
    rule: int | None
    """None for an InferenceModel."""
    models: tuple[str, ...]
    """What clients ask for; none means anything."""
    targets: tuple[tuple[str, int | None], ...]
    """Name and weight; None is an equal share."""

    @property
    def name(self) -> str:
        """`InferenceModelRewrite/name/0`, `InferenceModel/name`."""
        whole = f"{type(self.holder).__name__}/{self.holder.metadata.name}"
        return whole if self.rule is None else f"{whole}/{self.rule}"

    @property
    def path(self) -> str:
        """JSON pointer of the list."""
        if self.rule is None:
            return "/spec/targetModels"
        return f"/spec/rules/{self.rule}/targets"

    def weight(self, target: str) -> int | None:
        """Return a target's weight; 0 if it isn't there, None if it is there twice."""
        weights = [
            1 if weight is None else weight for name, weight in self.targets if name == target
        ]
        return sum(weights) if len(weights) < 2 else None


def read(plan: Plan, namespace: str, holders: Iterable[Holder]) -> Found | Problem:
    """Return the weights that `plan`, of a rollout in `namespace`, moves."""
    place = find(plan, namespace, holders)
    if isinstance(place, Problem):
        return place
    stable, canary = place.weight(plan.stable), place.weight(plan.canary)
    if stable is None or canary is None:
        twice = plan.stable if stable is None else plan.canary
        return Problem(f"{place.name} has {twice} twice among its targets: merge them")
    everything = sum(1 if weight is None else weight for _, weight in place.targets)
    return Found(place.name, stable, canary, everything - stable - canary)


def find(plan: Plan, namespace: str, holders: Iterable[Holder]) -> Place | Problem:
    """Return the list of targets, named by the plan or found by the adapters in it."""
    places = [
        place
        for holder in holders
        if holder.metadata.namespace == namespace
        for place in _places(holder)
        if _is_meant(plan, place)
    ]
    named = f" in {plan.target.name}" if plan.target is not None else ""
    having = [place for place in places if _has_a_side(plan, place)]
    if len(having) == 1:
        return having[0]
    if having:
        names = ", ".join(place.name for place in having)
        return Problem(f"several rules have the adapters ({names}): name one in spec.target")
    return Problem(
        f"no InferenceModelRewrite sends to the adapter {plan.stable}{named}:"
        " add a rule with it as its target",
        canary_gone=True,
    )


def _is_meant(plan: Plan, place: Place) -> bool:
    target = plan.target
    if target is None:
        return True
    kind = target.kind or "InferenceModelRewrite"
    right_rule = target.rule is None or target.rule == str(place.rule)
    named = place.holder.metadata.name == target.name
    return named and type(place.holder).__name__.removeprefix("Legacy") == kind and right_rule


def _has_a_side(plan: Plan, place: Place) -> bool:
    return any(name in (plan.stable, plan.canary) for name, _ in place.targets)


def _places(holder: Holder) -> Iterator[Place]:
    if isinstance(holder, InferenceModel):
        targets = tuple((each.name, each.weight) for each in holder.spec.target_models)
        yield Place(holder, None, (holder.spec.model_name,), targets)
        return
    for index, rule in enumerate(holder.spec.rules):
        names = tuple((each.model_rewrite, each.weight) for each in rule.targets or ())
        models = tuple(match.model.value for match in rule.matches)
        yield Place(holder, index, models, names)


def patch(plan: Plan, place: Place, *, stable: int, canary: int) -> Patch:
    """Return the edits that give both adapters their weights; 0 takes a target out.

    Both stand where the first of them stood, the canary last: the order of targets is part of
    which session goes where.
    """
    ours = {plan.stable: stable, plan.canary: canary}
    targets: list[tuple[str, int]] = []
    done = False
    for name, weight in place.targets:
        if name not in ours:
            targets.append((name, 1 if weight is None else weight))
        elif not done:
            targets += [(side, share) for side, share in ours.items() if share > 0]
            done = True
    as_read = [_target(place, name, weight) for name, weight in place.targets]
    wanted = [_target(place, name, weight) for name, weight in targets]
    return [test(place.path, as_read), put(place.path, wanted)]


def _target(place: Place, name: str, weight: int | None) -> Mapping[str, Any]:
    key = "name" if place.rule is None else "modelRewrite"
    return {key: name} if weight is None else {key: name, "weight": weight}
