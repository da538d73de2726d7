"""How full an endpoint is."""

import pytest

from tidegate.controllers.gauges import _Gauge, _Sample
from tidegate.scrape.engines import Totals, engine_named
from tidegate.scrape.http import Client


def totals(second: int) -> Totals:
    return Totals(tokens=100.0 * second, looked_up=None, found=None)


def gauge(*waiting: int, running: int = 8) -> _Gauge:
    """Return a gauge with a sample a second, each with so many requests that wait."""
    made = _Gauge(engine_named("vllm"), Client("127.0.0.1:1"), 0.0)
    for second, count in enumerate(waiting):
        made.take(_Sample(float(second), count, running, 0.02, totals(second)))
    return made


@pytest.mark.parametrize("waiting", [(0, 0, 0, 0, 0, 0), (0, 1, 0, 2, 1, 0), (1, 1, 0, 1, 1, 1)])
def test_requests_that_wait_for_the_next_step_are_no_full_server(waiting):
    assert gauge(*waiting).usage() == pytest.approx(0.02)


def test_a_queue_that_stays_means_that_all_slots_are_taken():
    made = gauge(3, 5, 4, 6, 7)
    assert made.usage() == 1.0
    assert made.slots == 8
