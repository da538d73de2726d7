"""Blocks merge in any order, and tell the same however their requests were watched."""

from copy import copy
from random import Random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tidegate.judge.block import SKETCH, Block, Folder, Place, distinct, merge, merge_all
from tidegate.judge.histogram import bin_of
from tidegate.judge.record import Check, Record

counts = st.integers(0, 1000)
histograms = st.dictionaries(st.integers(-200, 200), st.integers(1, 50), max_size=5)
sketches = st.lists(st.integers(1, 2**64 - 1), max_size=SKETCH, unique=True).map(sorted)
PLACE = Place(0.0, "ns/r/", "canary", 3)
blocks = st.builds(
    Block,
    place=st.just(PLACE),
    requests=counts,
    ended=counts,
    broken=counts,
    ttft=histograms,
    output=histograms,
    left=histograms,
    left_sessions=st.dictionaries(st.integers(-5, 5), sketches, max_size=3),
    sessions=sketches,
    bad_sessions=sketches,
)
records = st.builds(
    Record,
    started_at=st.floats(0, 40),
    arm=st.sampled_from(["stable", "canary", ""]),
    status=st.sampled_from([200, 200, 200, 400, 429, 499, 500, 504]),
    asked_stream=st.booleans(),
    streamed=st.booleans(),
    broken=st.booleans(),
    client_gone=st.booleans(),
    events=st.integers(0, 100),
    request_bytes=st.sampled_from([100, 5000, 100_000]),
    response_bytes=st.integers(0, 100),
    ttft_s=st.none() | st.floats(0.001, 60),
    duration_s=st.floats(0, 100),
    itl_sum_s=st.floats(0, 5),
    session=st.integers(0, 9),
    finish=st.sampled_from(["", "stop", "length"]),
    checked=st.booleans(),
    failed_checks=st.sampled_from([0, int(Check.INVALID), int(Check.REFUSED)]),
)


@given(blocks, blocks, blocks)
def test_merging_is_associative_and_commutative(a: Block, b: Block, c: Block):
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, b) == merge(b, a)


@given(blocks, blocks)
def test_merging_leaves_its_arguments_alone(a: Block, b: Block):
    before = msgspec.json.encode([a, b])
    merge(a, b)
    assert msgspec.json.encode([a, b]) == before


@given(blocks)
def test_blocks_survive_the_wire(block: Block):
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(block), type=Block) == block


@given(st.lists(records, max_size=30), st.integers(1, 5))
def test_it_does_not_matter_which_worker_folded_a_request(made: list[Record], workers: int):
    one, many = Folder(), [Folder() for _ in range(workers)]
    for index, each in enumerate(made):
        one.fold(copy(each))
        many[index % workers].fold(copy(each))
    parts = [block for folder in many for block in folder.take()]
    assert merge_all(one.take()) == merge_all(parts)


@given(st.lists(records, max_size=10), st.lists(st.floats(0, 60), max_size=6))
def test_looking_at_running_requests_changes_no_count_in_the_end(
    made: list[Record], looks: list[float]
):
    plain, watched = Folder(), Folder()
    for each in made:
        _settle(each)
        plain.fold(copy(each))
    running = [(each, copy(each)) for each in made]
    for look in sorted(looks):
        young = [_as_seen(end, seen, look) for end, seen in running if end.duration_s > look]
        watched.look(young, now=0.0)
    for end, seen in running:
        noted = seen.noted
        _restore(seen, end)
        seen.noted = noted
        watched.fold(seen)
    assert _total(watched) == _total(plain)


def _settle(record: Record) -> None:
    """Make a record's times fit together, and let looks happen at age `look`."""
    record.started_at = 0.0
    if record.ttft_s is not None:
        record.duration_s = max(record.duration_s, record.ttft_s)


def _as_seen(end: Record, seen: Record, age: float) -> Record:
    """What the request looks like while it runs."""
    seen.started_at = -age
    seen.ttft_s = end.ttft_s if end.ttft_s is not None and end.ttft_s <= age else None
    return seen


def _restore(seen: Record, end: Record) -> None:
    for name in Record.__struct_fields__:
        setattr(seen, name, getattr(end, name))


def _total(folder: Folder) -> dict[tuple, Block]:
    """All counts but the time: looks in this test shift the blocks' starts."""
    merged: dict[tuple, Block] = {}
    for block in folder.take():
        block.place = Place(0.0, block.place.scope, block.place.arm, block.place.stratum)
        key = (block.place.arm, block.place.stratum)
        merged[key] = merge(merged[key], block) if key in merged else block
    return merged


def test_a_request_without_a_first_byte_hangs_once_its_deadline_is_past():
    folder = Folder(deadline_s=30)
    hanging = Record(started_at=100.0, arm="canary", session=7)
    folder.look([hanging], now=129.0)
    (block,) = folder.take()
    assert (block.requests, block.hung, block.begun) == (1, 0, 0)
    folder.look([hanging], now=131.0)
    (block,) = folder.take()
    assert (block.requests, block.hung, block.bad_sessions) == (0, 1, [7])
    hanging.status, hanging.duration_s = 504, 60.0
    folder.fold(hanging)
    (block,) = folder.take()
    assert (block.requests, block.hung, block.timeouts, block.ended) == (0, 0, 0, 1)


def test_a_client_that_left_early_is_no_error_and_no_success():
    folder = Folder()
    folder.fold(Record(arm="canary", status=499, client_gone=True, duration_s=2.0))
    (block,) = folder.take()
    assert (block.abandoned, block.errors, block.answered, block.completed) == (1, 0, 0, 0)


def test_a_client_that_left_a_stream_says_how_long_it_had_waited():
    folder = Folder()
    for session in (7, 7, 0):
        gone = Record(arm="canary", asked_stream=True, status=499, client_gone=True)
        gone.duration_s, gone.session = 5.0, session
        folder.look([gone], now=gone.started_at + 4.0)
        folder.fold(gone)
    (block,) = folder.take()
    at = bin_of(5.0)
    assert (block.left, block.left_anonymous) == ({at: 3}, {at: 1})
    assert (block.left_sessions, block.ttft) == ({at: [7]}, {})


def test_whose_answer_began_or_who_wanted_no_stream_has_not_waited_for_a_first_byte():
    folder = Folder()
    gone = Record(arm="canary", status=200, client_gone=True, duration_s=5.0)
    folder.fold(msgspec.structs.replace(gone, asked_stream=True, streamed=True, ttft_s=1.0))
    folder.fold(msgspec.structs.replace(gone, asked_stream=False))
    assert [block.left for block in folder.take()] == [{}, {}]


def test_sessions_are_counted_once_and_in_bounded_memory():
    folder, rng = Folder(), Random(1)
    sessions = [rng.getrandbits(64) for _ in range(1000)]
    for session in sessions * 3:
        folder.fold(Record(arm="canary", status=200, session=session))
    (block,) = folder.take()
    assert len(block.sessions) == SKETCH
    assert 700 < distinct(block.sessions) < 1400


def test_a_folder_holds_a_bounded_number_of_blocks(monkeypatch):
    monkeypatch.setattr("tidegate.judge.block.MAX_BLOCKS", 3)
    folder = Folder(span_s=1)
    for at in range(5):
        folder.fold(Record(arm="canary", status=200, started_at=float(at)))
    assert folder.lost == 2
    assert len(folder.take()) == 3
