"""The study's plots."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "judge"
mpl.rcParams["svg.fonttype"] = "none"
import matplotlib.pyplot as plt  # noqa: E402

Row = dict[str, Any]
INK, PALE, ACCENT, BAD = "#1f2937", "#cbd5e1", "#0f766e", "#b91c1c"


def draw(result: dict[str, Any], folder: Path) -> None:
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    _identical(result["rows"], folder / "judge-identical.svg")
    _harm(result["rows"], folder / "judge-harm.svg")
    _evidence(result["evidence"], folder / "judge-evidence.svg")


def _identical(rows: list[Row], path: Path) -> None:
    judges = list(dict.fromkeys(row["judge"] for row in rows))
    cases = [
        (r["name"], r["rate"]) for r in rows if r["judge"] == judges[1] and r["group"] == "A/A"
    ]
    found = {(r["judge"], r["name"], r["rate"]): r for r in rows if r["group"] == "A/A"}
    figure, axes = plt.subplots(figsize=(7.5, 3.2))
    width = 0.8 / len(judges)
    for index, judge in enumerate(judges):
        made = [(at, found.get((judge, *case))) for at, case in enumerate(cases)]
        shares = [100 * row["aborted"] / row["runs"] if row else 0 for _, row in made]
        spots = [at + (index - len(judges) / 2 + 0.5) * width for at, _ in made]
        colour = ACCENT if judge == "ours" else mpl.colormaps["Greys"](0.35 + 0.15 * index)
        axes.bar(spots, [max(each, 0.4) for each in shares], width * 0.9, label=judge, color=colour)
    axes.set_xticks(range(len(cases)), [f"{name}\n{rate:g}/s" for name, rate in cases])
    axes.set_ylabel("identical canaries aborted, %")
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    _save(figure, path)


def _harm(rows: list[Row], path: Path) -> None:
    ours = [r for r in rows if r["judge"] == "ours" and r["group"] == "harm" and r["rate"] == 4]
    shown = [row for row in ours if row["aborted"] > row["runs"] / 2]
    shown.sort(key=lambda row: -row["exposed"])
    figure, axes = plt.subplots(figsize=(7.5, 0.3 * len(shown) + 1))
    axes.barh([row["name"] for row in shown], [row["exposed"] for row in shown], color=ACCENT)
    for at, row in enumerate(shown):
        minutes = row["minutes"]
        took = f"{minutes:.0f} min" if minutes >= 2 else f"{60 * minutes:.0f} s"
        told = f" {row['exposed']:,.0f} in {took}"
        axes.text(row["exposed"], at, told, va="center", color=INK)
    axes.set_xscale("log")
    axes.set_xlim(1, max(row["exposed"] for row in shown) * 8)
    axes.set_xlabel("requests of the canary until the abort, at 4 requests/s (median)")
    _save(figure, path)


def _evidence(traces: dict[str, Any], path: Path) -> None:
    """Draw how evidence grows in two rollouts: the picture of docs/judge.md."""
    figure, axes = plt.subplots(figsize=(7.5, 3.0))
    bar = traces["bar_pass"]
    for name, colour, label in (
        ("equal", ACCENT, "for a pass, canary like the stable"),
        ("worse", BAD, "for a fail, canary 1.3 times slower"),
    ):
        trace = traces[name]
        axes.step(trace["minutes"], trace["evidence"], where="post", color=colour, label=label)
        axes.axhline(traces[f"bar_{'pass' if name == 'equal' else 'fail'}"], color=colour, ls=":")
    axes.axhline(0, color=PALE, lw=0.8)
    axes.set_xlabel("minutes at 10 % of 4 requests/s")
    axes.set_ylabel("log10 of evidence")
    axes.set_xlim(0, 42)
    axes.set_ylim(-1, 5)
    axes.text(0.5, bar + 0.08, "20: passes", color=ACCENT)
    fail = traces["bar_fail"]
    axes.text(0.5, fail + 0.08, f"{10**fail:.0f}: fails", color=BAD)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.12, 1.0))
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
