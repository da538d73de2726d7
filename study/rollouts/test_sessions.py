"""Every session changes its side at most once on the way forward, and once on the way back."""

from pathlib import Path
from typing import Any

import pytest

from tidegate.testing.deployment import EXAMPLES, deployed
from tidegate.testing.moving import intend, start, until
from tidegate.testing.regulars import Regular, crossings, regulars
from tidegate.testing.traffic import traffic

STEPS = {"steps": [{"setWeight": weight} for weight in (10, 30, 60)]}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "node": ("example/chat-8b", {}),
    "base-model": (
        "chat",
        {"type": "BaseModel", "stable": "llm-pool", "canary": "llm-pool-version-2"},
    ),
    "adapter": (
        "food-review",
        {
            "type": "Adapter",
            "stable": "food-review-v1",
            "canary": "food-review-v2",
            "adapters": {"canaryPath": "/v2", "stablePath": "/v1"},
        },
    ),
}


def sides(kind: str, session: Regular) -> list[str]:
    """Return who answered a session, each time."""
    return session.words if kind == "adapter" else session.pools


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_changes_its_side_once_there_and_once_back(tmp_path: Path, kind: str):
    model, spec = KINDS[kind]
    with deployed(tmp_path, [EXAMPLES / kind], "--workers", "2") as up:
        with traffic(up.url, 20, model) as load, regulars(up.url, model) as known:
            start(up, **STEPS, **spec)
            until(up, "Completed")
            known.again()
            forward = [crossings(sides(kind, each)) for each in known.sessions]
            intend(up, undo=True)
            until(up, "RolledBack")
            known.again()
            both = [crossings(sides(kind, each)) for each in known.sessions]
        assert load.failures == []
        assert known.failures == []
    assert forward == [(1, 0)] * len(forward)
    assert both == [(1, 1)] * len(both)
