"""One replica of a ModelServer: a process that is kept alive, life after life.

A life: start a process (or take over the one that an earlier run left), wait until it is
well, watch it, and see it out. What ends a life decides what comes next: told to go, there
is none; told to roll, the next begins at once with the newest template; else the process
failed, and the next begins later and later.

Invariant: the endpoint is published as `Stopping` before a process that serves is asked to
end, so that the workers send it nothing more; and it is given time to finish what it has.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import structlog
from msgspec.structs import replace

from tidegate.api.errors import TidegateError, UnavailableError
from tidegate.api.tidegate import EndpointStatus
from tidegate.controllers import health
from tidegate.controllers.loop import back_off, pause, put_away
from tidegate.controllers.ports import can_bind, choose_port
from tidegate.controllers.processes import Process, last_line
from tidegate.controllers.roster import Record, Roster
from tidegate.controllers.templates import Template

RESTART_S: Final = 0.5
"""Pause before the first restart; it doubles with each failure in a row."""
RESTART_LIMIT_S: Final = 30.0
STEADY_S: Final = 30.0
"""A process that was well for so long has forgotten its failures."""
STARTING_PERIOD_S: Final = 0.1
"""How often a new process is asked at most, until it is well."""
NOTICE_S: Final = 0.5
"""From the published `Stopping` to the stop: workers see a change within some 10 ms."""
PUBLISH_S: Final = 5.0
"""How long we wait for `Stopping` to be published; an API that is down must not stop us."""
IDLE_PERIOD_S: Final = 0.2
"""How often a stopping server is asked whether it still has requests."""
IDLE_LOOKS: Final = 2
"""How many times in a row it must have none."""
EXIT_S: Final = 5.0
"""What an idle server has at least to exit, whatever is left of its grace period."""
LOG_LIMIT: Final = 32 * 1024 * 1024
"""Bytes; a log that is larger when its process is started is put aside."""

State = Literal["Starting", "Ready", "Unhealthy", "Stopping"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica lives: what all replicas of a machine share."""

    host: str
    logs: Path
    roster: Roster
    taken: set[int] = field(default_factory=set)
    """Ports given to replicas."""


