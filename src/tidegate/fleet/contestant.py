"""Who is compared: a way to pick endpoints, with or without flow control."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from tidegate.api.errors import FieldError
from tidegate.fleet.balancers import BALANCERS, Balancer
from tidegate.fleet.workload import WorkloadError
from tidegate.picker.config import Scheduler, default_scheduler, parse_config, simple_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.flow.settings import FlowSettings
from tidegate.picker.pool import Pool
from tidegate.picker.request import Pick, Request
from tidegate.picker.schedule import schedule

DEFAULT_SCRAPE_S: Final = 0.2
"""Between two scrapes of a server: what a gateway worker does."""


class Scheduled:
    """The real scheduler, as the pool's configuration says."""

    def pick(self, pool: Pool, request: Request, rng: Random) -> Endpoint | None:
        """Return whom the scheduler picks."""
        found = schedule(pool, request, rng)
        return found.endpoint if isinstance(found, Pick) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to pick."""

    name: str
    scheduler: Scheduler
    balancer: Callable[[], Balancer] = Scheduled
    flow: FlowSettings | None = None
    """None: everything goes on at once."""
    scrape_s: float = DEFAULT_SCRAPE_S
    """Seconds between two scrapes of a server."""


def default() -> Contestant:
    """Return what a pool without a configuration gets."""
    return Contestant(name="default", scheduler=default_scheduler(), flow=FlowSettings())


def configured(path: Path) -> Contestant:
    """Return what an `EndpointPickerConfig` makes of a pool. Raises WorkloadError."""
    try:
        return described(path.stem, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, FieldError) as error:
        raise WorkloadError(f"{path}: {error}") from error


def described(name: str, text: str, *, scrape_s: float = DEFAULT_SCRAPE_S) -> Contestant:
    """Return what an `EndpointPickerConfig` makes of a pool; raises FieldError.

    Without its section `flowControl` it has the default one.
    """
    scheduler = parse_config(text)
    return Contestant(name=name, scheduler=scheduler, flow=scheduler.flow, scrape_s=scrape_s)


def rival(name: str) -> Contestant:
    """Return one of the old balancers, without flow control. Raises WorkloadError."""
    if name not in BALANCERS:
        raise WorkloadError(f"rival: found {name!r}, expected one of {', '.join(BALANCERS)}")
    # Where prompts are cut is asked of the scheduler's settings; the balancer does the rest.
    scheduler = default_scheduler() if name == "bounded-hash" else simple_scheduler()
    return Contestant(name=name, scheduler=scheduler, balancer=BALANCERS[name])
