"""Lines over time as an SVG of its own ground, readable on a light page and on a dark one: one panel below another, on one clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import floor, log10
from typing import NamedTuple

WIDTH, LEFT, RIGHT, EDGE = 760, 64, 24, 20
TITLE, HEIGHT, GAP, AXIS = 52, 92, 40, 34
KINDS = ("first", "second", "third", "fourth")

STYLE = """\
svg { font: 13px system-ui, sans-serif; }
.ground { fill: #ffffff; stroke: #d0d7de; } text { fill: #1f2328; } .title { font-weight: 600; }
.tick, .told { fill: #59636e; font-size: 11px; } .grid { stroke: #d0d7de; } .mark { stroke: #d0d7de; stroke-dasharray: 2 3; }
path { fill: none; stroke-width: 1.5px; }
path.first { stroke: #0969da; } path.second { stroke: #cf222e; } path.third { stroke: #8c959f; } path.fourth { stroke: #9a6700; }
text.first { fill: #0969da; } text.second { fill: #cf222e; } text.third { fill: #6e7781; } text.fourth { fill: #9a6700; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; stroke: #3d444d; } text { fill: #f0f6fc; } .tick, .told { fill: #9198a1; } .grid, .mark { stroke: #3d444d; }
  path.first { stroke: #4493f8; } path.second { stroke: #f85149; } path.third { stroke: #7d8590; } path.fourth { stroke: #d29922; }
  text.first { fill: #4493f8; } text.second { fill: #f85149; } text.third { fill: #9198a1; } text.fourth { fill: #d29922; }
}"""


class Panel(NamedTuple):
    title: str
    lines: Mapping[str, Sequence[float]]
    """Their names and their values; a name of nothing needs no legend."""


def draw(told: str, seconds: Sequence[float], marks: Sequence[float], panels: Sequence[Panel]) -> str:
    """All panels from 0 upwards; `marks` are moments worth a line of their own."""
    height = TITLE + len(panels) * (HEIGHT + GAP) + AXIS
    last = max(seconds)

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / last

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(told)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
    ]
    for number, line in enumerate(_folded(told, 120)):
        lines.append(f'<text class="told" x="{EDGE}" y="{22 + 15 * number}">{escape(line)}</text>')
    bottom = TITLE
    for one in panels:
        top = bottom + GAP
        bottom = top + HEIGHT
        lines += [f'<path class="mark" d="M{x(mark):.1f} {top}V{bottom}"/>' for mark in marks]
        lines += _panel(one, top, [x(second) for second in seconds])
    step = _step(last)
    moment = 0.0
    while moment <= last:
        lines.append(
            f'<text class="tick" x="{x(moment):.1f}" y="{bottom + 18}" text-anchor="middle">{moment:g} s</text>'
        )
        moment += step
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(one: Panel, top: int, across: Sequence[float]) -> Iterator[str]:
    most = max((value for values in one.lines.values() for value in values), default=1.0) or 1.0
    step = _step(most)

    def y(value: float) -> float:
        return top + HEIGHT * (1 - value / most)

    level = 0.0
    while level <= most:
        yield f'<line class="grid" x1="{LEFT}" y1="{y(level):.1f}" x2="{WIDTH - RIGHT}" y2="{y(level):.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 8}" y="{y(level) + 4:.1f}" text-anchor="end">{level:,g}</text>'
        level += step
    yield f'<text class="title" x="{LEFT}" y="{top - 10}">{escape(one.title)}</text>'
    place = float(WIDTH - RIGHT)
    for kind, name in reversed([*zip(KINDS, one.lines, strict=False)]):
        if name:
            yield f'<text class="{kind}" x="{place:.0f}" y="{top - 10}" text-anchor="end">{escape(name)}</text>'
            place -= 8.0 * len(name) + 12
    for kind, values in zip(KINDS, one.lines.values(), strict=False):
        points = "L".join(f"{at:.1f} {y(value):.1f}" for at, value in zip(across, values, strict=True))
        yield f'<path class="{kind}" d="M{points}"/>'


def _step(most: float) -> float:
    """A round number, of which three to six make up the whole."""
    unit = 10.0 ** floor(log10(most))
    return next(step for step in (unit / 5, unit / 2, unit, 2 * unit, 5 * unit) if most / step < 6)


def _folded(text: str, width: int) -> list[str]:
    words, lines = text.split(" "), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
