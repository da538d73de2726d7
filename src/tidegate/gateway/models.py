"""`/v1/models`: the models of all pools behind a route, from what their endpoints list.

A name that a rewrite gives to models is one too: clients ask for it.
"""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from tidegate.gateway import reply
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.state import Model
from tidegate.routing.table import Rewrites

PATH: Final = "/v1/models"


def asked(path: str) -> bool:
    """Whether `path` asks for the list or for one model."""
    return path == PATH or path.startswith(PATH + "/")


def answer(
    path: str, endpoints: Iterable[Endpoint], rewrites: Iterable[Rewrites] = ()
) -> tuple[int, bytes]:
    """Return status and JSON body: the list, or one model of it."""
    known = _known(endpoints)
    for each in rewrites:
        _alias(known, each)
    if path == PATH:
        listed = {"object": "list", "data": [_entry(model) for model in known.values()]}
        return 200, msgspec.json.encode(listed)
    # A model's name may have slashes: all that follows is its name.
    name = unquote(path[len(PATH) + 1 :])
    if name in known:
        return 200, msgspec.json.encode(_entry(known[name]))
    message = f"no endpoint behind this route serves the model {name!r}"
    return 404, reply.error_body(404, "ModelNotFound", message)


def _known(endpoints: Iterable[Endpoint]) -> dict[str, Model]:
    """Return the models by name; what the first endpoint says of one stands."""
    known: dict[str, Model] = {}
    for endpoint in endpoints:
        for model in endpoint.state.models:
            known.setdefault(model.id, model)
    return known


def _alias(known: dict[str, Model], rewrites: Rewrites) -> None:
    """Add the names that stand for a known model, as that model."""
    for name, split in rewrites.by_model.items():
        behind = next((known[t.model] for t in split.targets if t.model in known), None)
        if behind is not None:
            known.setdefault(name, replace(behind, id=name))


def _entry(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by or "tidegate",
        "root": model.root or model.id,
        "parent": model.parent,
        "max_model_len": model.max_model_len,
    }
