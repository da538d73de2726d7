"""What the demo shows: the updates in a table, and the one that runs as a live tree.

Where there is no terminal, a line for each change.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.cli.demo.acts import Act
from tidegate.cli.demo.live import live
from tidegate.cli.demo.play import Show
from tidegate.cli.rollout.view import summary, tree

STARTING: Final = "Starting a gateway and six simulated model servers ..."
COLUMNS: Final = ("update", "what happened", "took", "requests", "failed\nby canary",
                  "failed\notherwise", "session\nmoves")  # fmt: skip


class Picture:
    """Draws a show on a console.

    Args:
        console: Where.
        show: What.
        now: Seconds since the epoch, as rollouts count them.

    """

    def __init__(self, console: Console, show: Show, now: Callable[[], float]) -> None:
        self._console = console
        self._show = show
        self._now = now
        self._began_at = now()
        self._last: object = None

    def live(self) -> AbstractContextManager[None]:
        """Draw by itself, as long as the context lasts; not where there is no terminal."""
        return live(self._console, self._frame, STARTING)

    def began(self, act: Act) -> None:
        """Say that an update was started, where nothing is drawn."""
        self._say(f"{act.title} ({act.name})")

    def changed(self, act: Act) -> None:
        """Say where its rollout is."""
        if act.rollout is not None:
            status = act.rollout.status
            shown = (act.name, status.phase, status.step, status.weights.effective)
            if shown != self._last:
                self._last = shown
                self._say(f"  {summary(act.rollout)}")

    def ended(self, act: Act) -> None:
        """Say what it cost."""
        self._say(
            f"  {len(act.results)} requests, {act.failed_at_canary} failed by the canary,"
            f" {len(act.failed_otherwise)} otherwise"
        )

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            # Not wrapped: what reads a pipe reads lines.
            passed = f"{self._now() - self._began_at:5.1f} s"
            self._console.print(f"{passed}  {line}", markup=False, soft_wrap=True)

    def summary(self) -> None:
        """Print the whole table and what it comes to."""
        show = self._show
        self._console.print(_table(show.began))
        for act in show.began:
            style = "" if act.good else "bold red"
            self._console.print(f"{act.name}: {_ending(act)}", style=style, markup=False)
        others = [one for act in show.began for one in act.failed_otherwise]
        total = sum(len(act.results) for act in show.began)
        self._console.print(
            f"{total} requests in {self._now() - self._began_at:.0f} s, {len(others)} failed that"
            " the canary didn't fail itself.",
            style="bold red" if others else "bold green",
        )
        for one in others[:5]:
            self._console.print(f"  {one.error} {one.status} {one.detail}", markup=False)

    def _frame(self) -> Group:
        show = self._show
        if not show.began:
            return Group(Text(STARTING))
        act = show.began[-1]
        head = Text(
            f"Update {len(show.began)} of {len(show.acts)}: {act.title}.  {show.rate:.0f}"
            f" requests/s, {show.in_flight} in flight."
        )
        parts: list[RenderableType] = [head, _table(show.began), Text()]
        if act.rollout is not None:
            parts.append(tree(act.rollout, self._now()))
        return Group(*parts)


def _table(acts: list[Act]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:2] else "right")
    for act in acts:
        table.add_row(*_row(act))
    table.caption = "session moves: how often one session changed sides in one direction, at most"
    table.caption_justify = "left"
    return table


def _row(act: Act) -> tuple[str | Text, ...]:
    others = len(act.failed_otherwise)
    return (
        act.name,
        Text(_outcome(act), style="green" if act.good else "cyan" if not act.over else "red"),
        "" if act.ended_at is None else f"{act.ended_at - act.began_at:.0f} s",
        str(len(act.results)),
        str(act.failed_at_canary),
        Text(str(others), style="bold red" if others else "green"),
        str(act.most_moves) if act.canary != act.stable else "-",
    )


def _outcome(act: Act) -> str:
    if act.rollout is None:
        return "starts"
    return f"{act.phase}" if act.over else f"{act.phase} {act.rollout.status.weights.effective} %"


def _ending(act: Act) -> str:
    """Return how it ended, in a sentence; and how it should have, if it should have otherwise."""
    said = act.rollout.status.message if act.rollout is not None else "was not started"
    return said if act.phase == act.wanted else f"{said} (expected: {act.wanted})"
