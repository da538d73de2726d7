"""What a worker tells the controller: blocks in numbered parcels, and what runs now.

A parcel is sent until the controller says that it has it, so that an answer that is lost
loses nothing; its number lets the controller drop a second copy. Numbers count within one
run of a worker, which `boot` names.
"""

import msgspec

from tidegate.judge.block import Block
from tidegate.judge.pairs import Pairs


class Parcel(msgspec.Struct, array_like=True, frozen=True):
    """Blocks that were taken together."""

    number: int
    blocks: list[Block]
    pairs: dict[str, Pairs] = {}
    """Shadowed requests, by scope."""


class Running(msgspec.Struct, array_like=True, frozen=True):
    """Requests under way at one pool for one model."""

    pool: str
    """`namespace/name`."""
    model: str
    """As it was sent to the endpoints."""
    count: int


class Demand(msgspec.Struct, array_like=True, frozen=True):
    """What requests of one rule have asked for since the worker started."""

    scope: str
    """As in blocks."""
    models: dict[str, float]
    """When each model was last asked for, in seconds since the epoch."""
    features: dict[int, float]
    """The same by `routing.session.Feature`."""
    longest: int
    """The most tokens that a request needed, as far as answers told."""


class Shipment(msgspec.Struct, frozen=True):
    """One worker's answer."""

    boot: str
    """Names this run of the worker."""
    now: float
    """Seconds since the epoch when it was made."""
    parcels: list[Parcel] = []
    running: list[Running] = []
    demands: list[Demand] = []


_DECODER = msgspec.msgpack.Decoder(Shipment)


def encode(shipment: Shipment) -> bytes:
    """Return `shipment` as msgpack."""
    return msgspec.msgpack.encode(shipment)


def decode(data: bytes) -> Shipment:
    """Return the shipment that `data` holds.

    Raises:
        msgspec.MsgspecError: It holds none.

    """
    return _DECODER.decode(data)
