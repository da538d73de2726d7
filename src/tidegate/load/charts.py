"""Charts as SVG: lines, dots, stacked areas and bars over one pair of axes.

A chart is a list of marks in the units of its data; `draw` finds the scales and renders them.
Colours are CSS classes (`c0` ... `c5`), so the page around decides what they look like.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10
from typing import Final

WIDTH: Final = 560
HEIGHT: Final = 220
LEFT: Final = 52
RIGHT: Final = 10
TOP: Final = 10
BOTTOM: Final = 30

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """Points, joined."""

    name: str
    points: Points
    colour: int = 0
    dashed: bool = False
    filled: bool = False
    """The area below it is filled."""


@dataclass(frozen=True, slots=True)
class Dots:
    """Points on their own, each with a text that is shown when it is pointed at."""

    name: str
    points: Points
    colour: int = 0


@dataclass(frozen=True, slots=True)
class Stack:
    """Areas or bars on top of each other: for each x the heights by name."""

    names: Sequence[str]
    xs: Sequence[float]
    heights: Sequence[Sequence[float]]
    """One row for each name."""
    bars: bool = False
    colour: int = 0
    """Of the first; the others follow."""


Mark = Line | Dots | Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What is drawn, and between what."""

    title: str
    note: str = ""
    marks: Sequence[Mark] = field(default_factory=list)
    y_format: Callable[[float], str] = lambda value: f"{value:g}"
    x_format: Callable[[float], str] = lambda value: f"{value:g} s"
    x_log: bool = False
    x_range: tuple[float, float] | None = None
    y_top: float | None = None
    """The highest value shown; what is above is drawn at the edge."""


class _Scales:
    """From data to pixels."""

    def __init__(self, chart: Chart) -> None:
        xs, ys = _extent(chart.marks)
        self.log = chart.x_log
        low, high = chart.x_range or (min(xs, default=0.0), max(xs, default=1.0))
        self.low, self.high = (low, high) if high > low else (low, low + 1)
        if self.log:
            self.low = max(self.low, self.high / 1e6)
        top = chart.y_top or max(ys, default=1.0)
        top = top if top > 1e-12 else 1.0
        self.y_step = _step(top)
        self.top = ceil(top / self.y_step - 1e-9) * self.y_step

    def x(self, value: float) -> float:
        if self.log:
            value = max(value, self.low)
            share = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = min(1.0, max(0.0, value / self.top))
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def x_ticks(self) -> list[float]:
        if self.log:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            ticks = [digit * 10.0**power for power in powers for digit in (1, 3)]
            return [tick for tick in ticks if self.low <= tick <= self.high]
        step = _step(self.high - self.low, 6)
        first = ceil(self.low / step)
        return [n * step for n in range(first, floor(self.high / step + 1e-9) + 1)]

    def y_ticks(self) -> list[float]:
        return [n * self.y_step for n in range(round(self.top / self.y_step) + 1)]


def draw(chart: Chart) -> str:
    """Return a chart as a `<figure>`."""
    scales = _Scales(chart)
    marks = "".join(_mark(one, scales) for one in chart.marks)
    note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
    return (
        f"<figure><figcaption><h2>{escape(chart.title)}</h2>{_legend(chart.marks)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        f"{_axes(chart, scales)}{marks}</svg>{note}</figure>"
    )


def _extent(marks: Sequence[Mark]) -> tuple[list[float], list[float]]:
    xs: list[float] = []
    ys: list[float] = []
    for one in marks:
        if isinstance(one, Stack):
            xs += one.xs
            ys += [sum(column) for column in zip(*one.heights, strict=True)]
        else:
            xs += [x for x, _ in one.points]
            ys += [y for _, y in one.points]
    return xs, ys


def _step(span: float, most: int = 4) -> float:
    """Return the round distance of ticks that cuts `span` into at most about `most` pieces."""
    rough = span / most
    power = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * 0.999)


def _axes(chart: Chart, scales: _Scales) -> str:
    parts = []
    for tick in scales.y_ticks():
        y = scales.y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
            f"{escape(chart.y_format(tick))}</text>"
        )
    below = [
        f'<text class="tick" x="{scales.x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" '
        f'text-anchor="middle">{escape(chart.x_format(tick))}</text>'
        for tick in scales.x_ticks()
    ]
    return "".join(parts + below)


def _mark(mark: Mark, scales: _Scales) -> str:
    match mark:
        case Line():
            return _line(mark, scales)
        case Dots():
            return _dots(mark, scales)
        case Stack():
            return (_bars if mark.bars else _areas)(mark, scales)


def _line(line: Line, scales: _Scales) -> str:
    if not line.points:
        return ""
    path = _path(line.points, scales)
    dashed = " dashed" if line.dashed else ""
    drawn = f'<path class="line c{line.colour}{dashed}" d="M{path}"/>'
    if line.filled:
        first, last = scales.x(line.points[0][0]), scales.x(line.points[-1][0])
        floor_y = scales.y(0)
        area = f"M{first:.1f},{floor_y:.1f}L{path}L{last:.1f},{floor_y:.1f}Z"
        return f'<path class="area faint c{line.colour}" d="{area}"/>{drawn}'
    return drawn


def _path(points: Points, scales: _Scales) -> str:
    return "L".join(f"{scales.x(x):.1f},{scales.y(y):.1f}" for x, y in points)


def _dots(dots: Dots, scales: _Scales) -> str:
    circles = "".join(
        f'<circle cx="{scales.x(x):.1f}" cy="{scales.y(y):.1f}" r="1.7"/>' for x, y in dots.points
    )
    return f'<g class="dots c{dots.colour}">{circles}</g>'


def _areas(stack: Stack, scales: _Scales) -> str:
    below = [0.0] * len(stack.xs)
    parts = []
    for n, row in enumerate(stack.heights):
        above = [low + high for low, high in zip(below, row, strict=True)]
        upper = _path(list(zip(stack.xs, above, strict=True)), scales)
        lower = _path(list(zip(stack.xs, below, strict=True))[::-1], scales)
        parts.append(
            f'<path class="area c{(stack.colour + n) % 6}" d="M{upper}L{lower}Z">'
            f"<title>{escape(stack.names[n])}</title></path>"
        )
        below = above
    return "".join(parts)


def _bars(stack: Stack, scales: _Scales) -> str:
    if not stack.xs:
        return ""
    width = max(1.0, (WIDTH - LEFT - RIGHT) / len(stack.xs) * 0.8)
    below = [0.0] * len(stack.xs)
    parts = []
    for n, row in enumerate(stack.heights):
        for i, height in enumerate(row):
            if height:
                x, y = scales.x(stack.xs[i]) - width / 2, scales.y(below[i] + height)
                parts.append(
                    f'<rect class="area c{(stack.colour + n) % 6}" x="{x:.1f}" y="{y:.1f}" '
                    f'width="{width:.1f}" height="{scales.y(below[i]) - y:.1f}">'
                    f"<title>{escape(stack.names[n])}: {height:g}</title></rect>"
                )
                below[i] += height
    return "".join(parts)


def _legend(marks: Sequence[Mark]) -> str:
    entries: list[tuple[str, int]] = []
    for one in marks:
        if isinstance(one, Stack):
            entries += [(name, (one.colour + n) % 6) for n, name in enumerate(one.names)]
        elif one.name:
            entries.append((one.name, one.colour))
    shown = "".join(
        f'<span class="c{colour}"><i></i>{escape(name)}</span>' for name, colour in entries
    )
    return f'<div class="legend">{shown}</div>' if shown else ""
