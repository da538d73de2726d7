"""Raw objects as typed ones, the same way in every store."""

from typing import Literal, TypeVar

from tidegate.api.errors import InvalidError, UnsupportedError
from tidegate.api.meta import Resource
from tidegate.api.versions import decode
from tidegate.store.interface import Broken, Change
from tidegate.store.ledger import Object, key_of

R = TypeVar("R", bound=Resource)


def typed(kind: type[R], obj: Object) -> R:
    """Return `obj` as its model.

    Raises:
        InvalidError: It doesn't fit.

    """
    resource = decode(obj)
    if not isinstance(resource, kind):
        raise UnsupportedError(f"{type(resource).__name__} is not a {kind.__name__}")
    return resource


def typed_or_none(kind: type[R], obj: Object, broken: Broken | None) -> R | None:
    """Return `obj` as its model; if it doesn't fit, tell `broken`, or raise without one."""
    try:
        return typed(kind, obj)
    except InvalidError as error:
        if broken is None:
            raise
        broken(key_of(obj), error)
        return None


def typed_change(
    kind: type[R],
    type_: Literal["ADDED", "MODIFIED", "DELETED"],
    obj: Object,
    broken: Broken | None,
) -> Change[R]:
    """Return a change with its object decoded; see `Store.watch` for what `broken` does."""
    version = str(obj["metadata"]["resourceVersion"])
    resource = typed_or_none(kind, obj, broken)
    if resource is None and type_ != "DELETED":
        return Change("BOOKMARK", None, version)
    return Change(type_, resource, version, key_of(obj))
