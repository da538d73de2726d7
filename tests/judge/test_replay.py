"""Replays tell false alarms from misses, and are the same for the same seed."""

from random import Random

import pytest

from tidegate.judge.metrics import METRICS, Settings
from tidegate.judge.record import Record
from tidegate.judge.recorded import RecordedError, read, write
from tidegate.judge.replay import Injection, Report, Setup, Trial, replay
from tidegate.testing.records import Arm, traffic

QUICK = Settings(
    metrics=tuple(each for each in METRICS if each.name in ("errors", "ttft_p50")),
    unit_s=10,
)


@pytest.fixture(scope="module")
def recorded() -> list[Record]:
    made = list(traffic(Random(1), seconds=2400, rate=4, weight=0.0, stable=Arm(errors=0.002)))
    for each in made:
        each.endpoint = "10.0.0.1:8000"
    return made


def setup(**injection: float) -> Setup:
    return Setup(settings=QUICK, weights=(30,), injection=Injection(**injection))


def report(records: list[Record], seed: int, setup: Setup, *, trials: int) -> Report:
    return Report(setup.injection, tuple(replay(records, Random(seed), setup, trials=trials)))


def test_a_canary_that_is_the_stable_passes(recorded: list[Record]):
    found = report(recorded, 2, setup(), trials=4)
    assert found.share("completed") == 1
    assert "false aborts: 0.0%" in found.tell()


def test_a_harm_is_found(recorded: list[Record]):
    for harm in ({"ttft": 2.0}, {"errors": 0.5}):
        found = report(recorded, 3, setup(**harm), trials=3)
        assert found.share("aborted") == 1
        assert "false passes: 0.0%" in found.tell()


def test_the_same_seed_gives_the_same_trials(recorded: list[Record]):
    one, two = (list(replay(recorded, Random(4), setup(), trials=2)) for _ in range(2))
    assert one == two
    assert one[0] != one[1]


def test_recorded_requests_are_left_alone(recorded: list[Record]):
    before = [write(each) for each in recorded[:100]]
    assert len(list(replay(recorded[:100], Random(5), setup(ttft=3.0), trials=1))) == 1
    assert [write(each) for each in recorded[:100]] == before


def test_too_few_records_are_inconclusive(recorded: list[Record]):
    assert report(recorded[:500], 6, setup(), trials=1).share("inconclusive") == 1
    assert report([], 6, setup(), trials=5).trials == ()


def test_a_pass_with_harm_is_a_false_pass():
    trial = Trial("completed", 10.0, 30, 100, "")
    assert "false passes: 100.0%" in Report(Injection(ttft=2.0), (trial,)).tell()
    assert "false aborts: 0.0%" in Report(Injection(), (trial,)).tell()


# the format


def test_what_a_replay_needs_survives_a_file(recorded: list[Record]):
    lines = [write(each) for each in recorded[:600]]
    again = list(read(lines, "a.jsonl"))
    assert [write(each) for each in again] == lines
    one, two = (report(each, 7, setup(), trials=1) for each in (recorded[:600], again))
    assert one == two


def test_a_line_has_no_names_that_clients_chose(recorded: list[Record]):
    record = recorded[0]
    record.model, record.target = "secret-model", "secret-target"
    assert b"secret" not in write(record)


def test_own_logs_need_two_fields_and_may_name_sessions():
    lines = [b'{"started_at": 1, "duration_s": 2, "session": "anna", "more": 1}\n', b"\n"]
    (one,) = read(lines, "own.jsonl")
    (two,) = read(lines[:1], "own.jsonl")
    assert one.session == two.session > 0
    assert (one.started_at, one.status, one.endpoint) == (1.0, 200, "-")


def test_a_bad_line_is_named_and_half_a_line_at_the_end_is_passed_over():
    good = b'{"started_at": 1, "duration_s": 2}\n'
    with pytest.raises(RecordedError, match=r"own.jsonl, line 2: .*started_at"):
        list(read([good, b"{}\n", good], "own.jsonl"))
    assert len(list(read([good, b'{"started_at": 1, "dura'], "own.jsonl"))) == 1
    with pytest.raises(RecordedError, match="line 2"):
        list(read([good, b"{", good], "own.jsonl"))
