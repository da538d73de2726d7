"""What happens, told line by line: on the terminal as it happens, and as a page at the end.

A chapter is one scenario. Each line has the seconds since its chapter began.
"""

import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import psutil

from tidegate.load.result import Result

HEAD = """\
# Real vLLM behind the gateway

Written by a run of {day} (`make demo-vllm`, or `make test-vllm PAGE=…`). vLLM 0.32.0 (its CPU
build) serves tiny Llamas of random weights with LoRA adapters; `tidegate up` starts, checks and
stops it through `ModelServer.command`. {cores} cores ({machine}) shared with other work,
{memory:.0f} GiB, {minutes:.0f} minutes. The times say nothing of GPUs; that nothing failed does.
"""


@dataclass(slots=True)
class Chapter:
    """One scenario."""

    title: str
    about: str
    begun: float
    lines: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Story:
    """All chapters of a run."""

    def __init__(self, *, aloud: bool) -> None:
        """Begin one; `aloud` prints each line."""
        self._aloud = aloud
        self._begun = time.perf_counter()
        self.chapters: list[Chapter] = []

    def chapter(self, title: str, about: str) -> None:
        """Begin a scenario."""
        self.chapters.append(Chapter(title, about, time.perf_counter()))
        self._print(f"\n== {title}\n   {about}")

    def say(self, text: str) -> None:
        """Tell what happened now."""
        chapter = self.chapters[-1]
        chapter.seconds = time.perf_counter() - chapter.begun
        chapter.lines.append(f"{chapter.seconds:6.1f} s  {text}")
        self._print(chapter.lines[-1])

    def count(self, results: Sequence[Result], what: str = "load") -> None:
        """Tell of requests: how many, how many failed, who answered, how fast."""
        pools = Counter(each.pool for each in results if not each.failed)
        failed = Counter(each.error for each in results if each.failed)
        by_pool = ", ".join(f"{name} {count}" for name, count in sorted(pools.items()))
        self.say(f"{what}: {len(results)} requests, {sum(failed.values())} failed; {by_pool}")
        if failed:
            self.say(f"  failed: {', '.join(f'{why} {n}' for why, n in sorted(failed.items()))}")
        if times := [each.ttft_s for each in results if each.ttft_s is not None and not each.error]:
            self.say(f"  time to first token: {_spread(times)}")

    def _print(self, text: str) -> None:
        if self._aloud:
            print(text, flush=True)

    def write(self, page: Path) -> None:
        """Write the page."""
        minutes = (time.perf_counter() - self._begun) / 60
        head = HEAD.format(
            day=time.strftime("%Y-%m-%d"),
            cores=psutil.cpu_count(),
            machine=platform.machine(),
            memory=psutil.virtual_memory().total / 2**30,
            minutes=minutes,
        )
        body = [
            f"\n## {each.title}\n\n{each.about}\n\n```\n" + "\n".join(each.lines) + "\n```"
            for each in self.chapters
            if each.lines
        ]
        page.write_text("\n".join([head, *body]) + "\n")


def _spread(times: Sequence[float]) -> str:
    if len(times) < 2:
        return f"{1000 * times[0]:.0f} ms"
    cuts = quantiles(times, n=20)
    return f"p50 {1000 * cuts[9]:.0f} ms, p95 {1000 * cuts[18]:.0f} ms"
