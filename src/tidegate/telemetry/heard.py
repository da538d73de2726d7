"""What a worker tells the controller of its pools' endpoints: when their metrics were last heard.

Ages and not times: how old metrics are is told by the worker's own clock, which never jumps.
"""

import msgspec


class Heard(msgspec.Struct, array_like=True, frozen=True):
    """One endpoint of a pool."""

    address: str
    age_s: float | None = None
    """Seconds since the server was last heard; None: never."""
    blind: bool = False
    """The server lives and says nothing of its load."""


class PoolHeard(msgspec.Struct, array_like=True, frozen=True):
    """One pool with all of its endpoints."""

    pool: str
    """`namespace/name`."""
    endpoints: list[Heard] = []


class Report(msgspec.Struct, frozen=True):
    """One worker's answer."""

    pools: list[PoolHeard] | None = None
    """None: it has no table yet."""


_DECODER = msgspec.msgpack.Decoder(Report)


def encode(report: Report) -> bytes:
    """Return `report` as msgpack."""
    return msgspec.msgpack.encode(report)


def decode(data: bytes) -> Report:
    """Return the report that `data` holds.

    Raises:
        msgspec.MsgspecError: It holds none.

    """
    return _DECODER.decode(data)
