"""What the demo by hand shows: one table that grows, live on a terminal, plain lines elsewhere."""

from contextlib import AbstractContextManager
from typing import Final

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tidegate.cli.demo.live import live
from tidegate.cli.demo.phases import CANARY, STABLE, TOLERANCE, Phase, across
from tidegate.cli.demo.rollout import Show

STARTING: Final = "Starting a gateway and four simulated model servers ..."
SIGMA: Final = "\N{GREEK SMALL LETTER SIGMA}"


class Screen:
    """Draws a show on a console."""

    def __init__(self, console: Console, show: Show) -> None:
        self._console = console
        self._show = show

    def live(self) -> AbstractContextManager[None]:
        """Draw by itself, as long as the context lasts; not where there is no terminal."""
        return live(self._console, self._frame, STARTING)

    def began(self, phase: Phase) -> None:
        """Say that a phase began, where the table isn't live."""
        if not self._console.is_terminal:
            moved = phase.effect_s is not None
            effect = f", in effect after {_ms(phase.effect_s or 0.0)} ms" if moved else ""
            weights = f"{STABLE} {phase.stable} / {CANARY} {phase.canary}"
            self._console.print(f"{phase.name}: {weights}{effect}")

    def ended(self, phase: Phase) -> None:
        """Say how a phase went, where the table isn't live."""
        if not self._console.is_terminal:
            self._console.print(
                f"{phase.name}: {len(phase.counted)} sessions, {phase.share:.1%} to {CANARY} "
                f"({_deviation(phase)}), {phase.failed} failed"
            )

    def summary(self) -> None:
        """Print the whole table and what it comes to."""
        show = self._show
        self._console.print(_table(show.began))
        under_way = across(show.results, show.began)
        failed = len(show.failures)
        self._console.print(
            f"{len(show.results)} requests, {failed} failed. "
            f"{under_way} were under way when weights changed.",
            style="bold red" if failed else "bold green",
        )
        for phase in show.began:
            if not phase.kept():
                self._console.print(
                    f"{phase.name}: {CANARY} got {phase.share:.1%}, expected "
                    f"{phase.expected:.0%}: {_deviation(phase)}, more than {TOLERANCE:.0f}{SIGMA}.",
                    style="bold red",
                )
        for one in show.failures[:5]:
            self._console.print(f"  {one.error} {one.status} {one.detail}", markup=False)

    def _frame(self) -> Group:
        show = self._show
        if not show.began:
            return Group(Text(STARTING))
        now = show.began[-1]
        line = (
            f"Phase {len(show.began)} of {len(show.phases)}: {STABLE} {now.stable} / {CANARY} "
            f"{now.canary}.  {show.rate:.0f} requests/s, {show.in_flight} in flight, "
            f"{len(show.failures)} failed."
        )
        return Group(Text(line), _table(show.began))


COLUMNS: Final = (
    "phase", "weights", "sessions", "share", "off by", "requests", "failed", "TTFT\nllm",
    "TTFT\nllm-new", "effect",
)  # fmt: skip
"""They fit into 80 characters, as wide as the output is where nobody says."""


def _table(phases: list[Phase]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "phase" else "right", no_wrap=True)
    for phase in phases:
        table.add_row(*_row(phase))
    table.caption = (
        f"share: sessions that went to {CANARY}.  TTFT: p50/p95 in ms.\n"
        "effect: ms from the patch until nothing was routed by the old weights."
    )
    table.caption_justify = "left"
    return table


def _row(phase: Phase) -> tuple[str | Text, ...]:
    return (
        phase.name,
        f"{phase.stable}/{phase.canary}",
        str(len(phase.counted)),
        f"{phase.share:.1%}",
        Text(_deviation(phase), style="green" if phase.kept() else "bold red"),
        str(len(phase.results)),
        Text(str(phase.failed), style="bold red" if phase.failed else "green"),
        _ttft(phase, STABLE),
        _ttft(phase, CANARY),
        "" if phase.effect_s is None else _ms(phase.effect_s),
    )


def _deviation(phase: Phase) -> str:
    deviation = phase.deviation()
    if phase.expected in {0.0, 1.0}:
        return "wrong" if deviation else "exact"
    return f"{deviation:+.1f}{SIGMA}"


def _ttft(phase: Phase, pool: str) -> str:
    seen = phase.ttft(pool)
    return f"{_ms(seen.p50)}/{_ms(seen.p95)}" if seen.count else "-"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"
