"""InferenceRollouts: look, step, persist, do what is due.

    spec, world, verdicts → step → status written → due → weights, finalizers, adapters, notices

What waits for others (probes, hooks, adapters) runs beside the looks, and what comes of it is
an event of a later look. So an abort is never behind anything slow: it is two writes away.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from tidegate.api.durations import parse_duration
from tidegate.api.errors import NotFoundError, TidegateError
from tidegate.api.meta import Key, Resource
from tidegate.api.rollout import AnalysisMetric, FindingStatus, InferenceRollout
from tidegate.controllers import news, sight
from tidegate.controllers.apply import Writer
from tidegate.controllers.cache import Cache
from tidegate.controllers.calls import Calls
from tidegate.controllers.case import Case, trail_of
from tidegate.controllers.conditions import with_times
from tidegate.controllers.gauges import Gauges
from tidegate.controllers.jobs import Jobs
from tidegate.controllers.loop import Loop, Retry, pause
from tidegate.controllers.newest import Newest
from tidegate.controllers.probes import Probes
from tidegate.controllers.records import Records
from tidegate.controllers.senses import Senses
from tidegate.controllers.sight import MANAGER
from tidegate.controllers.statuses import stored_status
from tidegate.controllers.trail import Trail
from tidegate.controllers.values import NoValueError, Sources
from tidegate.controllers.verdicts import Decider
from tidegate.rollout.claims import Claim, owners
from tidegate.rollout.commands import Announce, AskGate, LoadAdapter, UnloadAdapter
from tidegate.rollout.due import due
from tidegate.rollout.events import Announced, Checked, Event, Judged, SpecSeen, WorldSeen
from tidegate.rollout.judged import value_of
from tidegate.rollout.observed import Observed
from tidegate.rollout.plan import plan_of
from tidegate.rollout.state import BEFORE, MOVING, OVER, State
from tidegate.rollout.status import render, restore
from tidegate.rollout.step import step
from tidegate.store.interface import Store
from tidegate.telemetry.shelf import Shelf

LOOK_S: Final = 0.5
"""Between two looks at a rollout that moves."""
WAIT_S: Final = 2.0
"""Between two looks at one that waits."""
TIDY_S: Final = 600.0
GATE_AGAIN_S: Final = 10.0
"""A closed gate is asked again after this."""
ADAPTER_AGAIN_S: Final = 3.0
"""A server that has (un)loaded an adapter may take so long to list it so."""

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
        self._deciders: dict[str, Decider] = {}
        """By the rollout's uid."""
        self.records = Records(run, shelf, now, self._heard)
        self._probes = Probes(now, self._look_at_all)
        self._gauges = Gauges(now)
        self._calls = Calls()
        self._sources = Sources()
        self._senses = Senses(cache, self._newest, self.records, self._probes, self._gauges, now)
        self.loop: Loop[Key] = Loop("rollouts", self.reconcile)

    async def run(self) -> None:
        """Reconcile until cancelled. The cache must be complete by now."""
        # What a rollout wants counted is known before the first worker is asked.
        for rollout in self._cache.all(InferenceRollout).values():
            self._follow(self._case(rollout), rollout)
            self.loop.add(rollout.key)
        try:
            async with asyncio.TaskGroup() as group:
                works = (self.records.run(), self._gauges.run(), self._tidy(), self.loop.run())
                for work in works:
                    group.create_task(work)
        finally:
            await self.close()

    async def _tidy(self) -> None:
        """Forget old Events, now and then."""
        never = asyncio.Event()
        while True:
            try:
                await news.forget_old(self._store, self._now())
            except TidegateError as error:
                log.warning("events not tidied", error=str(error))
            await pause(TIDY_S, never)

    async def close(self) -> None:
        """End all that goes on beside the looks."""
        for key in list(self._cases):
            self._forget(key)
        await self._probes.close()
        await self._calls.close()
        await self._sources.close()

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

    def _look_at_all(self) -> None:
        for key in self._cases:
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
        key = rollout.key
        case = self._cases.get(key)
        if case is None or case.uid != rollout.metadata.uid:
            self._forget(key)
            state = _restored(rollout)
            case = Case(rollout.metadata.uid, state, state, stored_status(rollout))
            case.jobs = Jobs(str(key), partial(self._came, key, case))
            self._cases[key] = case
        return case

    def _came(self, key: Key, case: Case, event: Event | None) -> None:
        """Take what came of a job."""
        if event is not None:
            case.inbox.append(event)
        self.loop.add(key)

    def _forget(self, key: Key) -> None:
        case = self._cases.pop(key, None)
        if case is not None:
            self.records.leave(case.uid)
            self._deciders.pop(case.uid, None)
            if case.jobs is not None:
                case.jobs.cancel()

    def _follow(self, case: Case, rollout: InferenceRollout) -> None:
        """Have counted what this rollout is judged by."""
        wanted = trail_of(case.state, rollout.metadata.namespace)
        if wanted is not None and case.state.stage not in OVER:
            case.trail = self.records.follow(case.uid, wanted)

    # what happened

    def _step(self, case: Case, rollout: InferenceRollout) -> None:
        now = self._now()
        case.state = step(case.state, _spec_seen(rollout), now)
        case.state = step(case.state, WorldSeen(self._observed(case, rollout)), now)
        self._follow(case, rollout)
        while case.inbox:
            case.state = step(case.state, case.inbox.pop(0), now)
        # What people want counts before the verdict: they may have forgiven what it says.
        case.note(now)
        for event in self._judged(case, rollout, now):
            case.state = step(case.state, event, now)
        case.note(now)

    def _observed(self, case: Case, rollout: InferenceRollout) -> Observed:
        return self._senses.observed(case, rollout, owner=self._owner(case, rollout))

    def _owner(self, case: Case, rollout: InferenceRollout) -> str:
        """Return the other rollout that has our target, if there is one."""
        namespace = rollout.metadata.namespace
        target = sight.target(case.state.plan, namespace, self._newest).name
        claims = [
            _claim(each, self._known_state(each), target if each is rollout else "")
            for each in self._cache.all(InferenceRollout).values()
            if each.metadata.namespace == namespace
        ]
        return owners(claims).get(rollout.metadata.name, "")

    def _known_state(self, rollout: InferenceRollout) -> State:
        case = self._cases.get(rollout.key)
        known = case is not None and case.uid == rollout.metadata.uid
        return case.state if known and case is not None else _restored(rollout)

    def _judged(self, case: Case, rollout: InferenceRollout, now: float) -> Iterator[Event]:
        findings = self._senses.findings(case, rollout.metadata.namespace)
        if findings is not None:
            yield Checked(_explained(case, findings))
        state, trail = case.state, case.trail
        if state.stage in MOVING and trail is not None:
            yield Judged(self._decider(case, trail).verdict(case, now))

    def _decider(self, case: Case, trail: Trail) -> Decider:
        """Return who judges this run; a later run, or one that was forgiven, is judged anew."""
        known, wanted = self._deciders.get(case.uid), (case.state.run, case.state.forgiven_at)
        if known is None or (known.run, known.since) != wanted or known.trail is not trail:
            known = self._deciders[case.uid] = Decider(case.state, trail)
        return known

    # what is kept and done

    async def _persist(self, case: Case, rollout: InferenceRollout) -> None:
        now = self._now()
        if not case.to_write(now):
            return
        state = case.state
        # The phase is always there, so that people see it also while it is the default.
        wanted = {"phase": state.phase, **msgspec.to_builtins(render(state))}
        status = with_times(wanted, case.written, now)
        await self._store.apply_status(InferenceRollout, rollout.key, status, manager=MANAGER)
        case.persisted, case.written, case.written_at = state, status, now

    async def _act(self, case: Case, rollout: InferenceRollout) -> bool:
        """Do what is due; return whether that may have changed the world."""
        writer = Writer(self._store, self._cache, self._newest, rollout, case.state.plan)
        acted = False
        told: list[Announce] = []
        for command in due(case.state, self._observed(case, rollout)):
            match command:
                case Announce():
                    told.append(command)
                case AskGate() | LoadAdapter() | UnloadAdapter():
                    self._start(case, rollout, command)
                case _:
                    await writer.do(command)
                    acted = True
        self._ask_values(case, rollout)
        if told and case.jobs is not None and not case.inbox:
            case.jobs.start("news", partial(self._tell, rollout, told))
        return acted

    def _ask_values(self, case: Case, rollout: InferenceRollout) -> None:
        """Ask for metrics of people's own, as often as each says, while both arms serve."""
        state, now = case.state, self._now()
        if state.stage not in MOVING or state.held or not 0 < state.effective < 100:
            return
        for metric in state.plan.metrics:
            has_source = metric.prometheus is not None or metric.webhook is not None
            due_at = case.asked.get(metric.name, -math.inf) + parse_duration(metric.every)
            if has_source and now >= due_at and case.jobs is not None:
                case.asked[metric.name] = now
                case.jobs.start(("value", metric.name), partial(self._value, case, rollout, metric))

    async def _value(self, case: Case, rollout: InferenceRollout, metric: AnalysisMetric) -> None:
        sides = self._senses.sides(case, rollout)
        try:
            canary, other = await self._sources.ask(metric, sides)
        except NoValueError as error:
            if case.trail is not None:
                case.trail.unknown[metric.name] = str(error)
            raise
        self.records.value(case.uid, value_of(metric), canary, other)

    def _start(
        self, case: Case, rollout: InferenceRollout, command: AskGate | LoadAdapter | UnloadAdapter
    ) -> None:
        """Begin what takes time; it is due again if it fails."""
        if case.jobs is None:
            return
        match command:
            case AskGate(gate):
                ask = partial(self._calls.gate, gate, rollout)
                case.jobs.start(command, ask, rest_s=GATE_AGAIN_S)
            case LoadAdapter():
                case.jobs.start(command, partial(self._load, command), rest_s=ADAPTER_AGAIN_S)
            case UnloadAdapter():
                case.jobs.start(command, partial(self._unload, command), rest_s=ADAPTER_AGAIN_S)

    async def _load(self, command: LoadAdapter) -> None:
        await self._calls.load(command.endpoint, command.adapter, command.path)
        self._probes.stale(command.endpoint)

    async def _unload(self, command: UnloadAdapter) -> None:
        await self._calls.unload(command.endpoint, command.adapter)
        self._probes.stale(command.endpoint)

    async def _tell(self, rollout: InferenceRollout, told: list[Announce]) -> Event:
        for each in told:
            log.info(
                "rollout", name=str(rollout.key), phase=each.entry.phase, what=each.entry.message
            )
            try:
                await news.tell(self._store, rollout, each.entry, each.name)
            except TidegateError as error:
                # News, no state: the rollout must not hang on it.
                log.warning("event not written", name=str(rollout.key), error=str(error))
            await self._calls.tell(each.entry, each.name, rollout)
        return Announced(told[-1].entry.number)

    def _again(self, case: Case) -> Retry | None:
        state = case.state
        if case.inbox or case.state != case.persisted:
            return Retry(LOOK_S)
        if state.stage in OVER:
            return None if state.cleaned else Retry(LOOK_S)
        return Retry(LOOK_S if state.stage not in BEFORE and not state.held else WAIT_S)


LIVE: Final = frozenset(("ModelsServed", "AdaptersServed"))
"""Checks that go on while it moves; the others say what is only true before the start."""


def _explained(case: Case, findings: tuple[FindingStatus, ...]) -> tuple[FindingStatus, ...]:
    """Return the findings that count at this stage, with what the servers said to us."""
    state = case.state
    if state.stage in MOVING:
        kept = [each for each in state.findings if each.name not in LIVE]
        return (*kept, *(each for each in findings if each.name in LIVE))
    return tuple(_with_problem(case, each) for each in findings)


def _with_problem(case: Case, finding: FindingStatus) -> FindingStatus:
    if finding.name != "AdaptersServed" or case.jobs is None:
        return finding
    problem = case.jobs.last_problem(LoadAdapter)
    return replace(finding, message=f"{finding.message} {problem}.") if problem else finding


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
