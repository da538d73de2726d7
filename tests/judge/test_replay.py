"""Replays tell false alarms from misses, and are the same for the same seed."""

from random import Random

import pytest

from tidegate.judge.metrics import METRICS, Settings
from tidegate.judge.record import Record
from tidegate.judge.replay import Injection, Setup, read, replay, write
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


def test_a_canary_that_is_the_stable_passes(recorded: list[Record]):
    report = replay(recorded, Random(2), setup(), trials=4)
    assert report.share("completed") == 1
    assert "false aborts: 0.0%" in report.tell()


def test_a_harm_is_found(recorded: list[Record]):
    for harm in ({"ttft": 2.0}, {"errors": 0.5}):
        report = replay(recorded, Random(3), setup(**harm), trials=3)
        assert report.share("aborted") == 1
        assert "misses: 0.0%" in report.tell()


def test_the_same_seed_gives_the_same_trials(recorded: list[Record]):
    one, two = (replay(recorded, Random(4), setup(), trials=2) for _ in range(2))
    assert one == two
    assert one.trials[0] != one.trials[1]


def test_recorded_requests_are_left_alone(recorded: list[Record]):
    before = list(write(recorded[:100]))
    replay(recorded[:100], Random(5), setup(ttft=3.0), trials=1)
    assert list(write(recorded[:100])) == before


def test_too_few_records_are_inconclusive(recorded: list[Record]):
    assert replay(recorded[:500], Random(6), setup(), trials=1).share("inconclusive") == 1
    assert replay([], Random(6), setup()).trials == ()


def test_records_survive_a_file(recorded: list[Record]):
    assert list(read(write(recorded[:50]))) == recorded[:50]
