"""kill -9 of everything but the workers, in the middle of each phase: it goes on and ends right."""

import os
import signal
from pathlib import Path

import pytest

from tidegate.testing.deployment import EXAMPLES, deployed
from tidegate.testing.moving import intend, start, until, weights
from tidegate.testing.regulars import crossings, regulars
from tidegate.testing.traffic import long_answer, traffic

MODEL = "example/chat-8b"
SLOW = {"analysis": {"duration": "3s", "minRequests": 10, "advanceWhen": "NotWorse"}, "bake": "8s"}
"""Each phase lasts long enough to be met on a machine that has much else to do."""
PHASES = {
    "Warming": {"steps": [{"warm": {"percent": 50, "timeout": "9s", "hitRate": 1.0}}]},
    "Progressing": {"steps": [{"setWeight": 30}]},
    "Paused": {"steps": [{"setWeight": 30}, {"pause": {}}]},
    "Baking": {"steps": [{"setWeight": 50}]},
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_controller_that_is_killed_goes_on(tmp_path: Path, phase: str):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        with traffic(up.url, 30, MODEL) as load, regulars(up.url, MODEL) as known:
            start(up, **{**SLOW, **PHASES[phase]})
            until(up, phase)
            up.kill("control")
            if phase == "Paused":
                until(up, "Paused")
                intend(up, promote="1")
            until(up, "Completed")
            known.again()
        assert load.failures == []
        assert weights(up) == (0, 100)
        assert [crossings(each.pools) for each in known.sessions] == [(1, 0)] * len(known.sessions)


def test_a_controller_that_is_killed_while_the_stable_drains_goes_on(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        with traffic(up.url, 30, MODEL) as load:
            with long_answer(up.url, MODEL):
                start(up, **SLOW, steps=[{"setWeight": 50}], drain="60s")
                until(up, "Draining")
                up.kill("control")
                until(up, "Draining")
            until(up, "Completed")
            load.more(50)
        assert load.failures == []
        assert weights(up) == (0, 100)


def test_a_controller_that_is_killed_before_anything_moved_begins_again(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        with traffic(up.url, 30, MODEL) as load:
            start(up, **SLOW)
            up.kill("control")  # while it is Pending or in its Preflight
            until(up, "Completed")
            load.more(50)
        assert load.failures == []
        assert weights(up) == (0, 100)


def test_a_controller_that_is_killed_while_it_rolls_back_ends_at_the_stable(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        with traffic(up.url, 30, MODEL) as load:
            start(up, **{**SLOW, **PHASES["Paused"]})
            until(up, "Paused")
            intend(up, abort=True)
            up.kill("control")
            until(up, "Aborted")
            after = load.more(50)
        assert load.failures == []
        assert weights(up) == (100, 0)
        assert {result.pool for result in after} == {"llm"}


def test_workers_alone_go_on_and_so_does_the_rollout_once_the_rest_is_back(tmp_path: Path):
    with (
        deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up,
        traffic(up.url, 20, MODEL) as load,
        regulars(up.url, MODEL) as known,
    ):
        start(up, **{**SLOW, **PHASES["Paused"]})
        until(up, "Paused")
        # The one that starts others first, or it would start them again.
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
        up.kill("control")
        known.again()
        with deployed(tmp_path, (), "--workers", "2", like=up) as again:
            until(again, "Paused")
            intend(again, promote="1")
            until(again, "Completed")
            known.again()
            assert weights(again) == (0, 100)
            assert load.failures == []
            assert known.failures == []
            load.stop()
            known.stop()
    assert [crossings(each.pools) for each in known.sessions] == [(1, 0)] * len(known.sessions)


def test_a_gateway_that_is_killed_whole_goes_on_when_it_is_started_again(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "1") as up:
        with traffic(up.url, 20, MODEL):
            start(up, steps=[{"setWeight": 30}, {"pause": {}}])
            until(up, "Paused")
        for process in (*up.children("control"), *up.children("worker")):
            process.kill()
        os.kill(up.process.pid, signal.SIGKILL)
        up.process.wait()
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "1", like=up) as again:
        assert weights(again) == (70, 30), again.log()
        with traffic(again.url, 20, MODEL) as load:
            until(again, "Paused")
            intend(again, promote="1")
            until(again, "Completed")
            load.more(20)
        assert weights(again) == (0, 100)
