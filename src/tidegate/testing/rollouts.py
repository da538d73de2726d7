"""A world for a rollout to run in: its objects, its pools, a clock, and crashes on demand.

It does what the controller does: look, persist the state, do what is due. Weights live in a
real HTTPRoute or InferenceModelRewrite and are read and written by the strategies.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import msgspec

from tidegate.api.gateway import HTTPRoute
from tidegate.api.inference import GROUP, LLMD_GROUP, InferenceModelRewrite
from tidegate.api.rollout import FindingStatus, InferenceRolloutSpec, InferenceRolloutStatus
from tidegate.api.validate import admit
from tidegate.api.versions import decode, kind_of
from tidegate.rollout import commands
from tidegate.rollout.due import due
from tidegate.rollout.events import (
    Announced,
    Checked,
    Event,
    GateAnswered,
    Judged,
    Outcome,
    SpecSeen,
    Verdict,
    WorldSeen,
)
from tidegate.rollout.observed import Binding, Observed, PoolSeen, Share, TargetSeen, Warmth
from tidegate.rollout.plan import Plan, plan_of
from tidegate.rollout.state import MOVING, State
from tidegate.rollout.status import render, restore
from tidegate.rollout.step import step
from tidegate.rollout.strategies import adapter, node
from tidegate.rollout.strategies.weights import Problem, target_seen
from tidegate.store.patches import apply_json

MANAGER = "tidegate-rollout"


class CrashError(Exception):
    """The controller died here."""


def admitted(spec: dict[str, Any]) -> InferenceRolloutSpec:
    """Return a spec as the API admits it, with its defaults."""
    return _admitted(json.dumps(spec))


@lru_cache(maxsize=256)
def _admitted(spec: str) -> InferenceRolloutSpec:
    manifest = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "InferenceRollout",
        "metadata": {"name": "llm", "namespace": "default"},
        "spec": json.loads(spec),
    }
    obj = admit(kind_of(manifest), "v1alpha1", manifest).obj
    return msgspec.convert(obj["spec"], InferenceRolloutSpec)


@lru_cache(maxsize=256)
def _restored(status: str) -> State:
    return restore(msgspec.json.decode(status, type=InferenceRolloutStatus))


def route(weights: tuple[int, int], names: tuple[str, str] = ("llm", "llm-new")) -> dict[str, Any]:
    """Return an HTTPRoute with a rule for two pools, between two others."""
    refs = [
        {"group": GROUP, "kind": "InferencePool", "name": name, "weight": weight}
        for name, weight in zip(names, weights, strict=True)
    ]
    other = {"backendRefs": [{"name": "other", "port": 80}]}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "routes", "namespace": "default"},
        "spec": {"rules": [other, {"name": "chat", "backendRefs": refs}, other]},
    }


def rewrite(stable: str) -> dict[str, Any]:
    """Return an InferenceModelRewrite that gives a name to one adapter."""
    return {
        "apiVersion": f"{LLMD_GROUP}/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "food-review", "namespace": "default"},
        "spec": {
            "poolRef": {"name": "llm"},
            "rules": [
                {
                    "matches": [{"model": {"value": "food-review"}}],
                    "targets": [{"modelRewrite": stable}],
                }
            ],
        },
    }


_WHOLE = PoolSeen(ready=2, in_flight=0, replicas=2)


@dataclass
class World:
    """One rollout and everything around it."""

    spec: dict[str, Any]
    now: float = 1000.0
    generation: int = 1
    deleting: bool = False
    gone: bool = False
    """The rollout was deleted and let go."""
    finalizer: bool = False
    target: dict[str, Any] | None = None
    writer: str = "kubectl"
    owner: str = ""
    status: str = "{}"
    """JSON, as it is persisted."""
    stable: PoolSeen = _WHOLE
    canary: PoolSeen = _WHOLE
    rate: float | None = None
    """Requests a second."""
    cap: int | None = None
    cap_message: str = ""
    stable_cap: int | None = None
    share: tuple[int, int] | None = None
    """What is counted in every epoch: canary, total."""
    warmth: Warmth | None = None
    adapters: dict[str, set[str]] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    findings: tuple[FindingStatus, ...] = ()
    gate_open: bool = True
    quality: Outcome = "continue"
    """What is said of the canary at each look."""
    why: str = ""
    """The verdict's sentence."""
    wait_for_duration: bool = True
    """A pass is only said once the step has lasted as long as it should."""
    log: list[str] = field(default_factory=list)
    """Commands as they were done."""
    crash_in: int | None = None
    """How many writes are still done before the controller dies."""

    def __post_init__(self) -> None:
        if self.target is None:
            adapters = self.spec.get("type") == "Adapter"
            self.target = rewrite(self.spec["stable"]) if adapters else route((100, 0))

    @property
    def plan(self) -> Plan:
        """The spec's plan."""
        return plan_of(admitted(self.spec))

    @property
    def _moving_plan(self) -> Plan:
        return self.state.plan if self.state.run else self.plan

    @property
    def state(self) -> State:
        """What is persisted."""
        return _restored(self.status)

    @property
    def weights(self) -> tuple[int, int] | None:
        """The target's weights: stable, canary."""
        found = self._target_seen().weights
        return found.pair if found else None

    def set_weights(self, stable: int, canary: int, by: str) -> None:
        """Write weights as somebody (or as the rollout)."""
        self._write(stable, canary)
        self.writer = by

    def look(self) -> State:
        """Look, persist, do what is due, until nothing is left to do.

        Raises:
            CrashError: The controller dies in between, where `crash_in` says so.

        """
        asked: set[commands.Command] = set()
        for _ in range(100):
            before, state = self.state, self._step()
            wanted = () if self.gone else due(state, self.seen(state))
            wanted = tuple(each for each in wanted if each not in asked)
            for command in wanted:
                self.do(command)
            # A closed gate is asked again at the next look.
            asked |= {each for each in wanted if isinstance(each, commands.AskGate)}
            if not wanted and self.state == before:
                return state
        raise AssertionError(f"never at rest: {due(self.state, self.seen(self.state))}")

    def look_through_crashes(self) -> State:
        """Look, and again after each crash."""
        while True:
            try:
                return self.look()
            except CrashError:
                self.crash_in = None

    def wait(self, seconds: float) -> State:
        """Let time pass, then look."""
        self.now += seconds
        return self.look_through_crashes()

    def feed(self, event: Event) -> State:
        """Let one event happen and persist what becomes of the state."""
        before = self.state
        after = step(before, event, self.now)
        if after != before:
            self._write_once()
            self.status = msgspec.json.encode(render(after)).decode()
        return after

    def _step(self) -> State:
        for make in (self._spec_seen, self._world_seen, self._checked, self._judged):
            for event in make():
                self.feed(event)
        return self.state

    def _spec_seen(self) -> Iterator[Event]:
        spec = admitted(self.spec)
        yield SpecSeen(
            uid="uid",
            generation=self.generation,
            plan=plan_of(spec),
            paused=spec.paused,
            promote=spec.promote,
            abort=spec.abort,
            undo=spec.undo,
            deleting=self.deleting,
        )

    def _world_seen(self) -> Iterator[Event]:
        yield WorldSeen(self.seen(self.state))

    def _checked(self) -> Iterator[Event]:
        if self.state.stage != "Pending":
            yield Checked(tuple(self._findings()))

    def _findings(self) -> Iterator[FindingStatus]:
        for each in self.findings:
            waived = each.name in self.state.plan.waivers
            yield msgspec.structs.replace(each, waived=waived)
        if self.state.plan.type == "Adapter":
            for endpoint, there in sorted(self.adapters.items()):
                if self.state.plan.canary not in there:
                    message = f"{self.state.plan.canary} is not loaded on {endpoint}."
                    yield FindingStatus(name="AdaptersServed", severity="Block", message=message)

    def _judged(self) -> Iterator[Event]:
        state = self.state
        outcome = self.quality
        if outcome == "pass" and self.wait_for_duration:
            current = state.current
            wanted_s = (current.duration_s or 0) if current is not None else 0
            outcome = "pass" if state.waited_s(self.now) >= wanted_s else "continue"
        bad = outcome in ("fail", "inconclusive")
        if state.stage in MOVING and (state.effective > 0 or not bad):
            yield Judged(
                Verdict(outcome=outcome, run=state.run, epoch=state.epoch, message=self.why)
            )

    def seen(self, state: State) -> Observed:
        """Return what the controller sees now."""
        share = Share(state.epoch, *self.share) if self.share else None
        return Observed(
            target=self._target_seen(),
            owner=self.owner,
            stable=self.stable,
            canary=self.canary,
            finalizer=self.finalizer,
            rate=self.rate,
            cap=self.cap,
            cap_message=self.cap_message,
            stable_cap=self.stable_cap,
            share=share,
            warmth=self.warmth,
            adapters={name: frozenset(there) for name, there in self.adapters.items()},
            bindings=tuple(self.bindings),
        )

    def _target_seen(self) -> TargetSeen:
        if self.target is None:
            return TargetSeen(problem="there is no HTTPRoute routes", canary_gone=True)
        plan, typed = self._moving_plan, decode(self.target)
        if isinstance(typed, HTTPRoute):
            found = node.read(plan, "default", [typed])
        else:
            assert isinstance(typed, InferenceModelRewrite)  # the only other
            found = adapter.read(plan, "default", [typed])
        return target_seen(found, writer=self.writer, ours=self.writer == MANAGER)

    def _write(self, stable: int, canary: int) -> None:
        assert self.target is not None  # nobody writes to nothing
        plan, typed = self._moving_plan, decode(self.target)
        if isinstance(typed, HTTPRoute):
            place = node.find(plan, "default", [typed])
            assert not isinstance(place, Problem), place
            edits = node.patch(plan, *place, stable=stable, canary=canary)
        else:
            assert isinstance(typed, InferenceModelRewrite)
            where = adapter.find(plan, "default", [typed])
            assert not isinstance(where, Problem), where
            edits = adapter.patch(plan, where, stable=stable, canary=canary)
        self.target = apply_json(json.loads(json.dumps(self.target)), edits)

    def _write_once(self) -> None:
        if self.crash_in is None:
            return
        if self.crash_in == 0:
            raise CrashError
        self.crash_in -= 1

    def do(self, command: commands.Command) -> None:
        """Do what is due, as the controller would."""
        self._write_once()
        if not isinstance(command, commands.Announce):
            self.log.append(str(command))
        match command:
            case commands.SetWeights():
                self.set_weights(command.stable, command.canary, MANAGER)
            case commands.HoldRollout():
                self.finalizer = True
            case commands.ReleaseRollout():
                self.finalizer = False
                self.gone = self.deleting
            case commands.HoldPool() | commands.ReleasePool():
                self._hold_pool(command.pool, held=isinstance(command, commands.HoldPool))
            case commands.LoadAdapter():
                self.adapters[command.endpoint].add(command.adapter)
            case commands.UnloadAdapter():
                self.adapters[command.endpoint].discard(command.adapter)
            case commands.Rebind():
                self._rebind(command)
            case commands.Scale():
                self.stable = replace(
                    self.stable, replicas=command.replicas, ready=command.replicas
                )
            case commands.AskGate():
                self.feed(GateAnswered(command.gate, self.gate_open, "not now"))
            case commands.Announce():
                self.feed(Announced(command.entry.number))

    def _hold_pool(self, pool: str, *, held: bool) -> None:
        side: Literal["stable", "canary"] = "stable" if pool == self.state.plan.stable else "canary"
        seen: PoolSeen = getattr(self, side)
        gone = seen.deleting and not held
        setattr(self, side, replace(seen, held=held, exists=seen.exists and not gone))

    def _rebind(self, command: commands.Rebind) -> None:
        self.bindings = [
            replace(each, pool=command.pool)
            if (each.kind, each.name) == (command.kind, command.name)
            else each
            for each in self.bindings
        ]
