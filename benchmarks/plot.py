"""Lines on logarithmic axes, as an SVG that is readable on light and on dark ground."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 300, 62, 20, 40, 48

Scale = Callable[[float], float]
"""From a value to its place in the picture."""

_COLOURS = ("#2f7ed8", "#d9822b", "#3d9970")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.axis{stroke:#8c959f;fill:none}"
    ".grid{stroke:#8c959f;opacity:.25}.even{stroke:#8c959f;stroke-dasharray:4 4}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
)


@dataclass(frozen=True)
class Line:
    """Measured points: ``values[n]`` at ``counts[n]``."""

    name: str
    counts: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One pair of axes and its lines."""

    title: str
    across: str
    up: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel]) -> str:
    """Give a document with the panels side by side."""
    parts = [_panel(panel, number * WIDTH) for number, panel in enumerate(panels)]
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(panel: Panel, left: int) -> str:
    counts = [count for line in panel.lines for count in line.counts]
    values = [value for line in panel.lines for value in line.values]
    first_x, last_x = _decades(counts)
    first_y, last_y = _decades(values)

    def x(count: float) -> float:
        part = (math.log10(count) - first_x) / (last_x - first_x)
        return left + LEFT + part * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        part = (math.log10(value) - first_y) / (last_y - first_y)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    shapes = [
        _text(f'x="{left + LEFT}" y="20" font-weight="600"', panel.title),
        _text(
            f'x="{left + (LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 10}" text-anchor="middle"', panel.across
        ),
        _text(f'transform="translate({left + 14} {HEIGHT / 2}) rotate(-90)" text-anchor="middle"', panel.up),
    ]
    for decade in range(first_y, last_y + 1):
        at = y(10**decade)
        shapes.append(f'<path class="grid" d="M{x(10**first_x)} {at}H{x(10**last_x)}"/>')
        shapes.append(f'<text x="{left + LEFT - 6}" y="{at + 4}" text-anchor="end">{10**decade:,g}</text>')
    for decade in range(first_x, last_x + 1):
        at = x(10**decade)
        shapes.append(f'<path class="grid" d="M{at} {y(10**first_y)}V{y(10**last_y)}"/>')
        text = f'<text x="{at}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10**decade:,g}</text>'
        shapes.append(text)
    for number, line in enumerate(panel.lines):
        shapes.extend(_line(line, _COLOURS[number % len(_COLOURS)], x, y))
    return "\n".join(shapes)


def _line(line: Line, colour: str, x: Scale, y: Scale) -> list[str]:
    points = [(x(count), y(value)) for count, value in zip(line.counts, line.values, strict=True)]
    path = "L".join(f"{at:.1f} {height:.1f}" for at, height in points)
    even = line.values[0] * line.counts[-1] / line.counts[0]
    end_x, end_y = points[-1]
    return [
        f'<path class="even" d="M{points[0][0]:.1f} {points[0][1]:.1f}L{end_x:.1f} {y(even):.1f}"/>',
        f'<path d="M{path}" stroke="{colour}" stroke-width="2" fill="none"/>',
        *(f'<circle cx="{at:.1f}" cy="{height:.1f}" r="3.5" fill="{colour}"/>' for at, height in points),
        _text(f'x="{end_x - 6:.1f}" y="{end_y + 22:.1f}" text-anchor="end" style="fill:{colour}"', line.name),
    ]


def _text(attributes: str, text: str) -> str:
    return f"<text {attributes}>{escape(text)}</text>"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return first, max(last, first + 1)
