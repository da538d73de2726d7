"""The study's plots."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "picker"
mpl.rcParams["svg.fonttype"] = "none"
import matplotlib.pyplot as plt  # noqa: E402

from picking.verdicts import Score  # noqa: E402

ACCENT = "#0f766e"
GREYS = ("#334155", "#64748b", "#94a3b8", "#b6c2d1", "#d5dde6")
Scores = Mapping[str, Mapping[str, Score]]


def draw(scores: Scores, titles: Sequence[str], folder: Path) -> None:
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    ttfts = {c: {n: 1000 * s.ttft_p95 for n, s in some.items()} for c, some in scores.items()}
    _bars(ttfts, titles, "time to first token, p95, ms", folder / "picker-ttft.svg", log=True)
    goods = {c: {n: 100 * s.good for n, s in some.items()} for c, some in scores.items()}
    _bars(goods, titles, "met the objective, %", folder / "picker-good.svg", log=False)


def _bars(
    values: Mapping[str, Mapping[str, float]],
    titles: Sequence[str],
    label: str,
    path: Path,
    *,
    log: bool,
) -> None:
    names = list(next(iter(values.values())))
    figure, axes = plt.subplots(figsize=(9.5, 3.4))
    width = 0.84 / len(names)
    for index, name in enumerate(names):
        spots = [at + (index - len(names) / 2 + 0.5) * width for at in range(len(values))]
        colour = ACCENT if index == 0 else GREYS[(index - 1) % len(GREYS)]
        heights = [some[name] for some in values.values()]
        axes.bar(spots, heights, width * 0.92, label=name, color=colour)
    axes.set_xticks(range(len(values)), [fill(title, 14) for title in titles])
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylabel(label)
    if log:
        axes.set_yscale("log")
    axes.legend(frameon=False, ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, 1.17))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
