"""The simple decider."""

from dataclasses import replace

import pytest

from tidegate.rollout.decider import Counts, Tally, decide
from tidegate.rollout.events import Judged
from tidegate.testing.rollouts import World

WORLD = World({"stable": "llm", "canary": "llm-new", "steps": [{"setWeight": 10}]})
WORLD.look()
STATE = WORLD.state
FINE = Tally(Counts(100), Counts(900))
BAD = Tally(Counts(40, errors=20, sessions=9), Counts(400))


def outcome(recent: Tally, epoch: Tally, waited_s: float = 0) -> str:
    now = STATE.step_since + waited_s
    return decide(STATE, recent=recent, epoch=epoch, now=now).outcome


def test_time_and_requests_make_a_pass():
    assert outcome(FINE, FINE, 299) == "continue"
    assert outcome(FINE, FINE, 300) == "pass"


def test_no_data_holds_and_never_fails():
    assert outcome(Tally(), Tally(), 1e6) == "continue"
    assert outcome(Tally(), Tally(Counts(19), Counts(1)), 1e6) == "continue"


def test_the_tripwire_trips_at_once_and_says_why():
    verdict = decide(STATE, recent=BAD, epoch=BAD, now=STATE.step_since)
    assert verdict.outcome == "fail"
    assert "20 of 40 requests of the canary failed" in verdict.message
    after = WORLD.feed(Judged(verdict))
    assert after.stage == "RollingBack"


@pytest.mark.parametrize(
    "recent",
    [
        replace(BAD, canary=Counts(40, errors=9, sessions=9)),
        replace(BAD, canary=Counts(400, errors=20, sessions=9)),
        replace(BAD, canary=Counts(40, errors=20, sessions=1)),
        replace(BAD, stable=Counts(400, errors=150, sessions=99)),
    ],
)
def test_few_errors_one_session_or_a_stable_that_fails_too_do_not_trip(recent: Tally):
    assert outcome(recent, FINE) == "continue"
