"""A node rollout runs itself, under live traffic, from kubectl apply to Completed."""

from pathlib import Path

from tidegate.testing.deployment import EXAMPLES, deployed
from tidegate.testing.moving import rollout, start, until, weights
from tidegate.testing.regulars import crossings, regulars
from tidegate.testing.traffic import traffic

MODEL = "example/chat-8b"


def test_a_node_rollout_completes_by_itself_and_loses_no_request(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "2") as up:
        with traffic(up.url, 30, MODEL) as load, regulars(up.url, MODEL) as known:
            start(up)
            seen = until(up, "Completed")
            late = load.more(50)
            known.again()
        assert {each.pool for each in late} == {"llm-new"}
        assert weights(up) == (0, 100)
        assert load.failures == []
        assert [crossings(each.pools) for each in known.sessions] == [(1, 0)] * len(known.sessions)
        assert [entry["weight"] for entry in seen["history"] if "weight" in entry]
        listed = up.kubectl("get", "inferencerollouts")
        assert "Completed" in listed
        assert "llm-new has taken over all requests from llm" in listed


def test_plain_kubectl_is_enough(tmp_path: Path):
    with deployed(tmp_path, [EXAMPLES / "node"], "--workers", "1") as up:
        kubectl = up.kubectl
        with traffic(up.url, 30, MODEL) as load:
            assert "created" in kubectl("apply", "-f", "-", stdin=rollout())
            waited = kubectl.run(
                "wait",
                "--for=condition=Completed",
                "inferencerollout/move",
                "--timeout=90s",
                timeout_s=100,
            )
            assert waited.code == 0, waited.err + up.log()
            assert "condition met" in waited.out
        assert load.failures == []
        listed = kubectl("get", "inferencerollouts")
        assert listed.split()[:7] == [
            *("NAME", "PHASE", "STEP", "DESIRED", "EFFECTIVE", "OBSERVED", "MESSAGE"),
        ]
        described = kubectl("describe", "inferencerollout", "move")
        assert "llm-new has taken over all requests from llm" in described.partition("Events:")[2]
        assert kubectl("get", "events").count("inferencerollout/move") >= 6
        assert "deleted" in kubectl("delete", "inferencerollout", "move")
        assert weights(up) == (0, 100)
