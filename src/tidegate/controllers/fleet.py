"""What one ModelServer has: its replicas and its probes, each with a task of its own.

`want` is level-triggered: it starts, stops and rolls what differs from what is wanted, and
may be called again and again with the same. Of the replicas that serve, one at a time is
restarted for a new template, and the next waits until all others are well.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from tidegate.api.tidegate import EndpointStatus, ModelServer, ModelServerSpec
from tidegate.controllers.probe import Probe
from tidegate.controllers.processes import Process
from tidegate.controllers.replica import NOTICE_S, Place, Replica
from tidegate.controllers.roster import Record
from tidegate.controllers.templates import template_of

log = structlog.get_logger()


class Fleet:
    """The endpoints of one ModelServer."""

    def __init__(
        self,
        server: ModelServer,
        place: Place,
        survivors: Iterable[tuple[Record, Process]],
        on_change: Callable[[], None],
    ) -> None:
        """Take over the processes that an earlier run left; start nothing."""
        self.uid = server.metadata.uid
        self._name = f"{server.metadata.namespace}.{server.metadata.name}"
        self._place = place
        self._on_change = on_change
        self._told = server.status.endpoints
        self._replicas: dict[int, Replica] = {}
        self._probes: dict[str, Probe] = {}
        self._tasks: dict[Replica | Probe, asyncio.Task[None]] = {}
        for record, process in survivors:
            self._begin(server.spec, record, process)

    def want(self, spec: ModelServerSpec) -> None:
        """Do what is due to run what `spec` says."""
        template = template_of(spec)
        count = spec.replicas if template else 0
        for index in range(count):
            if index not in self._replicas:
                self._begin(spec, Record(uid=self.uid, replica=index, revision="", port=0))
        for index, replica in self._replicas.items():
            if index >= count:
                replica.stop()
            else:
                replica.update(template)
        for replica in due_for_roll(self._replicas.values(), template.revision):
            replica.roll()
        self._want_probes(spec)

    def stop(self, notice_s: float = NOTICE_S) -> None:
        """End everything in order; `empty` once it's done."""
        for replica in self._replicas.values():
            replica.stop(notice_s)
        for address in list(self._probes):
            self._tasks[self._probes.pop(address)].cancel()

    def kill(self) -> None:
        """End everything at once; `empty` once it's done."""
        self.stop()
        for replica in self._replicas.values():
            replica.kill()

    @property
    def empty(self) -> bool:
        """Whether no process is left."""
        return not self._replicas

    def outdated(self, spec: ModelServerSpec) -> int:
        """Return how many replicas don't run what `spec` says yet."""
        revision = template_of(spec).revision
        return sum(r.revision not in ("", revision) for r in self._replicas.values())

    def endpoints(self) -> tuple[EndpointStatus, ...]:
        """Return what the world should be told, in a fixed order."""
        replicas = sorted(self._replicas.items())
        return (
            *(replica.endpoint for _, replica in replicas if replica.placed),
            *(probe.endpoint for probe in self._probes.values()),
        )

    def published(self, endpoints: Sequence[EndpointStatus]) -> None:
        """Take note that the world was told this."""
        by_address = {endpoint.address: endpoint for endpoint in endpoints}
        for replica in self._replicas.values():
            if told := by_address.get(replica.endpoint.address):
                replica.published(told)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of all replicas and probes."""
        return list(self._tasks.values())

    def _begin(self, spec: ModelServerSpec, record: Record, process: Process | None = None) -> None:
        replica = Replica(
            record, template_of(spec), self._place, name=self._name, on_change=self._on_change
        )
        if process:
            replica.adopt(process, self._last(replica.endpoint.address))
        self._replicas[record.replica] = replica
        self._run(replica)

    def _want_probes(self, spec: ModelServerSpec) -> None:
        for address in [a for a in self._probes if a not in spec.addresses]:
            self._tasks[self._probes.pop(address)].cancel()
        for index, address in enumerate(spec.addresses):
            if address not in self._probes:
                first = self._last(address) or EndpointStatus(address=address, replica=index)
                self._probes[address] = Probe(first, spec.health, self._on_change)
                self._run(self._probes[address])
            self._probes[address].check = spec.health

    def _last(self, address: str) -> EndpointStatus | None:
        return next((told for told in self._told if told.address == address), None)

    def _run(self, member: Replica | Probe) -> None:
        task = asyncio.ensure_future(member.run())
        self._tasks[member] = task
        task.add_done_callback(lambda done: self._ended(member, done))

    def _ended(self, member: Replica | Probe, task: asyncio.Task[None]) -> None:
        self._tasks.pop(member, None)
        if task.cancelled():  # we are going down: processes stay, to be taken over
            return
        if error := task.exception():
            log.error("model server given up", server=self._name, exc_info=error)
        if isinstance(member, Replica):
            member.kill()  # it has ended unless its task failed: leave no process behind
            _drop(self._replicas, member)
        else:
            _drop(self._probes, member)
        self._on_change()


def due_for_roll(replicas: Iterable[Replica], revision: str) -> list[Replica]:
    """Return the replicas that are to be restarted now to run `revision`.

    All that serve nobody anyway; else one, if all others are well.
    """
    all_of_them = list(replicas)
    outdated = [r for r in all_of_them if r.revision not in ("", revision) and not r.stopping]
    if idle := [r for r in outdated if r.endpoint.state != "Ready"]:
        return idle
    if all(r.endpoint.state == "Ready" and not r.stopping for r in all_of_them):
        return outdated[:1]
    return []


def _drop(members: dict[Any, Any], member: Replica | Probe) -> None:
    for name, one in list(members.items()):
        if one is member:
            del members[name]
