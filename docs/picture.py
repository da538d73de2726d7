"""Draw the README's picture from the demo's reports.

    tidegate demo --reports FOLDER && python docs/picture.py FOLDER

The first charts of two pages (a rollout that completes, one that is given back) side by side,
as one SVG with its colours written out.
"""

import re
import sys
from pathlib import Path
from typing import Final

OUT: Final = Path(__file__).parent / "img" / "rollout.svg"
PANELS: Final = (
    ("node", "New nodes: found as good, and completed"),
    ("base-model", "A bad base model: found to be slower, and given back"),
)
WIDTH, HEIGHT, TOP = 560, 220, 62
STYLE: Final = """
.grid{stroke:#e3e8ee}.tick{fill:#64748b;font-size:11px}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.dashed{stroke-dasharray:5 4}
.line.c0{stroke:#1f6feb}.line.c1{stroke:#e8833a}.line.c3{stroke:#8a5cd6}
.area.c0{fill:#1f6feb;fill-opacity:.14}.dots.c4{fill:#d6457e}
"""
LEGEND: Final = (
    ("#8a5cd6", "desired"),
    ("#1f6feb", "effective: allowed and set"),
    ("#e8833a", "observed: share of the requests"),
)


def chart(page: str) -> str:
    """Return what is inside a page's first chart."""
    found = re.search(r"<svg[^>]*>(.*?)</svg>", page, re.DOTALL)
    if found is None:
        raise SystemExit("the page has no chart")
    return found[1]


def picture(folder: Path) -> str:
    """Return the picture."""
    parts = []
    for number, (name, title) in enumerate(PANELS):
        x = 8 + number * (WIDTH + 16)
        inside = chart((folder / f"{name}.html").read_text(encoding="utf-8"))
        parts.append(
            f'<g transform="translate({x} {TOP})"><text x="52" y="-8" font-weight="600"'
            f' font-size="14" fill="#16222e">{title}</text>{inside}</g>'
        )
    x = 60
    for colour, text in LEGEND:
        parts.append(
            f'<rect x="{x}" y="14" width="11" height="11" rx="3" fill="{colour}"/>'
            f'<text x="{x + 17}" y="24" font-size="13" fill="#64748b">the canary\'s weight,'
            f" {text}</text>"
        )
        x += 200 + 6 * len(text)
    whole = 2 * WIDTH + 32
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {TOP + HEIGHT + 6}"'
        ' font-family="system-ui,sans-serif">'
        f'<style>{STYLE}</style><rect width="{whole}" height="{TOP + HEIGHT + 6}" rx="8"'
        f' fill="#fff"/>{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    OUT.write_text(picture(Path(sys.argv[1])), encoding="utf-8")
