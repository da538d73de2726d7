"""Work that takes time, beside the looks: one at a time of a kind, tried again, later and later.

What comes of a job is an event of the next look. A job that is lost in a crash is still due,
and is begun anew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final

import structlog

from tidegate.api.errors import TidegateError
from tidegate.controllers.loop import back_off
from tidegate.rollout.events import Event

FIRST_S: Final = 1.0
LONGEST_S: Final = 60.0

log = structlog.get_logger()


class JobError(TidegateError):
    """What was due could not be done yet."""

    reason = "JobFailed"


@dataclass(slots=True)
class _Job:
    task: asyncio.Task[None] | None = None
    failures: int = 0
    not_before: float = 0.0
    problem: str = ""


class Jobs:
    """One rollout's jobs."""

    def __init__(self, name: str, on_done: Callable[[Event | None], None]) -> None:
        """Make it.

        Args:
            name: What logs call the rollout.
            on_done: Given what came of a job: an event, or only news.

        """
        self._name = name
        self._on_done = on_done
        self._jobs: dict[Hashable, _Job] = {}

    def start(
        self,
        what: Hashable,
        work: Callable[[], Awaitable[Event | None]],
        *,
        rest_s: float = 0.0,
    ) -> None:
        """Do `work` unless `what` is being done, or was done or failed just now.

        Args:
            what: Names the work.
            work: Is done in a task of its own.
            rest_s: How long it isn't done again after a success.

        """
        loop = asyncio.get_running_loop()
        job = self._jobs.setdefault(what, _Job())
        if job.task is not None or loop.time() < job.not_before:
            return
        job.task = asyncio.ensure_future(self._run(what, job, work, rest_s))

    def last_problem(self, kind: type[object]) -> str:
        """Return why one of the jobs of a kind failed last; '' if none did."""
        problems = [job.problem for what, job in self._jobs.items() if isinstance(what, kind)]
        return next(filter(None, problems), "")

    def cancel(self) -> None:
        """End all jobs."""
        for job in self._jobs.values():
            if job.task is not None:
                job.task.cancel()
        self._jobs.clear()

    async def _run(
        self,
        what: Hashable,
        job: _Job,
        work: Callable[[], Awaitable[Event | None]],
        rest_s: float,
    ) -> None:
        try:
            event = await work()
        except Exception as error:  # noqa: BLE001  # whatever it was, it is tried again
            self._failed(what, job, error)
            event = None
        else:
            job.failures, job.problem = 0, ""
            job.not_before = asyncio.get_running_loop().time() + rest_s
        finally:
            job.task = None
        self._on_done(event)

    def _failed(self, what: Hashable, job: _Job, error: Exception) -> None:
        job.failures += 1
        wait_s = back_off(job.failures, FIRST_S, LONGEST_S)
        job.not_before = asyncio.get_running_loop().time() + wait_s
        job.problem = str(error) or type(error).__name__
        log.warning(
            "rollout's job failed",
            rollout=self._name,
            job=str(what),
            error=job.problem,
            retry_in=wait_s,
            exc_info=None if isinstance(error, TidegateError) else error,
        )
