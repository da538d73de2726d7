"""Writes Kubernetes Events about objects. The same name again is the same Event."""

from typing import Literal, NamedTuple

from tidegate.api.event import Event
from tidegate.api.meta import Key, Resource
from tidegate.store.interface import Store


class Said(NamedTuple):
    """What an Event says."""

    type: Literal["Normal", "Warning"]
    reason: str
    """Why, in CamelCase."""
    message: str
    time: str | None
    """When it happened, as RFC 3339 writes it."""


async def write_event(
    store: Store, name: str, about: Resource, said: Said, *, manager: str
) -> None:
    """Write the Event `name` about an object, into that one's namespace, as `manager`."""
    metadata = about.metadata
    fields = {
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": metadata.namespace,
            "name": metadata.name,
            "uid": metadata.uid,
        },
        "type": said.type,
        "reason": said.reason,
        "message": said.message,
        "firstTimestamp": said.time,
        "lastTimestamp": said.time,
        "count": 1,
        "source": {"component": manager},
        "reportingComponent": manager,
    }
    key = Key(metadata.namespace, name)
    await store.apply(Event, key, fields, manager=manager, force=True)
