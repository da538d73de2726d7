"""A rollout on a terminal: a tree that is drawn anew as it changes; elsewhere, a line a change."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tidegate.api.rollout import InferenceRollout
from tidegate.cli.rollout.endpoints import Busy
from tidegate.cli.rollout.progress import FAILED, Line, Mark, Progress, progress
from tidegate.rollout.plan import brief

REFRESH_PER_S: Final = 4
BAR: Final = 24
"""Characters of a progress bar."""
MOST_LINES: Final = 8
"""Steps (of more, those around the current one) and endpoints that are shown."""

MARKS: Final[dict[Mark, tuple[str, str]]] = {
    "done": ("✔", "green"),
    "now": ("▸", "bold cyan"),
    "next": ("·", "dim"),
    "stopped": ("✘", "red"),
}
OUTCOMES: Final = {
    "pass": "green",
    "fail": "bold red",
    "continue": "cyan",
    "inconclusive": "yellow",
}
SEVERITIES: Final = {"Block": "bold red", "Warn": "yellow", "Info": "dim"}


class Screen:
    """Shows one rollout as it goes."""

    def __init__(self, console: Console, now: Callable[[], float]) -> None:
        self._console = console
        self._now = now
        self._rollout: InferenceRollout | None = None
        self._note = ""
        self._line = ""
        self.endpoints: Sequence[Busy] = ()
        """Shown with their load, on a terminal."""

    @property
    def live_picture(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._console.is_terminal

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draw as long as the context lasts; leave the last picture there."""
        if not self._console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._frame, console=self._console, refresh_per_second=REFRESH_PER_S
        ):
            yield

    def show(self, rollout: InferenceRollout) -> None:
        """Take in a change."""
        self._rollout, self._note = rollout, ""
        line = summary(rollout)
        if not self._console.is_terminal and line != self._line:
            self._line = line
            click.echo(f"{_clock(self._now())} {line}")

    def tell(self, note: str) -> None:
        """Say what hinders the view itself."""
        if self._console.is_terminal:
            self._note = note
        elif note != self._note:
            self._note = note
            click.echo(f"{_clock(self._now())} {note}", err=True)

    def _frame(self) -> Group:
        parts: list[Tree | Text] = []
        if self._rollout is not None:
            parts.append(tree(self._rollout, self._now(), self.endpoints))
        if self._note:
            parts.append(Text(self._note, style="yellow"))
        return Group(*parts)


def summary(rollout: InferenceRollout) -> str:
    """Return a rollout in one line."""
    status, weights = rollout.status, rollout.status.weights
    parts = [status.phase, status.step, f"weight={weights.effective}%"]
    if weights.desired != weights.effective:
        parts.append(f"wanted={weights.desired}%")
    return f"{' '.join(part for part in parts if part)}: {status.message or 'not seen yet'}"


def tree(rollout: InferenceRollout, now: float, endpoints: Sequence[Busy] = ()) -> Tree:
    """Return all there is to say of a rollout at `now`, and of its endpoints."""
    seen = progress(rollout, now)
    root = Tree(_head(rollout, seen), guide_style="dim")
    if rollout.status.message:
        root.add(Text(rollout.status.message, style=_style(seen)))
    _add_steps(root, seen)
    _add_weights(root, rollout)
    _add_endpoints(root, endpoints)
    _add_evidence(root, rollout)
    _add_findings(root, rollout)
    if (left := _left(seen)) is not None:
        root.add(left)
    return root


def _head(rollout: InferenceRollout, seen: Progress) -> Text:
    spec, metadata = rollout.spec, rollout.metadata
    head = Text.assemble((metadata.name, "bold"), f"  {spec.type}  {spec.stable} → {spec.canary}  ")
    head.append(seen.phase, style=_style(seen))
    if seen.stage != seen.phase:
        head.append(f" in {seen.stage}", style="dim")
    if seen.since_s is not None and seen.phase not in ("Completed", *FAILED):
        head.append(f"  {brief(max(0, round(seen.since_s)))}", style="dim")
    return head


