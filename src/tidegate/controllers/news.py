"""Kubernetes Events of rollouts: named by uid and number of the change, so a repeat is the same.

Events are deleted when they are old, as an API server does (`--event-ttl`, an hour by default);
here they stay for a day, because rollouts are slow and few.
"""

from datetime import datetime
from typing import Final

from tidegate.api.errors import NotFoundError
from tidegate.api.event import Event
from tidegate.api.rollout import HistoryEntry, InferenceRollout
from tidegate.controllers.events import Said, write_event
from tidegate.controllers.sight import MANAGER
from tidegate.store.interface import Store

KEEP_S: Final = 86_400.0
_BAD: Final = frozenset(("RollingBack", "RolledBack", "Aborting", "Aborted"))
_CALM: Final = frozenset(("Paused", "PauseStep"))
"""Holds that somebody wanted."""


async def tell(store: Store, rollout: InferenceRollout, entry: HistoryEntry, name: str) -> None:
    """Write the Event of one change; `name` is unique to it."""
    odd = entry.phase in _BAD or (entry.phase == "Paused" and entry.reason not in _CALM)
    reason = entry.reason or entry.phase
    said = Said("Warning" if odd else "Normal", reason, entry.message, entry.time)
    await write_event(store, f"rollout-{name}", rollout, said, manager=MANAGER)


async def forget_old(store: Store, now: float) -> None:
    """Delete our Events that are older than `KEEP_S`."""
    found, _ = await store.list(Event, broken=lambda _key, _error: None)
    for event in found:
        if event.reporting_component != MANAGER or not event.last_timestamp:
            continue
        if now - datetime.fromisoformat(event.last_timestamp).timestamp() > KEEP_S:
            try:
                await store.delete(Event, event.key)
            except NotFoundError:
                continue
