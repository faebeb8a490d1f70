"""Drawings of the gallery as SVG text: published points with ours over them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any, Final

from roofline.studies.claim_files import ClaimFile
from roofline.studies.reproduce import Found

__all__ = ["curves_of", "multiples_of"]

_OURS, _THEIRS, _IDEAL = "#0072b2", "#d55e00", "#555"
_SERIES: Final = ("#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555")
#: From the finest to the coarsest; the first that gives few enough is taken.
_TICKS: Final = ((1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 8.0), (1.0, 2.0, 5.0), (1.0,))
_MOST_TICKS: Final = 8


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A logarithmic axis from `start` to `end` pixels that holds every value."""

    low: float
    high: float
    start: float
    end: float

    @property
    def ticks(self) -> list[float]:
        for bases in _TICKS:
            every = (float(f"{base}e{power}") for power in range(-4, 8) for base in bases)
            inside = [tick for tick in every if self.low <= math.log(tick) <= self.high]
            if len(inside) <= _MOST_TICKS:
                break
        return inside

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (math.log(value) - self.low) / (self.high - self.low)


def _scale(values: Sequence[float], start: float, end: float) -> _Scale:
    low, high = math.log(min(values)), math.log(max(values))
    room = 0.05 + 0.05 * (high - low)
    return _Scale(low=low - room, high=high + room, start=start, end=end)


def _line(x: tuple[float, float], y: tuple[float, float], colour: str, width: float = 2.0) -> str:
    ends = f'x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _diamond(x: float, y: float) -> str:
    corners = f"{x:.1f},{y - 5:.1f} {x + 5:.1f},{y:.1f} {x:.1f},{y + 5:.1f} {x - 5:.1f},{y:.1f}"
    return f'<polygon points="{corners}" fill="{_THEIRS}"/>'


def _dot(x: float, y: float, colour: str = _OURS) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg role="img" aria-label="{escape(label, quote=True)}" {size}>{"".join(parts)}</svg>'


_ROW, _LEFT, _WIDTH, _MARGIN = 18.0, 360.0, 420.0, 20.0


def multiples_of(found: Sequence[Found]) -> str:
    """Return a drawing of every answered claim, empty where there are fewer than two.

    Each row is a published figure, a diamond at 1; our prediction, a dot with its interval, and the
    datasheet bound, a bar, are drawn as multiples of it on a logarithmic axis.
    """
    points = [one for one in found if one.predicted is not None and one.predicted > 0.0]
    if len(points) < 2:
        return ""
    height = _ROW * len(points) + 44.0
    values = [value for one in points for value in _multiples(one)]
    scale = _scale([0.7, 1.4, *values], _LEFT, _LEFT + _WIDTH)
    parts = []
    for tick in scale.ticks:
        parts.append(_line((scale.at(tick),) * 2, (6.0, height - 32.0), "#ddd", 1.0))
        parts.append(_text(scale.at(tick), height - 18.0, f"{tick:g} x", "middle"))
    for index, one in enumerate(points):
        y = 14.0 + _ROW * index
        ideal, ours, low, high = (scale.at(value) for value in _multiples(one))
        label = f"{one.claim.metric}: {one.claim.setting}"
        short = label if len(label) <= 58 else label[:57] + "…"
        marks = [
            _text(4.0, y + 4.0, short),
            _line((low, high), (y, y), _OURS),
            _line((ideal, ideal), (y - 6.0, y + 6.0), _IDEAL),
            _diamond(scale.at(1.0), y),
            _dot(ours, y),
        ]
        parts.append(f"<g><title>{escape(label)}</title>{''.join(marks)}</g>")
    legend = "diamond: published; dot and line: ours, 80 %; bar: ideal; as multiples of the published figure"
    parts.append(_text(4.0, height - 3.0, legend))
    return _svg(_LEFT + _WIDTH + _MARGIN, height, "published and ours", parts)


def _multiples(found: Found) -> tuple[float, float, float, float]:
    """Ideal, ours, low and high over the published figure nearest to ours."""
    if found.predicted is None or found.error is None:
        return (1.0, 1.0, 1.0, 1.0)
    base = found.predicted / (1.0 + found.error)
    values = (found.ideal, found.predicted, found.low, found.high)
    ideal, ours, low, high = (max((value or base) / base, 1e-3) for value in values)
    return ideal, ours, low, high


def curves_of(file: ClaimFile, found: Sequence[Found]) -> Iterator[str]:
    """Yield a drawing for each figure whose points lie along one number: batch, prompt ..."""
    charts: dict[tuple[str, str, str, str, str], list[Found]] = {}
    for one in found:
        claim = one.claim
        if one.predicted is not None and isinstance(claim.published, float) and claim.vary:
            key = (claim.metric, claim.unit, claim.at, str(claim.run), str(claim.part.get("layer", "")))
            charts.setdefault(key, []).append(one)
    for key, points in charts.items():
        for name in ("batch", "prompt"):
            series = _series(file, points, name)
            if series:
                yield _curves(f"{key[0]} [{key[1]}], {key[2]}", name, series)


_Point = tuple[float, float, float]  # where, published, ours


def _series(file: ClaimFile, points: Sequence[Found], name: str) -> Mapping[str, list[_Point]]:
    """Points by what else they vary; empty unless some series has three different ones."""
    series: dict[str, list[_Point]] = {}
    for one in points:
        settings: dict[str, Any] = {**file.runs[str(one.claim.run)].settings, **one.claim.vary}
        others = {key: value for key, value in one.claim.vary.items() if key not in ("set", name)}
        if name in settings and isinstance(one.claim.published, float) and one.predicted:
            label = ", ".join(f"{key} {value}" for key, value in others.items())
            series.setdefault(label, []).append((float(settings[name]), one.claim.published, one.predicted))
    longest = max((len({point[0] for point in line}) for line in series.values()), default=0)
    return {label: sorted(line) for label, line in series.items()} if longest >= 3 else {}


def _curves(title: str, name: str, series: Mapping[str, list[_Point]]) -> str:
    width, height = 460.0, 300.0
    points = [point for line in series.values() for point in line]
    across = _scale([point[0] for point in points], 56.0, width - 120.0)
    up = _scale([value for point in points for value in point[1:]], height - 44.0, 26.0)
    parts = [_text(56.0, 14.0, title), _text(across.end, height - 8.0, f"{name}; diamonds: published", "end")]
    for tick in across.ticks:
        parts.append(_line((across.at(tick),) * 2, (up.start, up.end), "#eee", 1.0))
        parts.append(_text(across.at(tick), up.start + 16.0, f"{tick:g}", "middle"))
    for tick in up.ticks:
        parts.append(_line((across.start, across.end), (up.at(tick),) * 2, "#eee", 1.0))
        parts.append(_text(across.start - 6.0, up.at(tick) + 4.0, f"{tick:g}", "end"))
    for index, (label, line) in enumerate(series.items()):
        colour = _SERIES[index % len(_SERIES)]
        spots = [(across.at(where), up.at(theirs), up.at(ours)) for where, theirs, ours in line]
        for before, after in pairwise(spots):
            parts.append(_line((before[0], after[0]), (before[2], after[2]), colour))
        for x, theirs, ours in spots:
            parts.append(_diamond(x, theirs))
            parts.append(_dot(x, ours, colour))
        parts.append(_dot(across.end + 12.0, up.end + 16.0 * index, colour))
        parts.append(_text(across.end + 20.0, up.end + 16.0 * index + 4.0, label or "as it is"))
    return _svg(width, height, title, parts)
