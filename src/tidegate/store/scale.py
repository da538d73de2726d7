"""The scale of an object (`autoscaling/v1`): its number of replicas, whatever its kind.

A Scale is not kept: it is read out of the object, and a changed one is written back into it.
"""

from collections.abc import Mapping
from typing import Any

from tidegate.api.columns import values_at
from tidegate.api.errors import BadRequestError, FieldError, InvalidError
from tidegate.api.scheme import Kind, Scale
from tidegate.store.bodies import text_of

Object = dict[str, Any]


def scale_of(obj: Mapping[str, Any], scale: Scale) -> Object:
    """Return the Scale of `obj`."""
    metadata = obj["metadata"]
    shared = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in shared if name in metadata},
        "spec": {"replicas": _number(obj, scale.spec_path)},
        "status": {"replicas": _number(obj, scale.status_path)},
    }


def scaling_patch(wanted: Any, kind: Kind, scale: Scale) -> Object:
    """Return the merge patch that gives an object the replicas of the Scale `wanted`.

    Raises:
        BadRequestError: `wanted` is no Scale.
        InvalidError: Its replicas are no number, or less than 0.

    """
    if not isinstance(wanted, dict) or wanted.get("kind", "Scale") != "Scale":
        raise BadRequestError(f"the scale of {kind.resource} is a Scale (autoscaling/v1)")
    spec = wanted.get("spec")
    replicas = spec.get("replicas", 0) if isinstance(spec, dict) else None
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise InvalidError([FieldError("spec.replicas", replicas, "a number from 0 up")])
    patch: Object = replicas_at(scale.spec_path, replicas)
    if version := text_of(wanted, "metadata", "resourceVersion"):
        patch["metadata"] = {"resourceVersion": version}
    return patch


def replicas_at(path: str, replicas: int) -> Object:
    """Return an object with nothing but `replicas` at `path` (say `.spec.replicas`)."""
    found: Any = replicas
    for name in reversed(path.strip(".").split(".")):
        found = {name: found}
    return dict(found)


def _number(obj: Mapping[str, Any], path: str) -> int:
    found = values_at(obj, path)
    return found[0] if found and isinstance(found[0], int) else 0