def _style(seen: Progress) -> str:
    if seen.phase == "Completed":
        return "bold green"
    if seen.phase in FAILED or seen.stage in ("Aborting", "RollingBack"):
        return "bold red"
    return "bold yellow" if seen.phase == "Paused" else "bold cyan"


def _add_steps(root: Tree, seen: Progress) -> None:
    steps = root.add("steps")
    first, last = _window(seen.steps)
    if first:
        steps.add(Text(f"… {first} before", style="dim"))
    for line in seen.steps[first:last]:
        steps.add(_line(line))
    if last < len(seen.steps):
        steps.add(Text(f"… {len(seen.steps) - last} more", style="dim"))
    for line in seen.after:
        root.add(_line(line))


def _window(steps: tuple[Line, ...]) -> tuple[int, int]:
    """Return which steps are shown."""
    if len(steps) <= MOST_LINES:
        return 0, len(steps)
    current = next((i for i, line in enumerate(steps) if line.mark in ("now", "stopped")), None)
    if current is None:
        current = len(steps) if steps[-1].mark == "done" else 0
    first = max(0, min(current - MOST_LINES // 2, len(steps) - MOST_LINES))
    return first, first + MOST_LINES


def _line(line: Line) -> Text:
    sign, style = MARKS[line.mark]
    text = Text.assemble((f"{sign} {line.text}", style))
    if line.share is not None:
        filled = round(BAR * line.share)
        text.append(f"  {'█' * filled}", style="cyan")
        text.append("░" * (BAR - filled), style="dim")
        left = f", {brief(round(line.left_s))} left" if line.left_s else ""
        text.append(f" {line.share:.0%}{left}", style="dim")
    return text


def _add_weights(root: Tree, rollout: InferenceRollout) -> None:
    weights = rollout.status.weights
    grid = Table.grid(padding=(0, 1))
    observed = weights.observed
    for name, value in (
        ("desired", float(weights.desired)),
        ("effective", float(weights.effective)),
        ("observed", observed),
    ):
        bar = "" if value is None else "█" * round(BAR * value / 100)
        said = "not counted yet" if value is None else f"{value:g} %"
        grid.add_row(name, Text(said, justify="right"), Text(bar, style="magenta"))
    root.add(Group(Text("the canary's weight"), grid))


def _add_endpoints(root: Tree, endpoints: Sequence[Busy]) -> None:
    if not endpoints:
        return
    grid = Table.grid(padding=(0, 2))
    for each in endpoints[:MOST_LINES]:
        style = "" if each.state == "Ready" else "yellow"
        load = f"{each.running} running, {each.waiting} waiting, KV {each.kv_usage:.0%}"
        grid.add_row(
            each.pool,
            each.address,
            Text(each.state, style=style),
            Text(load if each.running is not None else "", style="dim"),
        )
    parts: list[RenderableType] = [Text("endpoints"), grid]
    if (more := len(endpoints) - MOST_LINES) > 0:
        parts.append(Text(f"… {more} more", style="dim"))
    root.add(Group(*parts))


def _add_evidence(root: Tree, rollout: InferenceRollout) -> None:
    if not rollout.status.evidence:
        return
    branch = root.add("last verdict")
    for each in rollout.status.evidence:
        text = Text.assemble(f"{each.metric}  ", (each.outcome, OUTCOMES[each.outcome]))
        text.append(f"  {each.message}", style="dim")
        branch.add(text)


def _add_findings(root: Tree, rollout: InferenceRollout) -> None:
    if not rollout.status.findings:
        return
    branch = root.add("preflight")
    for each in rollout.status.findings:
        waived = " (waived)" if each.waived else ""
        text = Text.assemble((f"{each.name}{waived}  ", SEVERITIES[each.severity]), each.message)
        text.append(f" {each.mend}", style="dim")
        branch.add(text)


def _left(seen: Progress) -> Text | None:
    if seen.left_s is None:
        return None
    waits = ", and a step waits for people" if seen.waits else ""
    return Text(f"complete in about {brief(round(seen.left_s))}{waits}", style="dim")


def _clock(now: float) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).astimezone().strftime("%H:%M:%S")
