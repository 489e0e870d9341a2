"""Bars on a logarithmic scale as an SVG of its own ground, readable on a light page and on a dark one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import ceil, log10

Bar = tuple[str, float, str]
"""Its label, its value, and its kind: what it is coloured by."""

WIDTH, LEFT, RIGHT, EDGE = 760, 120, 70, 20
TITLE, ROW, BAR, AXIS = 44, 26, 16, 34

STYLE = """\
svg { font: 13px system-ui, sans-serif; }
.ground { fill: #ffffff; stroke: #d0d7de; } .title { font-weight: 600; font-size: 14px; }
text { fill: #1f2328; } .value { paint-order: stroke; stroke: #ffffff; stroke-width: 4px; } .tick { fill: #59636e; font-size: 11px; } .line { stroke: #d0d7de; }
.ours { fill: #0969da; } .peer { fill: #8c959f; } .floor { fill: #c9d1d9; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; stroke: #3d444d; }
  text { fill: #f0f6fc; } .value { stroke: #0d1117; } .tick { fill: #9198a1; } .line { stroke: #3d444d; }
  .ours { fill: #4493f8; } .peer { fill: #7d8590; } .floor { fill: #454c56; }
}"""


def draw(panels: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """One picture of all panels, on one scale, so that they compare."""
    most = ceil(log10(max((value for _, bars in panels for _, value, _ in bars), default=10)))
    height = sum(TITLE + ROW * len(bars) + AXIS for _, bars in panels)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape('; '.join(title for title, _ in panels))}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
    ]
    top = 0
    for title, bars in panels:
        lines += panel(title, bars, top, most)
        top += TITLE + ROW * len(bars) + AXIS
    return "\n".join([*lines, "</svg>"]) + "\n"


def panel(title: str, bars: Sequence[Bar], top: int, most: int) -> Iterator[str]:
    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * max(0.0, log10(value)) / most

    yield f'<text class="title" x="{EDGE}" y="{top + 28}">{escape(title)}</text>'
    first, last = top + TITLE, top + TITLE + ROW * len(bars)
    for power in range(most + 1):
        at = x(10**power)
        yield f'<line class="line" x1="{at:.1f}" y1="{first}" x2="{at:.1f}" y2="{last}"/>'
        yield f'<text class="tick" x="{at:.1f}" y="{last + 16}" text-anchor="middle">{10**power:,}</text>'
    for number, (label, value, kind) in enumerate(bars):
        y = first + ROW * number + (ROW - BAR) / 2
        yield f'<text x="{LEFT - 8}" y="{y + 12.5:.1f}" text-anchor="end">{escape(label)}</text>'
        yield f'<rect class="{escape(kind)}" x="{LEFT}" y="{y:.1f}" width="{x(value) - LEFT:.1f}" height="{BAR}" rx="2"/>'
        yield f'<text class="value" x="{x(value) + 6:.1f}" y="{y + 12.5:.1f}">{value:,.1f}</text>'
