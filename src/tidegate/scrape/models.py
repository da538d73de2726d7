"""Read an OpenAI-style list of models (`GET /v1/models`), leniently."""

from typing import Final

import msgspec

from tidegate.picker.state import Model

MAX_MODELS: Final = 1_000
"""Of one endpoint; more are left out."""
MAX_NAME: Final = 256
"""Characters; longer names are left out."""


class _List(msgspec.Struct, frozen=True):
    data: list[msgspec.Raw] = []


def parse_models(body: bytes) -> tuple[Model, ...] | None:
    """Return the listed models, or None if `body` is no such list.

    An entry that we can't read is left out: the others are still true.
    """
    try:
        entries = msgspec.json.decode(body, type=_List).data[:MAX_MODELS]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    models = (_model(entry) for entry in entries)
    return tuple(model for model in models if model and 0 < len(model.id) <= MAX_NAME)


def _model(entry: msgspec.Raw) -> Model | None:
    try:
        return msgspec.json.decode(entry, type=Model)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
