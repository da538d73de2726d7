"""Updates of what runs, under load: nodes, base model, adapter. Nothing may fail."""

from collections.abc import Callable
from typing import Any

import openai

from tests_vllm.clients import assert_none_failed, check_api, client, load, say
from tests_vllm.place import Place, Server, path_of
from tidegate.testing import moving
from tidegate.testing.moving import intend, moves, start, status, until, weights
from tidegate.testing.waiting import wait_until

BASE = Server()
NEW_NODES = BASE.but(app="llm-new", flags={"--max-num-seqs": "32", "--block-size": "32"})
NEW_MODEL = BASE.but(app="llm-new", model="base-new")
SHORT = NEW_MODEL.but(adapters=(), flags={"--max-model-len": "512"})
"""Without the adapter that clients use, and with room for half as much."""

END_S = 400.0
BRISK: dict[str, Any] = {
    "steps": [{"setWeight": 25}, {"setWeight": 50}],
    "analysis": {
        **moving.BRISK["analysis"],
        "duration": "10s",
        # Servers that share two cores are as fast as the others leave them.
        "metrics": [{"name": name, "role": "Informative"} for name in ("ttft_p50", "itl_p50")],
    },
    "bake": "5s",
    "drain": "30s",
}
CAREFUL = [
    {"warm": {"percent": 50, "timeout": "20s"}},
    {"shadow": {"percent": 100, "duration": "5s"}},
    {"setWeight": 25},
    {"setWeight": 50},
]
"""Before another model gets a request, copies warm it, and its answers are compared."""


def node_update(place: Place) -> None:
    """A second pool with other server flags takes over."""
    place.story.chapter("1. Node update", "The same model on a server with other flags.")
    place.have({"llm": BASE, "llm-new": NEW_NODES})
    up = place.up
    check_api(place, "chat")
    with load(place, "chat") as running:
        running.more(20)
        start(up, "node", type="Node", **BRISK)
        follow(place, "node", "Completed")
        late = running.more(20)
    assert {each.pool for each in late} == {"llm-new"}
    assert weights(up) == (0, 100)
    assert max(moves(running.results).values()) <= 1
    assert_none_failed(place, running.results)


def base_model_update(place: Place) -> None:
    """Another base model: refused while it lacks what clients use, then mended and taken."""
    place.story.chapter(
        "2. Base model update",
        "Another model under the same alias, first without the adapter that clients use.",
    )
    place.have({"llm": BASE, "llm-new": SHORT})
    up = place.up
    with load(place, "chat") as running, load(place, "tides-load", rate=1) as adapted:
        running.more(10)
        start(up, "base", type="BaseModel", **{**BRISK, "steps": CAREFUL})
        seen = until(up, lambda now: blocking(now), "base", END_S)
        found = blocking(seen)
        for each in found.values():
            place.story.say(f"preflight refuses: {each}")
        assert {"AdaptersServed", "ContextLength"} <= found.keys()
        assert seen["phase"] == "Preflight"
        assert weights(up) == (100, 0)
        place.add("llm-new", NEW_MODEL)
        follow(place, "base", "Completed")
        late = running.more(10) + adapted.more(3)
        check_api(place, "tiny/base-new")
    assert {each.pool for each in late} == {"llm-new"}
    assert_none_failed(place, [*running.results, *adapted.results])


def adapter_update(place: Place) -> None:
    """An adapter's second version: loaded everywhere, split, sticky, undone."""
    place.story.chapter(
        "3. Adapter update and its undoing",
        "`tides` becomes `tides-v2` on two servers, and `tides-v1` again.",
    )
    place.have({"llm": BASE, "llm-b": BASE})
    up, story = place.up, place.story
    known = references(place)
    sessions = [f"session-{number}" for number in range(24)]
    with load(place, "tides-load") as running:
        assert set(drawn(place, known, sessions).values()) == {"v1"}
        start(
            up,
            "adapter",
            **{**BRISK, "steps": [{"setWeight": 50}, {"pause": {}}]},
            type="Adapter",
            stable="tides-v1",
            canary="tides-v2",
            adapters={
                "canaryPath": str(path_of("v2")),
                "stablePath": str(path_of("v1")),
                "unload": True,
            },
        )
        follow(place, "adapter", lambda now: now["weights"]["effective"] == 50)
        assert all({"tides-v1", "tides-v2"} == each for each in place.adapters().values())
        story.say(f"tides-v2 is loaded by the rollout on {', '.join(place.adapters())}; 50 %")
        split = drawn(place, known, sessions)
        counts = {side: list(split.values()).count(side) for side in ("v1", "v2")}
        story.say(f"{len(split)} sessions ask `tides`: {counts['v1']} get v1, {counts['v2']} v2")
        assert min(counts.values()) >= 4
        assert drawn(place, known, sessions) == split
        story.say("asked again, all of them get the same one")
        intend(up, "adapter", promote="go")
        follow(place, "adapter", "Completed", lambda: keeps_both_until_the_end(place))
        assert set(drawn(place, known, sessions).values()) == {"v2"}
        everywhere(place, {"tides-v2"})
        story.say("all sessions get v2; tides-v1 is unloaded everywhere")
        intend(up, "adapter", undo=True)
        follow(place, "adapter", "RolledBack")
        assert set(drawn(place, known, sessions).values()) == {"v1"}
        everywhere(place, {"tides-v1"})
        story.say("undone: all sessions get v1; tides-v2 is unloaded everywhere")
    assert_none_failed(place, running.results)


