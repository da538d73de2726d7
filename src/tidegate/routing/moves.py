"""Rollouts as routing sees them: whose split has which salt and order, what is copied.

Read from the statuses of InferenceRollouts, so that all workers agree without being told:

- While a rollout has a rule, its uid is the salt of the rule's split, so that no user is the
  guinea pig of every rollout. The rule's own salt comes back with the end. Both happen while
  one side has everything, so nobody is moved by it; where a third backend of the rule has
  traffic too, the rule keeps its own salt.
- The canary stands right before the stable: a raised weight moves sessions between these two
  and nobody else.
- What is bound to one of a rollout's pools holds for both (`joined`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, Literal

from tidegate.api.meta import Key
from tidegate.api.rollout import InferenceRollout
from tidegate.routing.table import Arm, Mirror

_AT_REST: Final = frozenset(("Pending", "Completed", "Aborted", "RolledBack"))


@dataclass(frozen=True, slots=True)
class Move:
    """A rollout that has a rule."""

    salt: bytes
    stable: str
    canary: str
    mirrored: float = 0.0
    """The share of the sessions whose requests are copied to the canary, 0..1."""
    purpose: Literal["Warm", "Shadow"] = "Shadow"

    def ordered(self, arms: Sequence[Arm]) -> tuple[Arm, ...]:
        """Return the arms with the canary right before the stable, and what is copied."""
        canary = next((arm for arm in arms if arm.name == self.canary), None)
        stable = next((arm for arm in arms if arm.name == self.stable), None)
        if canary is None or stable is None:
            return tuple(arms)
        at = min(arms.index(canary), arms.index(stable))
        others = [arm for arm in arms if arm is not canary and arm is not stable]
        return (*others[:at], canary, self._copied(stable, canary), *others[at:])

    def _copied(self, stable: Arm, canary: Arm) -> Arm:
        if not self.mirrored or canary.backend is None or stable.backend is None:
            return stable
        copy = Mirror(canary.backend, self.mirrored, self.purpose)
        filters = replace(stable.filters, mirrors=(*stable.filters.mirrors, copy))
        return replace(stable, filters=filters)

    def salts(self, arms: Iterable[Arm]) -> bool:
        """Whether the split of `arms` is this rollout's alone."""
        return not any(arm.weight for arm in arms if arm.name not in (self.stable, self.canary))


class Moves:
    """All rollouts of a snapshot that have a rule."""

    def __init__(self, rollouts: Iterable[InferenceRollout]) -> None:
        self._by_target: dict[tuple[str, str], Move] = {}
        self._joined: dict[Key, tuple[Key, ...]] = {}
        for one in sorted(rollouts, key=_precedence):
            namespace, status = one.metadata.namespace, one.status
            if status.phase not in _AT_REST and status.target:
                self._by_target.setdefault((namespace, status.target), _move(one))
            for pool in status.joined:
                others = tuple(Key(namespace, each) for each in status.joined if each != pool)
                key = Key(namespace, pool)
                self._joined[key] = (*self._joined.get(key, ()), *others)

    def of(self, namespace: str, target: str) -> Move | None:
        """Return the rollout that has `target`, as statuses name it: `HTTPRoute/name/rule`."""
        return self._by_target.get((namespace, target))

    def joined(self, pool: Key) -> tuple[Key, ...]:
        """Return the pools whose objectives and rewrites hold for `pool` too."""
        return self._joined.get(pool, ())


def _precedence(rollout: InferenceRollout) -> tuple[bool, str, Key]:
    """Sorts rollouts: those that have moved something first, then the oldest."""
    waits = not rollout.status.weights.effective
    return (waits, rollout.metadata.creation_timestamp, rollout.key)


def _move(rollout: InferenceRollout) -> Move:
    spec, mirror = rollout.spec, rollout.status.mirror
    salt = blake2b(rollout.metadata.uid.encode(errors="replace"), digest_size=16).digest()
    return Move(salt, spec.stable, spec.canary, mirror.percent / 100, mirror.purpose)
