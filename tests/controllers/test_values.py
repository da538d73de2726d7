"""Metrics of people's own: asked for, compared, and holding the rollout when nobody answers."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from tidegate.api.errors import InvalidError
from tidegate.api.rollout import PAIRED
from tidegate.controllers.values import NoValueError, Sides, number, pair, promql
from tidegate.judge.pairs import SHADOW
from tidegate.testing.endpoints import ScriptedEndpoint, Seen, answer, scripted
from tidegate.testing.rollouts import admitted
from tidegate.testing.steered import Steered, steered

SIDES = Sides("move", "prod", "v1", "v2", "pool-1", "pool-2")
JSON = (("content-type", "application/json"), ("connection", "close"))


def vector(*values: str) -> bytes:
    result = [{"metric": {}, "value": [1.0, value]} for value in values]
    data = {"resultType": "vector", "result": result}
    return msgspec.json.encode({"status": "success", "data": data})


def test_names_are_filled_in_and_braces_are_promqls_own():
    query = 'sum(rate(hits{ns="$namespace",pool="$pool",side="${side}"}[1m])) # $arm $rollout $1'
    assert promql(query, "canary", SIDES) == (
        'sum(rate(hits{ns="prod",pool="pool-2",side="v2"}[1m])) # canary move $1'
    )
    assert 'pool="pool-1"' in promql(query, "stable", SIDES)


def test_one_number_is_read_as_vector_or_scalar():
    assert number(vector("0.25"), "q") == 0.25
    scalar = {"status": "success", "data": {"resultType": "scalar", "result": [1.0, "3"]}}
    assert number(msgspec.json.encode(scalar), "q") == 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (vector(), "no number"),
        (vector("NaN"), "no number"),
        (vector("1", "2"), "2 numbers, expected one"),
        (vector("many"), "makes no sense"),
        (b"<html>", "makes no sense"),
    ],
)
def test_anything_else_is_no_number(body: bytes, words: str):
    with pytest.raises(NoValueError, match=words):
        number(body, "q")


def test_a_webhook_says_both_numbers_unless_there_is_a_budget():
    assert pair(b'{"canary": 1, "stable": 2, "more": "x"}', None) == (1, 2)
    assert pair(b'{"canary": 1}', 0.5) == (1, 0.5)
    with pytest.raises(NoValueError, match="said no number"):
        pair(b'{"canary": 1}', None)


def test_names_of_shadowed_comparisons_are_taken():
    assert {each.name for each in SHADOW} <= {*PAIRED, "invalid", "refused", "longer"}
    source = {"url": "http://127.0.0.1:9", "query": "up"}
    with pytest.raises(InvalidError, match="another name"):
        analysed({"name": "ttft", "prometheus": source})


@pytest.mark.parametrize(
    ("metric", "path"),
    [
        ({"name": "speed"}, "name"),
        ({"name": "ttft_p95", "budget": 1}, "budget"),
        ({"name": "own", "gross": 1, "webhook": {"url": "http://a"}}, "gross"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_field(metric: dict[str, Any], path: str):
    with pytest.raises(InvalidError, match=rf"spec.analysis.metrics\[0\].{path}"):
        analysed(metric)


def analysed(metric: dict[str, Any]) -> object:
    return admitted({"stable": "a", "canary": "b", "analysis": {"metrics": [metric]}})


# in a rollout


@pytest.fixture
async def source() -> AsyncIterator[ScriptedEndpoint]:
    async with scripted(_never) as made:
        yield made


async def _never(_seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(500, headers=JSON))


def prometheus(values: Callable[[str], str]) -> Callable[[Seen, asyncio.StreamWriter], Any]:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        (query,) = parse_qs(urlsplit(seen.target).query)["query"]
        writer.write(answer(200, vector(values(query)), JSON))

    return script


def spec(**metric: Any) -> dict[str, Any]:
    metrics = [{"name": "hits", "every": "1s", **metric}]
    analysis = {"duration": "4s", "minRequests": 5, "metrics": metrics}
    return {"steps": [{"setWeight": 20}], "analysis": analysis, "bake": "2s", "drain": "2s"}


def query(source: ScriptedEndpoint) -> dict[str, str]:
    return {"url": f"http://{source.address}", "query": 'hits{pool="$pool"}'}


async def hits(world: Steered) -> str:
    evidence = (await world.rollout()).status.evidence
    return next((each.message for each in evidence if each.metric == "hits"), "")


async def test_a_canary_that_is_worse_by_a_query_is_rolled_back(
    source: ScriptedEndpoint, tmp_path: Path
):
    source.script = prometheus(lambda text: "0.4" if "llm-new" in text else "0.9")
    async with steered(tmp_path, **spec(worse="Lower", prometheus=query(source))) as world:
        status = (await world.until("RolledBack")).status
        assert "hits: 0.4 against 0.9" in status.message


async def test_a_canary_that_is_as_good_by_a_webhook_completes(
    source: ScriptedEndpoint, tmp_path: Path
):
    async def script(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, b'{"canary": 1.1, "stable": 1.0}', JSON))

    source.script = script
    hook = {"url": f"http://{source.address}/values"}
    async with steered(tmp_path, **spec(webhook=hook)) as world:
        await world.until("Completed")
        asked = msgspec.json.decode(source.seen[0].body)
        assert (asked["rollout"], asked["metric"], asked["canary"]) == ("move", "hits", "llm-new")


async def test_a_budget_is_absolute(source: ScriptedEndpoint, tmp_path: Path):
    source.script = prometheus(lambda _: "0.9")
    async with steered(tmp_path, **spec(budget=0.5, prometheus=query(source))) as world:
        status = (await world.until("RolledBack")).status
        assert "above the budget" in status.message


async def test_a_source_that_does_not_answer_holds_and_is_named(
    source: ScriptedEndpoint, tmp_path: Path
):
    async with steered(tmp_path, **spec(prometheus=query(source))) as world:
        for _ in range(60):
            await world.second()
        assert await world.weights() == (80, 20)
        assert "no value yet (answered 500" in await hits(world)


async def looks(world: Steered) -> int:
    found = re.search(r"of (\d+) looks", await hits(world))
    return int(found[1]) if found else 0


async def test_what_was_counted_survives_the_controller(source: ScriptedEndpoint, tmp_path: Path):
    source.script = prometheus(lambda _: "1")
    async with steered(tmp_path, **spec(prometheus=query(source))) as world:
        for _ in range(8):
            await world.second()
        before = await looks(world)
        assert before >= 3
        await world.die()
        for _ in range(4):
            await world.second()
        assert before < await looks(world) <= before + 6
