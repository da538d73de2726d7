"""InferenceRollouts: look, step, persist, do what is due.

    spec, world, verdicts → step → status written → due → weights, finalizers, adapters, notices

What waits for others (probes, hooks, adapters) runs beside the looks, and what comes of it is
an event of a later look. So an abort is never behind anything slow: it is two writes away.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from tidegate.api.errors import NotFoundError
from tidegate.api.meta import Key, Resource
from tidegate.api.rollout import InferenceRollout
from tidegate.controllers import sight
from tidegate.controllers.apply import Writer
from tidegate.controllers.cache import Cache
from tidegate.controllers.case import Case, trail_of
from tidegate.controllers.conditions import with_times
from tidegate.controllers.loop import Loop, Retry
from tidegate.controllers.newest import Newest
from tidegate.controllers.records import Records
from tidegate.controllers.shelf import Shelf
from tidegate.controllers.sight import FINALIZER, MANAGER
from tidegate.controllers.statuses import stored_status
from tidegate.rollout.claims import Claim, owners
from tidegate.rollout.commands import Announce, AskGate, Command, LoadAdapter, UnloadAdapter
from tidegate.rollout.decider import decide
from tidegate.rollout.due import due
from tidegate.rollout.events import Announced, Checked, Event, Judged, SpecSeen, WorldSeen
from tidegate.rollout.observed import Observed, Share
from tidegate.rollout.plan import plan_of
from tidegate.rollout.state import BEFORE, MOVING, OVER, State
from tidegate.rollout.status import render, restore
from tidegate.rollout.step import step
from tidegate.store.interface import Store

LOOK_S: Final = 0.5
"""Between two looks at a rollout that moves."""
WAIT_S: Final = 2.0
"""Between two looks at one that waits."""
RECENT_S: Final = 60.0

log = structlog.get_logger()


class Rollouts:
    """Reconciles InferenceRollouts."""

    def __init__(
        self,
        cache: Cache,
        store: Store,
        now: Callable[[], float],
        *,
        run: Path,
        shelf: Shelf,
    ) -> None:
        """Make the controller.

        Args:
            cache: Where the resources are.
            store: Where writes go.
            now: Seconds since the epoch.
            run: The folder of the workers' sockets.
            shelf: Where counts are kept.

        """
        self._cache = cache
        self._store = store
        self._now = now
        self._newest = Newest(cache)
        self._cases: dict[Key, Case] = {}
        self.records = Records(run, shelf, now, self._heard)
        self.loop: Loop[Key] = Loop("rollouts", self.reconcile)

    async def run(self) -> None:
        """Reconcile until cancelled. The cache must be complete by now."""
        # What a rollout wants counted is known before the first worker is asked.
        for rollout in self._cache.all(InferenceRollout).values():
            self._follow(self._case(rollout), rollout)
            self.loop.add(rollout.key)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.records.run())
            group.create_task(self.loop.run())

    def changed(self, kind: type[Resource], key: Key) -> None:
        """Say that an object of `sight.KINDS` changed."""
        if kind is InferenceRollout:
            self.loop.add(key)
            return
        for other in self._cache.all(InferenceRollout):
            if other.namespace == key.namespace:
                self.loop.add(other)

    def _heard(self, uid: str) -> None:
        for key, case in self._cases.items():
            if case.uid == uid:
                self.loop.add(key)

    async def reconcile(self, key: Key) -> Retry | None:
        """Look at one rollout and do what is due."""
        rollout = self._cache.get(InferenceRollout, key)
        if rollout is None:
            self._forget(key)
            return None
        case = self._case(rollout)
        self._step(case, rollout)
        try:
            await self._persist(case, rollout)
        except NotFoundError:
            return None
        if await self._act(case, rollout):
            self.loop.add(key)
        return self._again(case)

    # what is remembered

    def _case(self, rollout: InferenceRollout) -> Case:
        case = self._cases.get(rollout.key)
        if case is None or case.uid != rollout.metadata.uid:
            self._forget(rollout.key)
            state = _restored(rollout)
            status = stored_status(rollout)
            case = Case(rollout.metadata.uid, state, state, status)
            self._cases[rollout.key] = case
        return case

    def _forget(self, key: Key) -> None:
        case = self._cases.pop(key, None)
        if case is not None:
            self.records.leave(case.uid)

    def _follow(self, case: Case, rollout: InferenceRollout) -> None:
        """Have counted what this rollout is judged by."""
        wanted = trail_of(case.state, rollout.metadata.namespace)
        if wanted is not None and case.state.stage not in OVER:
            case.trail = self.records.follow(case.uid, wanted)

    # what happened

    def _step(self, case: Case, rollout: InferenceRollout) -> None:
        now = self._now()
        before = case.state
        case.state = step(case.state, _spec_seen(rollout), now)
        case.state = step(case.state, WorldSeen(self._observed(case, rollout)), now)
        self._follow(case, rollout)
        while case.inbox:
            case.state = step(case.state, case.inbox.pop(0), now)
        for event in self._judged(case, now):
            case.state = step(case.state, event, now)
        case.note(before, now)

    def _observed(self, case: Case, rollout: InferenceRollout) -> Observed:
        plan, namespace = case.state.plan, rollout.metadata.namespace
        there = sight.target(plan, namespace, self._newest)
        stable, canary = (
            sight.pool_seen(
                name, namespace, self._cache, in_flight=self._in_flight(case, side, name, namespace)
            )
            for side in (plan.stable, plan.canary)
            for name in (sight.pool_of(plan, side, namespace, self._newest),)
        )
        return Observed(
            target=there,
            owner=self._owner(case, rollout, there.name),
            stable=stable,
            canary=canary,
            finalizer=FINALIZER in rollout.metadata.finalizers,
            share=self._share(case),
            bindings=sight.bound(plan, namespace, self._cache),
        )

    def _in_flight(self, case: Case, side: str, pool: str, namespace: str) -> int | None:
        models = frozenset({side}) if case.state.plan.type == "Adapter" else None
        return self.records.running(f"{namespace}/{pool}", models)

    def _share(self, case: Case) -> Share | None:
        if case.trail is None or case.epoch != case.state.epoch:
            return None
        canary, total = case.trail.share(case.epoch_since)
        return Share(case.epoch, canary, total)

    def _owner(self, case: Case, rollout: InferenceRollout, target: str) -> str:
        """Return the other rollout that has our target, if there is one."""
        claims = [
            _claim(each, self._known_state(each), target if each is rollout else "")
            for each in self._cache.all(InferenceRollout).values()
            if each.metadata.namespace == rollout.metadata.namespace
        ]
        return owners(claims).get(rollout.metadata.name, "")

    def _known_state(self, rollout: InferenceRollout) -> State:
        case = self._cases.get(rollout.key)
        known = case is not None and case.uid == rollout.metadata.uid
        return case.state if known and case is not None else _restored(rollout)

    def _judged(self, case: Case, now: float) -> Iterator[Event]:
        state, trail = case.state, case.trail
        if state.stage in BEFORE:
            yield Checked(())
        if state.stage not in MOVING or trail is None:
            return
        recent = trail.tally(max(now - RECENT_S, case.forgiven, state.run_since))
        yield Judged(decide(state, recent=recent, epoch=trail.tally(case.epoch_since), now=now))

    # what is kept and done

    async def _persist(self, case: Case, rollout: InferenceRollout) -> None:
        now = self._now()
        if not case.to_write(now):
            return
        state = case.state
        status = with_times(msgspec.to_builtins(render(state)), case.written, now)
        await self._store.apply_status(InferenceRollout, rollout.key, status, manager=MANAGER)
        case.persisted, case.written, case.written_at = state, status, now

    async def _act(self, case: Case, rollout: InferenceRollout) -> bool:
        """Do what is due; return whether that may have changed the world."""
        writer = Writer(self._store, self._cache, self._newest, rollout, case.state.plan)
        acted = False
        for command in due(case.state, self._observed(case, rollout)):
            if isinstance(command, (AskGate, Announce, LoadAdapter, UnloadAdapter)):
                self._start(case, rollout, command)
                acted = bool(case.inbox) or acted
            else:
                await writer.do(command)
                acted = True
        return acted

    def _start(self, case: Case, rollout: InferenceRollout, command: Command) -> None:
        if isinstance(command, Announce):
            log.info("rollout", name=str(rollout.key), what=command.entry.message)
            case.inbox.append(Announced(command.entry.number))

    def _again(self, case: Case) -> Retry | None:
        state = case.state
        if case.inbox or case.state != case.persisted:
            return Retry(LOOK_S)
        if state.stage in OVER:
            return None if state.cleaned else Retry(WAIT_S)
        return Retry(LOOK_S if state.stage not in BEFORE and not state.held else WAIT_S)


def _spec_seen(rollout: InferenceRollout) -> SpecSeen:
    spec, metadata = rollout.spec, rollout.metadata
    return SpecSeen(
        uid=metadata.uid,
        generation=metadata.generation,
        plan=plan_of(spec),
        paused=spec.paused,
        promote=spec.promote,
        abort=spec.abort,
        undo=spec.undo,
        deleting=metadata.deletion_timestamp is not None,
    )


def _restored(rollout: InferenceRollout) -> State:
    """Return the state that the status remembers; a new one where it makes no sense."""
    try:
        return restore(rollout.status)
    except msgspec.ValidationError as error:
        log.error("rollout's memory is unreadable", name=str(rollout.key), error=str(error))
        return State()


def _claim(rollout: InferenceRollout, state: State, target: str) -> Claim:
    over = state.stage in OVER
    return Claim(
        rollout=rollout.metadata.name,
        target=state.target or target,
        created=rollout.metadata.creation_timestamp,
        moving=state.begun and not over,
        over=over,
    )
