"""Keep the endpoints that have the model or adapter that is asked for."""

from typing import ClassVar

from tidegate.picker.candidates import Candidates
from tidegate.picker.plugin import Plugin
from tidegate.picker.vectors import Flags


class ModelFilter(Plugin, frozen=True):
    """Drops endpoints whose `/v1/models` doesn't list the requested model or adapter.

    An endpoint that never listed its models may serve anything. Where nobody is left, the
    adapter is loaded on one endpoint if the pool allows it; else the client gets a 404.
    """

    reason: ClassVar[str] = "ModelNotFound"

    def filter(self, candidates: Candidates) -> Flags | None:
        """Return who may serve the request's model."""
        model = candidates.request.model
        flags = candidates.pool.residency.serving(model) if model is not None else None
        if flags is None:
            return None
        return flags[candidates.at]
