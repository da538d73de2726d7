"""Abort, at every phase: the canary has nothing soon after kubectl returned."""

import pytest

from tidegate.testing.deployment import EXAMPLES, Deployment, deployed
from tidegate.testing.moving import intend, start, until, weights
from tidegate.testing.traffic import traffic

MODEL = "example/chat-8b"
LATE_S = 1.0
"""Far more than the milliseconds it takes (see docs/results/rollback.md): this is no benchmark."""

PHASES = {
    "Progressing": {"steps": [{"setWeight": 50}, {"pause": {"duration": "5m"}}]},
    "Paused": {"steps": [{"setWeight": 50}, {"pause": {}}]},
    "Baking": {"steps": [{"setWeight": 100}], "bake": "5m"},
}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("abort")
    with deployed(folder, [EXAMPLES / "node"], "--workers", "2") as running:
        yield running


@pytest.mark.parametrize("phase", PHASES)
def test_an_aborted_canary_gets_nothing_more(up: Deployment, phase: str):
    name = f"abort-{phase.lower()}"
    with traffic(up.url, 80, MODEL) as load:
        start(up, name, **PHASES[phase])
        until(up, phase, name)
        until(up, lambda seen: seen["weights"].get("observed"), name)
        aborted = intend(up, name, abort=True)
        load.more(100)
        seen = until(up, "Aborted", name)
    assert load.failures == []
    assert weights(up) == (100, 0)
    assert "aborted by spec.abort" in seen["message"]
    late = [each.started_at - aborted for each in load.results if each.pool == "llm-new"]
    assert max(late) < LATE_S
