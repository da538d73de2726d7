"""Records wait a moment, and whoever looks at the counts finds them all."""

import asyncio

from tidegate.gateway.tally import MOST, Tally
from tidegate.judge.record import Record
from tidegate.testing.waiting import wait_for


async def test_records_are_counted_in_their_order_without_anybody_asking():
    counted: list[int] = []
    tally = Tally(asyncio.get_running_loop(), lambda record: counted.append(record.status))
    for status in range(200, 205):
        tally.add(Record(status=status))
    await wait_for(lambda: len(counted) == 5)
    tally.add(Record(status=205))
    await wait_for(lambda: counted == list(range(200, 206)))


async def test_who_reads_the_counts_finds_all_records():
    counted: list[Record] = []
    tally = Tally(asyncio.get_running_loop(), counted.append)
    read = tally.before(lambda what: [what, len(counted)])
    assert read("none") == ["none", 0]
    for number in range(3):
        tally.add(Record())
        assert read("so far") == ["so far", number + 1]


async def test_no_more_than_so_many_records_wait():
    counted: list[Record] = []
    tally = Tally(asyncio.get_running_loop(), counted.append)
    for _ in range(10 * MOST):
        tally.add(Record())
    assert len(counted) > 8 * MOST


async def test_a_bug_of_one_taker_loses_one_record_for_it_alone():
    first: list[int] = []
    second: list[int] = []
    rounds: list[int] = []

    def breaks(record: Record) -> None:
        first.append(10 // record.retries)

    loop = asyncio.get_running_loop()
    tally = Tally(
        loop, breaks, lambda record: second.append(record.retries), after=lambda: rounds.append(1)
    )
    for retries in (1, 0, 5):
        tally.add(Record(retries=retries))
    tally.flush()
    tally.flush()
    assert (first, second, rounds) == ([10, 2], [1, 0, 5], [1])
