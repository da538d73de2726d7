"""Records of made-up requests on two arms, and their blocks."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from random import Random

from tidegate.judge.block import Block, Folder
from tidegate.judge.record import Record


@dataclass
class Arm:
    """How requests fare on one arm."""

    ttft_s: float = 0.5
    sigma: float = 0.5
    itl_s: float = 0.02
    errors: float = 0.0
    hang: bool = False
    patience_s: float = math.inf
    """Clients leave without a first byte after so long."""


def record(rng: Random, arm: Arm, name: str, at: float, session: int = 0) -> Record:
    """Return one request that began at `at` (seconds)."""
    made = Record(started_at=at, route="ns/r", rule="", arm=name, request_bytes=4000)
    made.session = session or rng.getrandbits(63) + 1
    made.asked_stream = True
    if arm.hang and arm.patience_s < 60.0:
        return _left(made, arm.patience_s)
    if arm.hang:
        made.duration_s = 60.0
        made.status = 504
        return made
    if rng.random() < arm.errors:
        made.status, made.duration_s = 500, 0.01
        return made
    made.status, made.streamed, made.events = 200, True, 50
    made.ttft_s = arm.ttft_s * rng.lognormvariate(0, arm.sigma)
    if made.ttft_s > arm.patience_s:
        return _left(made, arm.patience_s)
    made.itl_sum_s = 49 * arm.itl_s * rng.lognormvariate(0, 0.2)
    made.duration_s = made.ttft_s + made.itl_sum_s
    made.response_bytes = 5000
    return made


def _left(made: Record, after_s: float) -> Record:
    """Return a request whose client left without a first byte."""
    made.status, made.client_gone = 499, True
    made.streamed, made.events, made.ttft_s = False, 0, None
    made.duration_s = after_s
    return made


def traffic(
    rng: Random,
    *,
    seconds: int,
    rate: float,
    weight: float,
    canary: Arm | None = None,
    stable: Arm | None = None,
    start: float = 0.0,
) -> Iterator[Record]:
    """Yield independent requests, `rate` a second, `weight` (0..1) of them for the canary."""
    at = start
    while (at := at + rng.expovariate(rate)) < start + seconds:
        if rng.random() < weight:
            yield record(rng, canary or Arm(), "canary", at)
        else:
            yield record(rng, stable or Arm(), "stable", at)


def folded(records: Iterable[Record], span_s: float = 10.0) -> list[Block]:
    """Return the records' blocks."""
    folder = Folder(span_s=span_s)
    for each in records:
        folder.fold(each)
    return folder.take()