def references(place: Place) -> dict[str, str]:
    """Return what each adapter says to the question of `drawn`, asked of a server itself."""
    address = f"http://{place.address('llm-b')}/v1"
    with openai.OpenAI(base_url=address, api_key="x", max_retries=0) as one:
        body = {"lora_name": "tides-v2", "lora_path": str(path_of("v2"))}
        one.post("/load_lora_adapter", body=body, cast_to=str)
        try:
            said = {
                each: say(one, f"tides-{each}", "").choices[0].message.content or ""
                for each in ("v1", "v2")
            }
            said["base"] = say(one, "chat", "").choices[0].message.content or ""
        finally:
            one.post("/unload_lora_adapter", body={"lora_name": "tides-v2"}, cast_to=str)
    assert len(set(said.values())) == 3, said
    for name, text in said.items():
        place.story.say(f"{name} says {text!r}")
    return said


def drawn(place: Place, known: dict[str, str], sessions: list[str]) -> dict[str, str]:
    """Return which adapter answers each session: the one that the gateway says it drew.

    The answers have the client's name.
    """
    found: dict[str, str] = {}
    before = len(place.targets("tides"))
    with client(place) as one:
        for session in sessions:
            answer = say(one, "tides", session)
            assert answer.model == "tides"
            text = answer.choices[0].message.content
            found[session] = next(name for name, said in known.items() if said == text)
    wait_until(lambda: len(place.targets("tides")) == before + len(sessions), 30, "the access log")
    assert place.targets("tides")[before:] == [f"tides-{name}" for name in found.values()]
    return found


def keeps_both_until_the_end(place: Place) -> None:
    """Check that no server lost the stable's adapter before the rollout was complete."""
    served = place.adapters()
    if status(place.up, "adapter")["phase"] != "Completed":
        assert all("tides-v1" in each for each in served.values()), served


def blocking(seen: dict[str, Any]) -> dict[str, str]:
    """Return what blocks a rollout: the message by the check."""
    return {
        each["name"]: f"{each['name']}: {each['message']} {each.get('mend', '')}".strip()
        for each in seen.get("findings", ())
        if each["severity"] == "Block" and not each.get("waived")
    }


def everywhere(place: Place, adapters: set[str]) -> None:
    """Wait until all servers have just these adapters."""
    what = f"all servers to have {adapters}"
    wait_until(lambda: all(each == adapters for each in place.adapters().values()), 60, what)


Reached = str | Callable[[dict[str, Any]], object]


def follow(place: Place, name: str, end: Reached, look: Callable[[], None] = lambda: None) -> None:
    """Wait until a rollout has reached a phase or a state; tell of each change on the way.

    Args:
        place: Where.
        name: The rollout's.
        end: A phase, or what its status has to fulfil.
        look: Called again and again meanwhile.

    """

    def reached(seen: dict[str, Any]) -> bool:
        for entry in seen.get("history", ()):
            if entry["number"] > place.told.get(name, -1):
                place.told[name] = entry["number"]
                weight = entry.get("weight", 0)
                place.story.say(f"{name}: {entry['phase']}, {weight} %: {entry['message']}")
        look()
        phase = seen.get("phase")
        if phase in {"RolledBack", "Aborted"} - {end}:
            raise AssertionError(f"{name} is {phase}: {seen.get('message')}")
        return phase == end if isinstance(end, str) else bool(end(seen))

    until(place.up, reached, name, END_S)
