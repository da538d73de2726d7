"""Rollouts as scripts: `cases/*.txt` hold what happens and, below `----`, all that follows.

`TIDEGATE_GOLDEN=1 pytest tests/rollout` rewrites the traces: read the diff.

    spec: {stable: llm, canary: llm-new}     the rollout's spec, in whole (as often as wanted)
    set: {abort: true}                       fields of the spec that change
    wait 30                                  seconds pass, then the controller looks
    canary: {ready: 0}                       what its pool is like; likewise `stable`
    world: {cap: 30, quality: fail}          other attributes of the world
    weights 70/30 by kubectl-edit            somebody writes the weights
    target gone                              somebody deletes the route
    crash after 1                            the controller dies after its next but one write
    delete                                   somebody deletes the rollout

Each line is followed by a look; the trace has every state and command that this leads to.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tidegate.api.rollout import FindingStatus
from tidegate.rollout.observed import Binding, Warmth
from tidegate.rollout.state import State
from tidegate.rollout.status import render
from tidegate.testing.rollouts import CrashError, World

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_script_has_its_trace(case: Path):
    script, _, golden = case.read_text().partition("----\n")
    trace = play(script)
    if os.environ.get("TIDEGATE_GOLDEN"):
        case.write_text(f"{script}----\n{trace}")
        return
    assert trace == golden


def test_there_are_cases():
    assert len(CASES) >= 20


class Player:
    def __init__(self) -> None:
        self.world: World = World({"stable": "llm", "canary": "llm-new"})
        self.started = False
        self.last = ""
        self.lines: list[str] = []

    def play(self, line: str) -> None:
        self.lines.append(f"> {line}")
        if self._do(line):
            self._look()

    def _do(self, line: str) -> bool:
        head, _, rest = line.partition(" ")
        match head:
            case "spec:":
                return self._spec(yaml.safe_load(rest))
            case "set:":
                self.world.spec = {**self.world.spec, **yaml.safe_load(rest)}
                self.world.generation += 1
            case "wait":
                self.world.now += float(rest)
            case "canary:" | "stable:":
                side = head[:-1]
                changed = replace(getattr(self.world, side), **yaml.safe_load(rest))
                setattr(self.world, side, changed)
            case "world:":
                return self._world(yaml.safe_load(rest))
            case "weights":
                weights, _, who = rest.partition(" by ")
                stable, canary = map(int, weights.split("/"))
                self.world.set_weights(stable, canary, who)
            case "target":
                self.world.target = None
            case "crash":
                self.world.crash_in = int(rest.removeprefix("after "))
                return False
            case "delete":
                self.world.deleting = True
            case _:
                raise AssertionError(f"what is {line!r}?")
        return True

    def _spec(self, spec: dict) -> bool:
        if self.started:
            self.world.spec, self.world.generation = spec, self.world.generation + 1
        else:
            self.world, self.started = World(spec), True
        return True

    def _world(self, fields: dict) -> bool:
        for name, value in fields.items():
            setattr(self.world, name, READERS.get(name, lambda each: each)(value))
        return self.started

    def _look(self) -> None:
        world = self.world
        feed = world.feed

        def watched(event: object) -> State:
            after = feed(event)  # type: ignore[arg-type]
            self._show(after)
            return after

        world.feed = watched  # type: ignore[method-assign]
        do = world.do

        def done(command: object) -> None:
            do(command)  # type: ignore[arg-type]
            if world.log:
                self.lines += [f"    {each}" for each in world.log]
                world.log.clear()

        world.do = done  # type: ignore[method-assign]
        while True:
            try:
                world.look()
                break
            except CrashError:
                self.lines.append("  crashed")
                world.crash_in = None
        world.feed, world.do = feed, do  # type: ignore[method-assign]
        if world.gone:
            self.lines.append("  the rollout is gone")

    def _show(self, state: State) -> None:
        status = render(state)
        weights = f"{state.desired}/{state.effective}"
        text = f"  {state.phase} step={status.step} weight={weights}: {status.message}"
        if text != self.last:
            self.lines.append(text)
            self.last = text


def findings(each: list[dict]) -> tuple[FindingStatus, ...]:
    return tuple(FindingStatus(severity="Block", **one) for one in each)


READERS = {
    "findings": findings,
    "warmth": lambda pair: Warmth(*pair),
    "share": lambda pair: tuple(pair) if pair else None,
    "adapters": lambda each: {endpoint: set(names) for endpoint, names in each.items()},
    "bindings": lambda each: [Binding(*one) for one in each],
}


def play(script: str) -> str:
    player = Player()
    for line in script.splitlines():
        if line and not line.startswith("#"):
            player.play(line)
    return "\n".join(player.lines) + "\n"
