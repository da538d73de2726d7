"""kill -9 of everything but the workers, in the middle of each phase: it goes on and ends right."""

import os
import signal
from pathlib import Path

import pytest

from tidegate.testing.deployment import EXAMPLES, Deployment, deployed
from tidegate.testing.moving import intend, moves, start, until, weights
from tidegate.testing.traffic import traffic

MODEL = "example/chat-8b"
SLOW = {"analysis": {"duration": "3s", "minRequests": 10, "advanceWhen": "NotWorse"}, "bake": "3s"}
PHASES = {
    "Warming": {"steps": [{"warm": {"percent": 50, "timeout": "4s", "hitRate": 1.0}}]},
    "Progressing": {"steps": [{"setWeight": 30}]},
    "Paused": {"steps": [{"setWeight": 30}, {"pause": {}}]},
    "Baking": {"steps": [{"setWeight": 50}]},
}


def kill_control(up: Deployment) -> None:
    up.kill("control")


@pytest.mark.parametrize("phase", PHASES)
def test_a_controller_that_is_killed_goes_on(tmp_path: Path, phase: str):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        with traffic(up.url, 40, MODEL) as load:
            start(up, **{**SLOW, **PHASES[phase]})
            until(up, phase)
            kill_control(up)
            if phase == "Paused":
                until(up, "Paused")
                intend(up, promote="1")
            until(up, "Completed")
            load.more(50)
        assert load.failures == []
        assert weights(up) == (0, 100)
        assert max(moves(load.results).values()) <= 1


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