class Replica:
    """Keeps one process running while `run` runs."""

    def __init__(
        self,
        record: Record,
        template: Template,
        place: Place,
        *,
        name: str,
        on_change: Callable[[], None],
    ) -> None:
        """Make a replica that runs nothing yet.

        Args:
            record: Who it is; its port and pid where it ran before, else port 0.
            template: What to run from the next life on.
            place: Where.
            name: `namespace.name` of the ModelServer: what its log is called.
            on_change: Called when `endpoint` is another.

        """
        self.endpoint = EndpointStatus(address="", replica=record.replica)
        """What the world is told."""
        self._record = record
        self._template = template
        self._place = place
        self._log = place.logs / f"{name}.{record.replica}.log"
        self._on_change = on_change
        self._process: Process | None = None
        self._turn = asyncio.Event()  # set: end this life
        self._gone = False  # there is no next life
        self._served = False  # this life's process was well at some time
        self._published = asyncio.Event()  # the world was told that we stop
        self._notice_s = NOTICE_S
        self._failures = 0  # in a row
        self._trouble = ""  # what ended the last life
        self._take_port(record.port)

    # What its owner says

    def adopt(self, process: Process, last: EndpointStatus | None) -> None:
        """Begin with a process that runs already; `last` is what the world was told of it."""
        self._process = process
        state: State = "Starting"
        if last and last.address == self.endpoint.address and last.state != "Stopping":
            # A server that serves must not fall out of the tables because we were restarted.
            state = last.state
        restarts = last.restarts if last else 0
        self.endpoint = replace(self.endpoint, state=state, pid=process.pid, restarts=restarts)
        self._served = state in ("Ready", "Unhealthy")

    def update(self, template: Template) -> None:
        """Take a template: how it is treated holds at once, what it runs from the next life."""
        self._template = template

    def roll(self) -> None:
        """End this life in order and begin another."""
        self._turn.set()

    def stop(self, notice_s: float = NOTICE_S) -> None:
        """End this life in order; there is no other."""
        self._gone, self._notice_s = True, notice_s
        self._turn.set()

    def kill(self) -> None:
        """End this life at once; there is no other."""
        self.stop(notice_s=0.0)
        if self._process:
            self._process.send(signal.SIGKILL)

    def published(self, endpoint: EndpointStatus) -> None:
        """Take note that the world was told this."""
        if endpoint.state == "Stopping":
            self._published.set()

    @property
    def revision(self) -> str:
        """Of the template that it runs, or ran last; '' before its first life."""
        return self._record.revision

    @property
    def placed(self) -> bool:
        """Whether it has an address."""
        return self._record.port != 0

    @property
    def stopping(self) -> bool:
        """Whether it is ending a life."""
        return self._gone or self._turn.is_set()

    # Its lives

    async def run(self) -> None:
        """Live until `stop`; then forget that we were."""
        while not self._gone:
            self._trouble = await self._live()
            if self._trouble and not self._turn.is_set():
                await self._rest()
            if self._turn.is_set():
                self._turn.clear()
                self._failures, self._trouble = 0, ""
        self._place.roster.forget(self._record.uid, self._record.replica)
        self._place.taken.discard(self._record.port)

    async def _live(self) -> str:
        """Return what went wrong in this life; '' where it ended because we wanted it."""
        try:
            process = self._process = self._process or self._start()
        except (TidegateError, OSError) as error:
            return str(error)
        self._published.clear()
        trouble = await self._keep(process)
        await (self._put_down(process, trouble) if trouble else self._see_out(process))
        self._process, self._served = None, False
        return trouble

    def _start(self) -> Process:
        """Start a process. What we are about to do is written down first."""
        template, place = self._template, self._place
        if not self._record.port or not can_bind(place.host, self._record.port):
            self._take_port(choose_port(place.host, self._record.mark, place.taken))
        self._save(replace(self._record, revision=template.revision, pid=None, created=None))
        self._put_log_aside()
        command = template.command(
            host=place.host,
            port=self._record.port,
            mark=self._record.mark,
            log=self._log,
            environment=os.environ,
        )
        process = Process.spawn(command)
        try:
            self._save(replace(self._record, pid=process.pid, created=process.created))
        except OSError:
            process.send(signal.SIGKILL)
            raise
        self._tell("Starting", pid=process.pid, message=self._trouble and f"was {self._trouble}")
        log.info("model server started", address=self.endpoint.address, pid=process.pid)
        return process

    async def _keep(self, process: Process) -> str:
        """Return why the process can't be kept; '' once it's our turn to end it."""
        ended = asyncio.ensure_future(process.exited())
        unwell = asyncio.ensure_future(self._watch())
        turn = asyncio.ensure_future(self._turn.wait())
        try:
            await asyncio.wait((ended, unwell, turn), return_when=asyncio.FIRST_COMPLETED)
            if self._turn.is_set():
                return ""
            return unwell.result() if unwell.done() else self._epitaph(ended.result())
        finally:
            await put_away(ended, unwell, turn)

    async def _watch(self) -> str:
        """Ask after its health again and again; return why it can't be kept."""
        now = asyncio.get_running_loop().time
        born, well_since, failures = now(), now(), 0
        while True:
            check = self._template.health
            trouble = await health.problem(self.endpoint.address, check.path, check.timeout_seconds)
            if not trouble:
                well_since = well_since if self._served else now()
                self._served, failures = True, 0
                if now() - well_since >= STEADY_S:
                    self._failures = 0
                self._tell("Ready", pid=self.endpoint.pid)
            elif self._served:
                failures += 1
                if failures >= check.failure_threshold:
                    return f"failed {failures} health checks in a row: {trouble}"
            elif now() - born >= check.startup_seconds:
                return f"not ready after {check.startup_seconds:g} s: {trouble}"
            await pause(self._period(), self._turn)

    def _period(self) -> float:
        period: float = self._template.health.period_seconds
        return period if self._served else min(period, STARTING_PERIOD_S)

    async def _rest(self) -> None:
        self._failures += 1
        wait_s = back_off(self._failures, RESTART_S, RESTART_LIMIT_S)
        log.warning("model server failed", log=str(self._log), error=self._trouble, retry_in=wait_s)
        self._tell("Unhealthy", message=f"{self._trouble}; next start in {wait_s:g} s")
        if not await pause(wait_s, self._turn):
            self.endpoint = replace(self.endpoint, restarts=self.endpoint.restarts + 1)

    def _epitaph(self, code: int | None) -> str:
        how = "ended" if code is None else f"exited with code {code}"
        if code is not None and code < 0:
            how = f"was killed by {_signal_name(-code)}"
        line = last_line(self._log)
        return f"{how}; its log ends with: {line}" if line else how

    # How a life ends

    async def _see_out(self, process: Process) -> None:
        """End a process that did nothing wrong: told, drained, asked, at last killed."""
        now = asyncio.get_running_loop().time
        serves, end = self.endpoint.state == "Ready", now() + self._template.grace_s
        self._tell("Stopping", pid=process.pid)
        ended = asyncio.ensure_future(process.exited())
        drained = asyncio.ensure_future(self._drain(end) if serves else _nothing())
        try:
            await asyncio.wait((ended, drained), return_when=asyncio.FIRST_COMPLETED)
            process.send(signal.SIGTERM)
            exit_s = min(EXIT_S, self._template.grace_s)
            await asyncio.wait((ended,), timeout=max(end - now(), exit_s))
            process.send(signal.SIGKILL)
            await ended
        finally:
            await put_away(ended, drained)

    async def _drain(self, end: float) -> None:
        """Let the workers turn away, then let the requests finish, until loop time `end`."""
        never = asyncio.Event()
        if self._notice_s:
            await pause(PUBLISH_S, self._published)
            await pause(self._notice_s, never)
        # Servers such as vLLM cut their streams when they are asked to end: wait until none is.
        # A request that has just come may not be counted yet, so once is not enough.
        idle = 0
        while idle < IDLE_LOOKS and asyncio.get_running_loop().time() < end:
            idle = idle + 1 if await self._is_idle() else 0
            await pause(IDLE_PERIOD_S, never)

    async def _is_idle(self) -> bool:
        """Return whether the server has no request, as far as it tells."""
        try:
            return not await health.has_work(self.endpoint.address, self._template.engine, 2.0)
        except health.RefusedError:
            return True
        except UnavailableError:
            return False  # too busy to answer is not idle

    async def _put_down(self, process: Process, trouble: str) -> None:
        """End a process that can't be kept, if it hasn't ended."""
        self._tell("Unhealthy", pid=process.pid, message=trouble)
        process.send(signal.SIGTERM)
        ended = asyncio.ensure_future(process.exited())
        try:
            await asyncio.wait((ended,), timeout=EXIT_S)
            process.send(signal.SIGKILL)
            await ended
        finally:
            await put_away(ended)

    # What is written and told

    def _tell(self, state: State, *, pid: int | None = None, message: str = "") -> None:
        told = replace(self.endpoint, state=state, pid=pid, message=message)
        if told != self.endpoint:
            self.endpoint = told
            self._on_change()

    def _save(self, record: Record) -> None:
        self._record = record
        self._place.roster.save(record)

    def _take_port(self, port: int) -> None:
        self._place.taken.discard(self._record.port)
        self._record = replace(self._record, port=port)
        self._place.taken.add(port)
        self.endpoint = replace(self.endpoint, address=_address(self._place.host, port))

    def _put_log_aside(self) -> None:
        if self._log.exists() and self._log.stat().st_size > LOG_LIMIT:
            self._log.replace(self._log.with_suffix(".log.1"))


async def _nothing() -> None:
    return


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
