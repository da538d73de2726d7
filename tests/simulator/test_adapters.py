"""Adapter slots: who may join a batch, what loading costs, who is pushed out."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.simulator.adapters import AdapterSlots
from tidegate.simulator.engine import Engine
from tidegate.simulator.jobs import Job
from tidegate.simulator.profiles import PROFILES

DISK, COPY = 0.1, 0.01


def slots(count: int = 2, host: int = 3) -> AdapterSlots:
    return AdapterSlots(count, host, DISK, COPY)


def test_the_first_use_reads_files_the_second_nothing():
    one = slots()
    assert one.enter("a") == pytest.approx(DISK + COPY)
    assert one.enter("a") == 0


def test_an_adapter_that_was_pushed_out_of_its_slot_is_copied_again():
    one = slots()
    for name in "abc":
        one.load(name)
    assert one.resident == ("b", "c")
    assert one.load("a") == pytest.approx(COPY)


def test_an_adapter_that_was_pushed_out_of_memory_is_read_again():
    one = slots(count=1, host=2)
    for name in "abc":
        one.load(name)
    assert one.load("a") == pytest.approx(DISK + COPY)


def test_adapters_in_use_are_not_pushed_out():
    one = slots()
    one.enter("a")
    one.load("b")
    one.load("c")
    assert one.resident == ("a", "c")
    one.enter("c")
    assert not one.admits("b")
    assert one.admits("a")
    assert one.admits("")
    one.leave("a")
    assert one.admits("b")


@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "load", "forget"]),
                          st.sampled_from("abcde"))))  # fmt: skip
def test_slots_hold_what_is_in_use_and_no_more_than_there_are(steps):
    one = slots()
    for what, name in steps:
        if what == "enter" and one.admits(name):
            one.enter(name)
        elif what == "leave" and name in one.in_use:
            one.leave(name)
        elif what in ("load", "forget"):
            getattr(one, what)(name)
        assert set(one.in_use) <= set(one.resident)
        assert len(one.resident) <= 2


def engine(count: int) -> Engine:
    return Engine(PROFILES["demo"], adapters=AdapterSlots(count, count, DISK, COPY))


def test_loading_holds_up_the_step_that_needs_it():
    one = engine(2)
    one.submit(Job(80, 1, adapter="a"), 0.0)
    cold = one.advance(1.0)[0].at
    one.submit(Job(80, 1, adapter="a"), 10.0)
    warm = one.advance(11.0)[0].at - 10.0
    assert cold - warm == pytest.approx(DISK + COPY)


def test_beyond_the_slots_adapters_wait_and_others_pass_them():
    one = engine(1)
    first = one.submit(Job(10, 50, adapter="a"), 0.0)
    blocked = one.submit(Job(10, 50, adapter="b"), 0.0)
    base = one.submit(Job(10, 50), 0.0)
    one.advance(one.next_at)
    assert first.seated
    assert base.seated
    assert list(one.waiting) == [blocked]
    while one.next_at is not None:
        one.advance(one.next_at)
    assert blocked.admitted_at >= first.last_token_at


def test_without_slots_given_nobody_waits_for_one():
    one = Engine(replace(PROFILES["demo"], max_num_seqs=3))
    sequences = [one.submit(Job(1, 5, adapter=name), 0.0) for name in "abc"]
    one.advance(one.next_at)
    assert all(sequence.seated for sequence in sequences[:3])
