"""Event of the core group: what controllers tell people of an object, as `kubectl describe` shows.

Events are news and no state: nobody decides by them, and old ones are deleted.
"""

from typing import Any

from tidegate.api.meta import Model, Resource


class ObjectReference(Model, frozen=True, kw_only=True):
    """What an event is about."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class EventSource(Model, frozen=True, kw_only=True):
    """Who tells it."""

    component: str = ""
    host: str = ""


class Event(Resource, frozen=True, kw_only=True):
    """Something that happened to an object."""

    involved_object: ObjectReference = ObjectReference()
    """What it happened to."""
    reason: str = ""
    """Why, in CamelCase."""
    message: str = ""
    type: str = "Normal"
    """Normal or Warning."""
    source: EventSource = EventSource()
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    count: int = 1
    """How often it happened."""
    action: str = ""
    reporting_component: str = ""
    """The controller that tells it."""
    reporting_instance: str = ""
    series: dict[str, Any] | None = None
    related: dict[str, Any] | None = None
