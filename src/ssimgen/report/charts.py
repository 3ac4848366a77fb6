"""Line charts as inline SVG: text and lines take the colours of the page, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLES = 8  # colours in the style sheet; marks and dashes differ too, so that colour is not needed

_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 44


@dataclass(frozen=True)
class Point:
    """A point with the interval of its value, if there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """A line of a chart: its points, and the style of its colour, dashes and marks."""

    name: str
    points: tuple[Point, ...]
    style: int
    marks: bool = True


def line_chart(series: Sequence[Series], *, x_label: str, y_label: str, log: bool = False) -> str:
    """An SVG of lines; with `log`, a logarithmic vertical axis, which needs positive values.

    What the vertical axis shows is for the heading of the chart to say, and for those who do not see it.

    Raises:
        ValueError: no points.
    """
    points = [p for s in series for p in s.points]
    if not points:
        raise ValueError("a chart needs points")
    xs = _Axis([p.x for p in points], _LEFT, _WIDTH - _RIGHT)
    ends = [v for p in points for v in (p.y, p.low, p.high) if v is not None and (not log or v > 0)]
    ys = _Axis(ends, _HEIGHT - _BOTTOM, _TOP, log=log)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    caption = f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
    parts = [*_grid(xs, ys), caption]
    parts += [part for s in series for part in _line(s, xs, ys)]
    label = escape(f"{y_label} against {x_label}: {', '.join(s.name for s in series)}", quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers in [low, high], about `count` of them: multiples of 1, 2 or 5 times a power of ten."""
    if not low < high:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


class _Axis:
    """Values to places on the page."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool = False) -> None:
        self._to = math.log10 if log else float
        low, high = self._to(min(values)), self._to(max(values))
        margin = 0.04 * (high - low) or 0.5 * abs(high) or 1.0
        self._low, self._high = low - margin, high + margin
        self._start, self._end = start, end
        if log:
            self.ticks = _log_ticks(self._low, self._high)
        else:
            self.ticks = ticks(self._low, self._high)

    def __call__(self, value: float) -> float:
        share = (self._to(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)


def _log_ticks(low: float, high: float) -> list[float]:
    powers = [10.0**e for e in range(math.ceil(low), math.floor(high) + 1)]
    if len(powers) > 1:
        return powers
    return [10.0**e * m for e in range(math.floor(low), math.ceil(high) + 1) for m in (1, 2, 5)
            if low <= math.log10(10.0**e * m) <= high]  # fmt: skip


def _grid(xs: _Axis, ys: _Axis) -> list[str]:
    parts = []
    for value in ys.ticks:
        y = ys(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    bottom = _HEIGHT - _BOTTOM
    for value in xs.ticks:
        x = xs(value)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{_number(value)}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    return parts


def _line(series: Series, xs: _Axis, ys: _Axis) -> list[str]:
    places = [(xs(p.x), ys(p.y), p) for p in sorted(series.points, key=lambda p: p.x)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    parts = [f'<g class="s{series.style % STYLES}"><title>{escape(series.name)}</title>']
    if len(places) > 1:
        parts.append(f'<polyline points="{path}"{_dash(series.style)}/>')
    if series.marks:
        for x, y, p in places:
            if p.low is not None and p.high is not None:
                parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ys(p.low):.1f}" y2="{ys(p.high):.1f}"/>')
            parts.append(_mark(series.style, x, y))
    return [*parts, "</g>"]


def _dash(style: int) -> str:
    """Lines of a second round of colours are dashed, of a third dotted."""
    pattern = ("", "7 4", "2 3", "9 3 2 3")[style // STYLES % 4]
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def _mark(style: int, x: float, y: float) -> str:
    """One of four shapes, another one for each round of colours."""
    shape = (style + style // STYLES) % 4
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    corners = {
        1: ((-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)),
        2: ((0, -4.5), (4.5, 3.5), (-4.5, 3.5)),
        3: ((0, -5), (5, 0), (0, 5), (-5, 0)),
    }[shape]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}"/>'


def swatch(style: int) -> str:
    """The mark of a line, for a legend."""
    mark = _mark(style, 14, 7)
    return (
        f'<svg class="swatch" viewBox="0 0 28 14" aria-hidden="true"><g class="s{style % STYLES}">'
        f'<polyline points="0,7 28,7"{_dash(style)}/>{mark}</g></svg>'
    )


def _number(value: float) -> str:
    return f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0e}"
