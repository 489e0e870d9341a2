"""Panels in a grid on one scale and one clock, as an SVG of its own ground: what was sent stacked up, what was answered a line across it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from plot import _step

WIDTH, LEFT, RIGHT, EDGE, BETWEEN = 760, 58, 26, 20, 36
TOP, TITLE, HEIGHT, GAP, AXIS = 78, 24, 116, 16, 18
CLOCK = 20
"""Seconds between two marks on the clock."""

STYLE = """\
svg { font: 13px system-ui, sans-serif; }
.ground { fill: #ffffff; stroke: #d0d7de; } text { fill: #1f2328; } .title { font-weight: 600; }
.tick { fill: #59636e; font-size: 11px; } .grid { stroke: #d0d7de; } .down { fill: #eaeef2; }
.first { fill: #80ccff; } .again { fill: #e16f24; }
.answered { fill: none; stroke: #1f2328; stroke-width: 1.5px; } .most { stroke: #1f2328; stroke-dasharray: 3 3; fill: none; }
@media (prefers-color-scheme: dark) {
  .ground { fill: #0d1117; stroke: #3d444d; } text { fill: #f0f6fc; } .tick { fill: #9198a1; } .grid { stroke: #3d444d; }
  .down { fill: #212830; } .first { fill: #1f6feb; } .again { fill: #db6d28; } .answered { stroke: #f0f6fc; } .most { stroke: #f0f6fc; }
}"""


class Panel(NamedTuple):
    title: str
    first: Sequence[float]
    again: Sequence[float]
    answered: Sequence[float]


def draw(
    title: str,
    told: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Panel]],
    *,
    down: tuple[float, float],
    most: float,
) -> str:
    """All panels, each second a step; `down` is shaded, `most` a dashed line. `told` says in words what is to be seen."""
    height = TOP + len(rows) * (TITLE + HEIGHT + GAP) + AXIS
    wide = (WIDTH - LEFT - RIGHT - BETWEEN * (len(columns) - 1)) / len(columns)
    everything = [panel for row in rows for panel in row]
    seconds = max(len(panel.first) for panel in everything)
    top = max(first + again for panel in everything for first, again in zip(panel.first, panel.again, strict=True))
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
            ' aria-labelledby="title told">'
        ),
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="told">{escape(told)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="title" x="{EDGE}" y="26">{escape(title)}</text>',
        *_legend(46),
    ]
    for number, row in enumerate(rows):
        above = TOP + number * (TITLE + HEIGHT + GAP) + TITLE
        for place, panel in enumerate(row):
            left = LEFT + place * (wide + BETWEEN)
            frame = _Frame(left, above, wide, seconds, top * 1.02)
            lines += frame.draw(panel, down, most, levels=not place)
            if not number:
                lines.append(f'<text class="tick" x="{left:.0f}" y="{above - 27}">{escape(columns[place])}:</text>')
    bottom = height - AXIS + 2
    for place in range(len(columns)):
        left = LEFT + place * (wide + BETWEEN)
        for tick in range(0, seconds + 1, CLOCK):
            x = left + wide * tick / seconds
            lines.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom}" text-anchor="middle">{tick}{" s" if tick else ""}</text>'
            )
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Frame(NamedTuple):
    left: float
    above: float
    wide: float
    seconds: int
    top: float

    def x(self, second: float) -> float:
        return self.left + self.wide * second / self.seconds

    def y(self, value: float) -> float:
        return self.above + HEIGHT * (1 - value / self.top)

    def draw(self, panel: Panel, down: tuple[float, float], most: float, *, levels: bool) -> Iterator[str]:
        yield f'<text class="title" x="{self.left:.0f}" y="{self.above - 9}">{escape(panel.title)}</text>'
        since, until = down
        yield (
            f'<rect class="down" x="{self.x(since):.1f}" y="{self.above}" width="{self.x(until) - self.x(since):.1f}"'
            f' height="{HEIGHT}"/>'
        )
        step, level = _step(self.top), 0.0
        while level <= self.top:
            at = self.y(level)
            yield f'<line class="grid" x1="{self.left:.1f}" y1="{at:.1f}" x2="{self.left + self.wide:.1f}" y2="{at:.1f}"/>'
            if levels:
                yield f'<text class="tick" x="{self.left - 8:.0f}" y="{at + 4:.1f}" text-anchor="end">{thousands(level)}</text>'
            level += step
        sent = [first + again for first, again in zip(panel.first, panel.again, strict=True)]
        nothing = [0.0] * len(sent)
        for kind, upper, lower in (("first", panel.first, nothing), ("again", sent, panel.first)):
            yield f'<path class="{kind}" d="M{self.steps(upper)}L{self.steps(lower, back=True)}Z"/>'
        at = self.y(most)
        yield f'<path class="most" d="M{self.left:.1f} {at:.1f}H{self.left + self.wide:.1f}"/>'
        yield f'<path class="answered" d="M{self.steps(panel.answered)}"/>'

    def steps(self, values: Sequence[float], *, back: bool = False) -> str:
        """Each value from the beginning of its second to its end."""
        corners = [
            f"{self.x(second + edge):.1f} {self.y(value):.1f}" for second, value in enumerate(values) for edge in (0, 1)
        ]
        return "L".join(reversed(corners) if back else corners)


def thousands(number: float) -> str:
    return f"{number / 1000:,g}k" if number else "0"


def _legend(y: float) -> Iterator[str]:
    x = float(EDGE)
    for kind, name in (
        ("first", "first attempts"),
        ("again", "retries"),
        ("answered", "calls answered"),
        ("most", "what the service can do"),
        ("down", "it is down"),
    ):
        if kind in {"answered", "most"}:
            yield f'<path class="{kind}" d="M{x} {y - 4}h20"/>'
        else:
            yield f'<rect class="{kind}" x="{x}" y="{y - 10}" width="20" height="12" rx="2"/>'
        yield f'<text class="tick" x="{x + 26}" y="{y}">{escape(name)}</text>'
        x += 26 + 5.6 * len(name) + 20
