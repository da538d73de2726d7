"""Rollouts as text: kubectl's table, JSON, YAML and names, a plan, findings."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

import yaml

from tidegate.api.rollout import FindingStatus, HistoryEntry, InferenceRollout
from tidegate.api.scheme import by_model
from tidegate.cli.rollout.manifest import whole
from tidegate.cli.rollout.progress import total_s, wording
from tidegate.rollout.plan import Plan, brief
from tidegate.store.tables import age, render_table

Output = Literal["table", "wide", "name", "json", "yaml"]


def render(
    rollouts: Sequence[InferenceRollout],
    output: Output,
    now: float,
    *,
    as_list: bool,
    everywhere: bool = False,
) -> str:
    """Return rollouts as `kubectl get -o OUTPUT` prints them.

    Args:
        rollouts: Which.
        output: How.
        now: Seconds since the epoch, for ages.
        as_list: JSON and YAML have a List, even of one.
        everywhere: The table says each one's namespace.

    """
    match output:
        case "json":
            return json.dumps(_objects(rollouts, as_list=as_list), indent=4, ensure_ascii=False)
        case "yaml":
            text: str = yaml.safe_dump(
                _objects(rollouts, as_list=as_list), allow_unicode=True, sort_keys=True
            )
            return text.rstrip()
        case "name":
            kind = by_model(InferenceRollout)
            group = f"{kind.singular}.{kind.group}"
            return "\n".join(f"{group}/{one.metadata.name}" for one in rollouts)
        case "table" | "wide":
            return _table(rollouts, now, wide=output == "wide", everywhere=everywhere)


def _objects(rollouts: Sequence[InferenceRollout], *, as_list: bool) -> object:
    items = [whole(one) for one in rollouts]
    return items[0] if not as_list else {"apiVersion": "v1", "kind": "List", "items": items}


def _table(
    rollouts: Sequence[InferenceRollout], now: float, *, wide: bool, everywhere: bool
) -> str:
    kind = by_model(InferenceRollout)
    table = render_table(
        kind, [whole(one) for one in rollouts], version="", now=now, include="None"
    )
    shown = [i for i, column in enumerate(table["columnDefinitions"])
             if wide or column["priority"] == 0]  # fmt: skip
    head = [table["columnDefinitions"][i]["name"].upper() for i in shown]
    rows = [["" if row["cells"][i] is None else str(row["cells"][i]) for i in shown]
            for row in table["rows"]]  # fmt: skip
    if everywhere:
        head = ["NAMESPACE", *head]
        rows = [[one.metadata.namespace, *row] for one, row in zip(rollouts, rows, strict=True)]
    return columns([head, *rows])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns, three spaces apart, as kubectl does it."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def history(entries: Sequence[HistoryEntry], now: float) -> str:
    """Return the changes of a rollout, oldest first."""
    head = ("NUMBER", "AGE", "PHASE", "STEP", "WEIGHT", "REASON", "MESSAGE")
    rows = [
        (str(one.number), age(one.time, now), one.phase, str(one.step), f"{one.weight}%",
         one.reason, one.message)
        for one in entries
    ]  # fmt: skip
    return columns([head, *rows])


def plan(plan: Plan) -> Iterator[str]:
    """Yield the lines that spell a plan out."""
    yield f"{plan.type} rollout from {plan.stable} to {plan.canary}"
    rows = [("STEP", "WHAT", "BEGINS AFTER")]
    at_s = 0.0
    waits = ""
    for number, step in enumerate(plan.steps, 1):
        rows.append((str(number), wording(step), f"{brief(at_s)}{waits}"))
        at_s += step.duration_s or 0.0
        if step.kind == "Pause" and step.duration_s is None:
            waits = " + a wait for people"
    rows.append(("", f"bake {brief(plan.bake_s)}", f"{brief(at_s)}{waits}"))
    rows.append(
        ("", f"drain, {brief(plan.drain_s)} at most", f"{brief(at_s + plan.bake_s)}{waits}")
    )
    yield columns(rows)
    yield (
        f"Complete after {brief(total_s(plan.steps) + plan.bake_s)}{waits} if nothing holds it"
        f" up; each look needs {plan.min_requests} requests of the canary, too."
    )
    yield _failure(plan)
    if plan.waivers:
        yield f"Waived checks: {', '.join(plan.waivers)}."
    if plan.gates:
        yield f"Webhooks are asked at: {', '.join(plan.gates)}."


def _failure(plan: Plan) -> str:
    limit = f"It waits for people when it isn't at 100 % after {brief(plan.max_duration_s)}."
    if plan.on_failure == "Hold":
        return f"If the canary fails, it stands still and waits for people. {limit}"
    return f"If the canary fails, everything goes back to {plan.stable}. {limit}"


STYLES: Final[dict[str, str]] = {"Block": "red", "Warn": "yellow", "Info": "cyan"}


def findings(found: Sequence[FindingStatus], style: Callable[[str, str], str]) -> Iterator[str]:
    """Yield a line for each finding; `style` colours a text."""
    for one in found:
        word = "waived" if one.waived else one.severity.lower()
        colour = "yellow" if one.waived else STYLES[one.severity]
        yield f"{style(word.ljust(6), colour)} {one.name}: {one.message} {one.mend}".rstrip()
