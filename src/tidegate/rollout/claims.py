"""Two rollouts, one rule: the older one has it, the other waits and says for whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What a rollout wants to move."""

    rollout: str
    """Its name."""
    target: str
    """`HTTPRoute/name/rule`; '' while it isn't known."""
    created: str
    """RFC 3339, UTC."""
    moving: bool
    """It has begun to move the weights: whoever comes, it stays."""
    over: bool = False


def owners(claims: Iterable[Claim]) -> Mapping[str, str]:
    """Return, for each rollout that must wait, the one that has its target.

    A rollout that is over has nothing; the one that moves comes first, then the oldest.
    """
    first: dict[str, Claim] = {}
    claims = list(claims)
    for each in claims:
        if each.target and not each.over:
            held = first.get(each.target)
            if held is None or _rank(each) < _rank(held):
                first[each.target] = each
    return {
        each.rollout: first[each.target].rollout
        for each in claims
        if each.target in first and first[each.target].rollout != each.rollout
    }


def _rank(claim: Claim) -> tuple[bool, str, str]:
    return (not claim.moving, claim.created, claim.rollout)
