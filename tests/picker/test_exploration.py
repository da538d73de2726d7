"""An endpoint that was slow once is found to be well again, and one that is slow is left alone."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count, pairwise
from random import Random

import pytest

from tidegate.picker.config import default_scheduler
from tidegate.picker.endpoint import Endpoint
from tidegate.picker.pool import Pool
from tidegate.picker.request import Pick, Request
from tidegate.picker.schedule import schedule
from tidegate.picker.ticket import Ticket, begin

TOKENS = 40
END_S = 120.0

Slowness = Callable[[int, float], float]
"""How many times as long as it should an endpoint (by its number) takes now."""


def picked(rate: float, slowness: Slowness, seed: int) -> list[list[float]]:
    """Return when each of two endpoints was picked; first, eight requests come at once."""
    pool, rng = Pool("default/llm", default_scheduler()), Random(seed)
    pool.set_endpoints([Endpoint("a:1"), Endpoint("b:1")])
    numbers, times = count(), [[], []]
    events: list[tuple[float, int, Ticket | None]] = []
    at = 0.0
    for number in range(8):
        heappush(events, (0.01 * number, next(numbers), None))
    while (at := at + rng.expovariate(rate)) < END_S:
        heappush(events, (at, next(numbers), None))
    while events:
        now, _, ticket = heappop(events)
        if ticket is not None:
            if ticket.first is None:
                ticket.answered(now)
                heappush(events, (now + 0.05 * TOKENS, next(numbers), ticket))
            else:
                ticket.ended(now, ok=True, output=TOKENS)
            continue
        request = Request(now, "m", None, (), 40, TOKENS)
        pick = schedule(pool, request, rng)
        assert isinstance(pick, Pick)
        ticket, slot = begin(pool, pick.endpoint, request, now), pick.slot
        times[slot].append(now)
        spent = (0.1 + 0.02 * pool.load[slot]) * slowness(slot, now) * rng.lognormvariate(0, 0.15)
        heappush(events, (now + spent, next(numbers), ticket))
    return times


def longest_gap(times: list[float]) -> float:
    return max(later - before for before, later in pairwise([0.0, *times, END_S]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.8, 5.0])
def test_one_that_began_slowly_is_soon_tried_again(rate: float, seed: int):
    _, other = picked(rate, lambda slot, now: 10.0 if slot == 1 and now < 1 else 1.0, seed)
    assert longest_gap(other) < 30.0
    assert len(other) > 0.3 * rate * END_S


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.8, 5.0])
def test_one_that_is_slow_gets_little_and_is_never_forgotten(rate: float, seed: int):
    first, slow = picked(rate, lambda slot, _: 6.0 if slot == 1 else 1.0, seed)
    assert len(slow) - 4 < 0.15 * len(first)
    assert longest_gap(slow) < 80.0


@pytest.mark.parametrize("seed", range(5))
def test_those_that_are_alike_share_the_work_however_little_it_is(seed: int):
    one, other = picked(0.8, lambda *_: 1.0, seed)
    assert max(longest_gap(one), longest_gap(other)) < 20.0
    assert 0.5 < len(one) / len(other) < 2.0
