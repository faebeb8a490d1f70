"""The roofline chart: ceilings, and operators and phases under them, drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from roofline.plotting.figure import BOUND_STYLE, figure_of
from roofline.plotting.labels import merge_near, place_labels
from roofline.plotting.roofs import Point, Roofs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_roofline"]

_LINES: Final = ("-", "--", "-.", ":")
#: Operators below this share of their phase's time are drawn, not named.
_NAMED: Final = 0.02
_SMALLEST, _LARGEST = 3.0, 11.0
#: Places along a ceiling that labels keep clear of, and names of points at one place.
_ALONG, _TOGETHER = 60, 3
#: How far the chart reaches left of everything, for the names of bandwidths.
_ROOM_LEFT: Final = 12.0


def draw_roofline(roofs: Roofs, ax: "Axes", *, names: bool = True) -> "Axes":
    """Draw ceilings, and points sized by their share of time; what binds sets shape and colour.

    Parameters
    ----------
    roofs : Roofs
    names : bool
        Whether points are named; where they crowd, those that take least time go without.

    Notes
    -----
    Operators stand at the predicted rate, decode lighter than prefill; a thin line leads up to the
    datasheet bound. Phases are large and hollow; measured rates are black crosses.
    """
    _limits(roofs, ax)
    lines = _ceilings(roofs, ax)
    for point in roofs.points:
        _draw_point(point, ax)
    _legend(roofs, ax)
    figure_of(ax).draw_without_rendering()
    _name_slopes(roofs, ax)
    if names:
        _name(roofs, ax, lines)
    return ax


def _limits(roofs: Roofs, ax: "Axes") -> None:
    intensities = [point.intensity for point in roofs.points]
    peaks = [part.flops_per_s for part in roofs.ceilings if part.flops_per_s]
    slopes = [part.bytes_per_s for part in roofs.ceilings if part.bytes_per_s]
    ridges = [peak / slope for peak in peaks for slope in slopes]
    low, high = min((*intensities, *ridges)) / _ROOM_LEFT, max((*intensities, *ridges)) * 6.0
    rates = [point.flops_per_s for point in roofs.points]
    rates += [point.measured_flops_per_s for point in roofs.points if point.measured_flops_per_s]
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(min(rates) / 4.0, max((*peaks, *rates)) * 8.0))
    ax.set(xlabel="operational intensity (FLOP/B)", ylabel="performance (FLOP/s)")


def _ceilings(roofs: Roofs, ax: "Axes") -> list[tuple[float, float]]:
    """Draw the ceilings and name the flat ones; return points along all of them."""
    low, high = ax.get_xlim()
    slopes = [part for part in roofs.ceilings if part.bytes_per_s]
    peaks = [part for part in roofs.ceilings if part.flops_per_s]
    top = max(part.flops_per_s or 0.0 for part in peaks) if peaks else ax.get_ylim()[1]
    fastest = max((part.bytes_per_s or 0.0 for part in slopes), default=1.0)
    along: list[tuple[float, float]] = []
    for part, line in zip(slopes, _LINES * len(slopes), strict=False):
        rate = part.bytes_per_s or 1.0
        ax.plot([low, top / rate], [low * rate, top], color="0.25", linestyle=line, linewidth=1.0, zorder=1)
        along += [(x, x * rate) for x in np.geomspace(low, top / rate, _ALONG)]
    for part, line in zip(peaks, _LINES * len(peaks), strict=False):
        rate = part.flops_per_s or 1.0
        ax.plot([rate / fastest, high], [rate, rate], color="0.25", linestyle=line, linewidth=1.0, zorder=1)
        ax.annotate(
            f"{part.name} {_si(rate)}FLOP/s", (rate / fastest, rate), xytext=(-3.0, 0.0),
            textcoords="offset points", ha="right", va="center", fontsize=6.0, color="0.25",
        )  # fmt: skip
        along += [(x, rate) for x in np.geomspace(rate / fastest, high, _ALONG)]
    return along


def _name_slopes(roofs: Roofs, ax: "Axes") -> None:
    """Write bandwidths along their lines, whose angle on paper stands once the layout does."""
    low, bottom = ax.get_xlim()[0], ax.get_ylim()[0]
    start, end = (np.asarray(ax.transData.transform((low * f, bottom * f))) for f in (1.0, 10.0))
    angle = float(np.degrees(np.arctan2(*(end - start)[::-1])))
    top = max((part.flops_per_s or 0.0 for part in roofs.ceilings), default=0.0) or ax.get_ylim()[1]
    slopes = [part for part in roofs.ceilings if part.bytes_per_s is not None]
    for part in slopes:
        rate = part.bytes_per_s or 1.0
        # Far tiers are named at the upper end: what is bound by them lies along the lower one.
        near = part is slopes[0]
        x = max(low * 1.3, bottom * 1.6 / rate) if near else 0.8 * top / rate
        ax.annotate(
            f"{part.name} {_si(rate)}B/s", (x, x * rate), xytext=(-2.0, 3.0) if near else (2.0, -2.0),
            textcoords="offset points", rotation=angle, rotation_mode="anchor", fontsize=6.0,
            color="0.25", ha="left" if near else "right", va="baseline" if near else "top",
        )  # fmt: skip


def _si(value: float) -> str:
    for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value:.3g} "


def _size(point: Point) -> float:
    """Diameter of a marker [pt], its area in step with the share of time."""
    return float(max(_SMALLEST, _LARGEST * np.sqrt(min(point.share, 1.0))))


def _draw_point(point: Point, ax: "Axes") -> None:
    marker, colour, _ = BOUND_STYLE[point.bound]
    if point.whole:
        ax.plot(point.intensity, point.flops_per_s, marker=marker, markersize=_LARGEST, linestyle="",
                markerfacecolor="none", markeredgecolor=colour, markeredgewidth=1.4, zorder=4)  # fmt: skip
        return
    ax.plot(
        [point.intensity] * 2, [point.flops_per_s, point.ideal_flops_per_s],
        color=colour, linestyle="-", linewidth=0.5, zorder=2,
    )  # fmt: skip
    ax.plot(
        point.intensity, point.flops_per_s, marker=marker, markersize=_size(point), linestyle="",
        markerfacecolor=colour if point.phase == "prefill" else _lighter(colour), markeredgecolor="black",
        markeredgewidth=0.4, zorder=3,
    )  # fmt: skip
    if point.measured_flops_per_s is not None:
        ax.plot(point.intensity, point.measured_flops_per_s, marker="x", color="black", markersize=5,
                linestyle="", zorder=5)  # fmt: skip


def _lighter(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    red, green, blue = (0.45 + 0.55 * part for part in to_rgb(colour))
    return red, green, blue


def _legend(roofs: Roofs, ax: "Axes") -> None:
    from matplotlib.lines import Line2D

    handles = []
    for bound in dict.fromkeys(point.bound for point in roofs.points):
        marker, colour, _ = BOUND_STYLE[bound]
        handles.append(
            Line2D([], [], linestyle="", marker=marker, color=colour, markersize=4, label=f"{bound}-bound")
        )
    if any(point.whole for point in roofs.points):
        handles.append(
            Line2D([], [], linestyle="", marker="o", markerfacecolor="none", color="0.3", label="whole phase")
        )
    if any(point.measured_flops_per_s is not None for point in roofs.points):
        handles.append(Line2D([], [], linestyle="", marker="x", color="black", label="measured"))
    ax.legend(handles=handles, loc="lower right", handletextpad=0.2, fontsize=6.5)  # fmt: skip


def _name(roofs: Roofs, ax: "Axes", lines: Sequence[tuple[float, float]]) -> None:
    avoid = [
        (point.intensity, point.flops_per_s, _LARGEST if point.whole else _size(point))
        for point in roofs.points
    ]
    avoid += [(x, y, 1.0) for x, y in lines]
    wholes = [point for point in roofs.points if point.whole]
    parts = [point for point in roofs.points if not point.whole and point.share >= _NAMED]
    parts.sort(key=lambda point: -point.share)
    merged, labels = merge_near(
        ax,
        [(point.intensity, point.flops_per_s) for point in parts],
        [_short(point) for point in parts],
        most=_TOGETHER,
    )
    places = [(point.intensity, point.flops_per_s) for point in wholes]
    place_labels(
        ax,
        [*merged, *places],
        [*labels, *((point.name.upper() if point.name == point.phase else point.name) for point in wholes)],
        avoid=avoid,
    )


def _short(point: Point) -> str:
    """The operator's own name; all norms are one."""
    return "norm" if "norm" in point.name else point.name.rpartition(".")[2].replace("_", " ")
