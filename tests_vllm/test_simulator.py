"""The simulator beside a real vLLM: the same answers to the same questions, the same metrics."""

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests_vllm.place import Place, ask_text
from tests_vllm.questions import DIFFERENT, QUESTIONS, Question
from tests_vllm.scenarios import BASE
from tidegate.testing.ports import free_port
from tidegate.testing.waiting import wait_until

OWN = ("python_", "process_", "http_")
"""Metrics of what vLLM is written with."""


@pytest.fixture(scope="module")
def real(place: Place) -> str:
    place.story.chapter("7. The simulator beside it", "The same questions, the same metrics.")
    place.have({"llm": BASE})
    place.story.say(f"{len(QUESTIONS)} questions go to both; {len(DIFFERENT)} answers may differ")
    return place.address("llm")


@pytest.fixture(scope="module")
def simulated() -> Iterator[str]:
    port = free_port()
    names = ["--model", "tiny/base", "--model", "chat", "--lora-module", "tides-v1"]
    limits = ["--max-model-len", "1024", "--max-num-seqs", "16", "--max-loras", "2"]
    command = [sys.executable, "-m", "tidegate", "simulate", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--profile", "instant", *names, *limits], stdout=subprocess.DEVNULL
    ) as process:
        address = f"127.0.0.1:{port}"
        wait_until(lambda: answer(address, QUESTIONS["health"])[0] == 200, 20, "the simulator")
        yield address
        process.terminate()


def answer(address: str, question: Question) -> tuple[int, str, str]:
    """Return status, media type and body; 0 without an answer."""
    method, path, body = question
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {} if data is None else {"content-type": "application/json"}
    connection = http.client.HTTPConnection(address, timeout=120)
    try:
        connection.request(method, path, data, headers)
        got = connection.getresponse()
        kind = (got.headers.get("content-type") or "").partition(";")[0]
        return got.status, kind, got.read().decode()
    except ConnectionError:
        return 0, "", ""
    finally:
        connection.close()


def outline(status: int, kind: str, body: str) -> Any:
    """Return what of an answer has to be the same."""
    if status == 200 and kind == "text/event-stream":
        events = [line.removeprefix("data: ") for line in body.splitlines() if line]
        kinds = [json.dumps(shape(json.loads(each))) for each in events if each != "[DONE]"]
        return status, list(dict.fromkeys(kinds)), events[-1]
    if kind != "application/json" or not body:
        return status, body
    read = json.loads(body)
    if status == 200:
        return status, shape(read)
    error = dict(read.get("error", read))
    if "validation error" in error.get("message", ""):
        del error["message"]
    return status, error


def shape(value: Any) -> Any:
    """Return the fields and types of JSON; of lists the first entry's; of usage the counts'.

    Of names the values too: which of a model's names an answer has is seen by clients.
    """
    if isinstance(value, dict):
        usage = "completion_tokens" in value
        return {
            name: each if name in ("model", "object") else shape(each)
            for name, each in value.items()
            if name not in ("top_logprobs", "stop_reason") and not (usage and "details" in name)
        }
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None if value is None else type(value).__name__


@pytest.mark.parametrize("name", [name for name in QUESTIONS if name not in DIFFERENT])
def test_both_answer_alike(real: str, simulated: str, name: str):
    question = QUESTIONS[name]
    assert outline(*answer(simulated, question)) == outline(*answer(real, question))


@pytest.mark.parametrize("name", list(DIFFERENT))
def test_a_known_difference_is_still_one(real: str, simulated: str, name: str):
    question = QUESTIONS[name]
    assert outline(*answer(simulated, question)) != outline(*answer(real, question))


def families(page: str) -> dict[str, tuple[str, ...]]:
    """Return the labels of each series by its name."""
    found = {}
    for line in page.splitlines():
        if line and not line.startswith(("#", *OWN)):
            name, _, rest = re.split(r"([{ ])", line, maxsplit=1)
            found[name] = tuple(sorted(re.findall(r'(\w+)="', rest)))
    return found


def kinds(page: str) -> dict[str, str]:
    """Return whether each family is a counter, a gauge or a histogram."""
    lines = [line.split() for line in page.splitlines() if line.startswith("# TYPE ")]
    return {name: kind for _, _, name, kind in lines if not name.startswith(OWN)}


def test_both_have_the_same_metrics_with_the_same_labels(real: str, simulated: str):
    theirs = ask_text(f"http://{real}/metrics")
    ours = ask_text(f"http://{simulated}/metrics")
    assert families(ours) == families(theirs)
    assert kinds(ours) == kinds(theirs)


def test_both_have_the_same_buckets(real: str, simulated: str):
    def buckets(page: str) -> set[str]:
        found = re.findall(r'^(vllm:\w+_bucket)\{[^}]*(le="[^"]+")', page, re.MULTILINE)
        return {" ".join(each) for each in found}

    theirs = ask_text(f"http://{real}/metrics")
    assert buckets(ask_text(f"http://{simulated}/metrics")) == buckets(theirs)
