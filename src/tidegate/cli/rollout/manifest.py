"""Rollouts as people give them: in a manifest, or as options of the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from tidegate.api.errors import TidegateError
from tidegate.api.rollout import InferenceRollout
from tidegate.api.scheme import by_model
from tidegate.api.validate import admit
from tidegate.api.versions import decode
from tidegate.process.manifests import Document, read


class NoRolloutError(TidegateError):
    """The file holds no rollout, or several, or not the one that was named."""

    reason = "NoRollout"


@dataclass(frozen=True, slots=True)
class Given:
    """A rollout that may be applied."""

    rollout: InferenceRollout
    """With its defaults."""
    fields: Mapping[str, Any]
    """As it was given, to be applied."""
    warnings: tuple[str, ...] = ()


def from_file(path: str, namespace: str) -> list[Given]:
    """Return the rollouts of a file, a folder, or stdin (`-`).

    Raises:
        ManifestError: It can't be read.
        InvalidError: A rollout isn't as it should be; with all that is wrong.
        NoRolloutError: There is none in it.

    """
    kind = by_model(InferenceRollout).kind
    found = [document for document in read([path]) if document.object["kind"] == kind]
    if not found:
        raise NoRolloutError(f"{path}: found no InferenceRollout in it")
    return [_given(document, namespace) for document in found]


def _given(document: Document, namespace: str) -> Given:
    own = document.object["metadata"].get("namespace") or namespace
    metadata = {**document.applied["metadata"], "namespace": own}
    return given({**document.applied, "metadata": metadata})


def given(obj: Mapping[str, Any]) -> Given:
    """Return an object as the API would admit it. Raises InvalidError."""
    kind = by_model(InferenceRollout)
    admitted = admit(kind, kind.storage, obj)
    rollout = decode(admitted.obj)
    if not isinstance(rollout, InferenceRollout):  # its kind says that it is
        raise NoRolloutError(f"{type(rollout).__name__} is no InferenceRollout")
    return Given(rollout, obj, admitted.warnings)


def from_options(name: str, namespace: str, spec: Mapping[str, Any]) -> Given:
    """Return a rollout with the fields that options named. Raises InvalidError."""
    kind = by_model(InferenceRollout)
    return given(
        {
            "apiVersion": kind.api_version(),
            "kind": kind.kind,
            "metadata": {"name": name, "namespace": namespace},
            "spec": dict(spec),
        }
    )


def whole(rollout: InferenceRollout) -> dict[str, Any]:
    """Return a rollout as the API has it, defaults written out, without its field managers."""
    kind = by_model(InferenceRollout)
    # By way of JSON, so that lists are lists.
    obj: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(rollout))
    obj["metadata"].pop("managedFields", None)
    obj |= {"apiVersion": kind.api_version(), "kind": kind.kind}
    return admit(kind, kind.storage, obj, strict="Ignore").obj
