"""Pools for tests of picking: endpoints in given states, under a given scheduler."""

from collections.abc import Sequence
from typing import Any

from tidegate.picker.candidates import Filter, Picker
from tidegate.picker.config import Scheduler, parse_config, simple_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pickers.max_score import MaxScorePicker
from tidegate.picker.pool import Pool
from tidegate.picker.schedule import Profile, Weighted
from tidegate.picker.state import EndpointState


def endpoints(*loads: int, **fields: Any) -> list[Endpoint]:
    """Return one endpoint for each load."""
    return [
        Endpoint(f"10.0.{i >> 8}.{i & 255}:80", EndpointState(load=load, **fields))
        for i, load in enumerate(loads)
    ]


def pool_of(members: Sequence[Endpoint], scheduler: Scheduler | None = None) -> Pool:
    """Return a pool of `members`, by default one that picks the least loaded."""
    pool = Pool("default/pool", scheduler or simple_scheduler())
    pool.set_endpoints(members)
    return pool


def scheduled(
    *weighted: Weighted, filters: Sequence[Filter] = (), picker: Picker | None = None
) -> Scheduler:
    """Return a scheduler of these plugins alone."""
    return Scheduler(Profile(tuple(filters), weighted, picker or MaxScorePicker()))


def configured(members: Sequence[Endpoint], *plugins: str, extra: str = "") -> Pool:
    """Return a pool by a config of these plugins, each a line of YAML: `type: queue-scorer`."""
    lines = "\n".join(f"- {{{plugin}}}" for plugin in plugins)
    return pool_of(members, parse_config(f"plugins:\n{lines}\n{extra}"))
