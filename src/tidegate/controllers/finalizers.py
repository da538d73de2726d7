"""The finalizers that one of our managers has on an object; others' are left alone."""

from collections.abc import Sequence

from tidegate.api.meta import Resource
from tidegate.store.interface import Store


async def set_finalizers(
    store: Store, resource: Resource, finalizers: Sequence[str], *, manager: str
) -> None:
    """Make `finalizers` those that `manager` has on an object.

    Raises:
        ConflictError: It is gone, and maybe there is another of its name.

    """
    # The uid keeps us from touching, or making, another object of that name.
    metadata = {"uid": resource.metadata.uid, "finalizers": list(finalizers)}
    await store.apply(type(resource), resource.key, {"metadata": metadata}, manager=manager)
