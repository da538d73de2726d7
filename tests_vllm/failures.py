"""What goes wrong with servers under streams: killed, stopped, never ready."""

import os
import signal
import time

import psutil

from tests_vllm.clients import assert_none_failed, load
from tests_vllm.place import Place, ask_text
from tests_vllm.scenarios import BASE
from tidegate.testing.waiting import wait_until

STREAM = {"rate": 0.8, "max_tokens": 600}
"""Some streams are under way at any time: each takes seconds."""
GONE = BASE.but(flags={"--model": "/nowhere"})
LATE = BASE.but(startup_s=5.0)
"""No vLLM starts as fast as that."""


def killed(place: Place) -> None:
    """SIGKILL: its streams break, nobody else notices, and it comes back."""
    place.story.chapter("4. SIGKILL under streams", "One of two servers is killed.")
    place.have({"llm": BASE, "llm-b": BASE})
    story = place.story
    with load(place, "chat", **STREAM) as running:
        running.more(4)
        victim = place.endpoint("llm-b")
        wait_until(lambda: streams(victim["address"]) > 0, 60, "a stream at llm-b")
        group, at = family(victim["pid"]), time.perf_counter()
        os.kill(victim["pid"], signal.SIGKILL)
        story.say(f"llm-b is killed (pid {victim['pid']}, with {len(group) - 1} children)")
        wait_until(lambda: not any(each.is_running() for each in group), 20, "all of it to end")
        story.say("its engine and worker processes are gone too")
        place.ready("llm-b")
        story.say(f"llm-b is ready again, started {place.endpoint('llm-b')['restarts']} more time")
        running.more(8)
    broken = running.failures
    story.count(running.results)
    story.say(f"{len(broken)} broke: streams that the killed server had begun; no other")
    for each in broken:
        assert each.started_at < at, each
        assert each.endpoint == victim["address"], each
    late = [each for each in running.results if each.started_at > at]
    assert late
    assert not any(each.failed for each in late)


def stopped(place: Place) -> None:
    """SIGTERM in order: what it has is finished, what comes goes elsewhere."""
    place.story.chapter("5. SIGTERM with requests in flight", "One of two servers is deleted.")
    place.have({"llm": BASE, "llm-b": BASE})
    with load(place, "chat", **STREAM) as running:
        running.more(4)
        address = place.address("llm-b")
        wait_until(lambda: streams(address) > 0, 60, "a stream at llm-b")
        place.story.say(f"llm-b is deleted with {streams(address)} streams under way")
        begun = time.perf_counter()
        place.remove("llm-b")
        place.story.say(f"llm-b has ended after {time.perf_counter() - begun:.1f} s")
        running.more(4)
    assert_none_failed(place, running.results)


def never_ready(place: Place) -> None:
    """Two that never come up: said why, never asked."""
    place.story.chapter("6. Servers that never become ready", "No model, and too little time.")
    place.have({"llm": BASE})
    with load(place, "chat") as running:
        for name, server, why in (
            ("llm-gone", GONE, "exited with code 1"),
            ("llm-late", LATE, "not ready after 5 s"),
        ):
            place.apply(server.manifest(name))
            found = message_of(place, name, why)
            place.story.say(f"{name}: {found}")
            place.up.kubectl("delete", "modelserver", name, "--timeout=90s")
        running.more(5)
    assert {each.endpoint for each in running.results} == {place.address("llm")}
    assert_none_failed(place, running.results)


def message_of(place: Place, name: str, why: str) -> str:
    """Wait until a ModelServer says why it isn't ready; return its words."""
    said: list[str] = []

    def says() -> bool:
        status = place.up.kubectl.json("modelserver", name).get("status", {})
        said[:] = [each["message"] for each in status.get("conditions", ())]
        return any(why in each for each in said)

    wait_until(says, 120, f"{name} to say {why!r}")
    return said[0]


def streams(address: str) -> int:
    """Return how many requests a server runs."""
    lines = ask_text(f"http://{address}/metrics").splitlines()
    return int(
        sum(float(x.split()[-1]) for x in lines if x.startswith("vllm:num_requests_running"))
    )


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it started."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
