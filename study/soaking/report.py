"""The page and the picture of a soak."""

import os
import platform
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

from soaking.faults import Event
from soaking.watch import Sample
from tidegate.load.result import Result

if TYPE_CHECKING:  # imported where it is drawn with
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """All that came of one. Times in seconds, memory in MB."""

    minutes: float
    capacity: float
    """Requests a second that the machine carries, with servers and clients on it."""
    rate: float
    requests: int
    first_tokens: Sequence[float]
    events: Sequence[Event]
    failed: Sequence[Result]
    losses: Sequence[Result]
    """Failed requests that nothing excuses."""
    samples: Sequence[Sample]
    before: Sample
    """After a minute of load and its end: idle, warm."""
    after: Sample
    """After the soak and its end: idle again."""
    tracebacks: int

    @property
    def survivors(self) -> list[str]:
        """The processes that lived through all of it."""
        return sorted(self.samples[0].memory.keys() & self.samples[-1].memory.keys())

    def growth(self, name: str) -> tuple[float, float]:
        """Return the median memory in the second and in the last tenth of the soak."""
        values = [sample.memory[name] for sample in self.samples if name in sample.memory]
        tenth = max(1, len(values) // 10)
        return median(values[tenth : 2 * tenth] or values), median(values[-tenth:])


def page(soak: Soak) -> str:
    """Return the results as Markdown."""
    cuts = quantiles(soak.first_tokens, n=100)
    lines = "\n".join
    return f"""# A soak: {soak.minutes:g} minutes of trouble

{soak.rate:.0f} requests a second, 70 % of the {soak.capacity:.0f} that this machine carried before
({platform.machine()}, {os.cpu_count()} cores for the gateway's two workers, four simulated servers
and the clients; Python {platform.python_version()}). Three of four are streamed chats of 24 tokens,
the fourth isn't streamed. All the time something goes wrong, in a random order.

**{soak.requests:,} requests; {len(soak.failed)} failed on a server or a process that was broken on
purpose; {len(soak.losses)} others failed.** First tokens: median {1000 * cuts[49]:.0f} ms, p99
{1000 * cuts[98]:.0f} ms, faults included. Tracebacks in the log: {soak.tracebacks}.

![Memory, connections and errors over time](soak.png)

## What went wrong, and what it cost

A failed request is excused only if its own server was the sick one at that time (by
`x-tidegate-endpoint`, or as the gateway's own answer names it) and it failed in a way in which
that fault shows, or if it was under way on a process at the moment when that was killed.

| trouble | times | requests that failed of it |
|---|---:|---:|
{lines(_trouble(soak.events))}

{lines(_losses(soak.losses))}
## Memory

Resident, MB: the median of the second tenth of the soak, and of the last. Processes that were
killed on the way aren't in the table; the picture has them.

| process | at first | at last |
|---|---:|---:|
{lines(_memory(soak, name) for name in soak.survivors)}

## Connections

Idle before, and idle again once the load had ended:

| | before | after |
|---|---:|---:|
| connections of clients | {soak.before.connections} | {soak.after.connections} |
| requests in flight | {soak.before.in_flight} | {soak.after.in_flight} |
| open files of the workers | {soak.before.descriptors} | {soak.after.descriptors} |

`make study-soak` measures it anew.
"""


def _trouble(events: Sequence[Event]) -> list[str]:
    times = Counter(event.kind for event in events)
    lost: Counter[str] = Counter()
    for event in events:
        lost[event.kind] += event.lost
    return [f"| {kind} | {count} | {lost[kind]} |" for kind, count in sorted(times.items())]


def _losses(losses: Sequence[Result]) -> list[str]:
    if not losses:
        return []
    kinds = Counter(f"{one.error} {one.status or ''} {one.detail[:100]}" for one in losses)
    return [
        "## Losses", "", *(f"- {count} x {kind}" for kind, count in kinds.most_common(20)), "",
    ]  # fmt: skip


def _memory(soak: Soak, name: str) -> str:
    first, last = soak.growth(name)
    return f"| {name} | {first:.0f} | {last:.0f} |"


def plot(soak: Soak, path: Path) -> None:
    """Draw memory, connections and errors over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 1, figsize=(11, 8.5), sharex=True, layout="constrained")
    minutes = [sample.at / 60 for sample in soak.samples]
    _plot_memory(axes[0], soak.samples)
    axes[1].plot(minutes, [s.connections for s in soak.samples], label="connections of clients")
    axes[1].plot(minutes, [s.in_flight for s in soak.samples], label="requests in flight")
    axes[1].plot(minutes, [s.descriptors for s in soak.samples], label="open files of workers")
    axes[1].legend(fontsize=8)
    kinds = sorted({kind for sample in soak.samples for kind in sample.errors})
    heights = [[sample.errors.get(kind, 0) for sample in soak.samples] for kind in kinds]
    if kinds:
        axes[2].stackplot(minutes, *heights, labels=kinds, step="mid")
        axes[2].legend(fontsize=8)
    axes[2].set(xlabel="minutes", ylabel="failed requests per look")
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.set_ylim(bottom=0)
    figure.savefig(path, dpi=110)


def _plot_memory(axis: "Axes", samples: Sequence[Sample]) -> None:
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        for name, memory in sample.memory.items():
            lines[name].append((sample.at / 60, memory))
    for name, points in lines.items():
        axis.plot(*zip(*points, strict=True), label=name, lw=1.2)
    axis.set(ylabel="resident memory, MB")
    axis.legend(fontsize=7, ncols=4)
