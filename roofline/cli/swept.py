"""Lines and grids over the `--vary` of a chart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roofline.decoding.autoregressive import Autoregressive
from roofline.errors import InvalidSpecError, UnknownNameError, nearest
from roofline.plotting.lines import Line
from roofline.scenario import Scenario
from roofline.studies.axes import parse_axis
from roofline.studies.changes import apply, factor_of
from roofline.studies.sweep import sweep

__all__ = [
    "Grid",
    "axes_of",
    "axis_number",
    "column_grid",
    "device_counts",
    "gain_grid",
    "label_of",
    "lines_over",
    "ratio_grid",
    "scale_of",
    "value_text",
    "with_changes",
]


def axes_of(vary: Sequence[str] | None, count: int) -> dict[str, tuple[str | float, ...]]:
    """Return the values of that many axes by key; raise `InvalidSpecError` for another number of axes."""
    axes = dict(parse_axis(text) for text in vary or ())
    if len(axes) != count:
        raise InvalidSpecError(f"want {count} different --vary KEY=VALUES, got {len(axes)}")
    return axes


def value_text(value: str | float) -> str:
    """Return a value of an axis as it was written."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def axis_number(key: str, value: str | float) -> float:
    """Return a value of a numeric axis, or the factor it is; raise `InvalidSpecError` for any other."""
    number = value if isinstance(value, float) else factor_of(value)
    if number is None or number <= 0.0:
        raise InvalidSpecError(f"{key}: an axis wants numbers above 0 or factors such as x2, got {value!r}")
    return float(number)


def with_changes(scenario: Scenario, changes: Sequence[str]) -> Scenario:
    """Return the scenario after each ``KEY=VALUE`` of `--to`; raise `InvalidSpecError` for several values."""
    for text in changes:
        key, values = parse_axis(text)
        if len(values) != 1:
            raise InvalidSpecError(f"--to {text}: want one value")
        scenario = apply(scenario, key, values[0])
    return scenario


def lines_over(scenario: Scenario, vary: Sequence[str] | None, column: str) -> tuple[str, list[Line]]:
    """Return lines over the first axis, one per value of the second where there is one."""
    axes = axes_of(vary, 2 if vary and len(vary) > 1 else 1)
    key, *others = axes
    for value in axes[key]:
        axis_number(key, value)
    frame = sweep(scenario, {**{name: axes[name] for name in others}, key: axes[key]})
    frame[key] = frame[key].astype(float)
    stem = column.removesuffix("_s")
    _check_column(frame, column)
    groups = frame.groupby(others[0], sort=False, observed=True) if others else [("", frame)]
    names = [f"{name} {value_text(value)}" for name in others for value in axes[name]] or [""]
    found = []
    for name, (_, rows) in zip(names, groups, strict=True):
        rows = rows.sort_values(key)

        def of(wanted: str, rows: Any = rows) -> Any:
            return rows[wanted].to_numpy() if wanted in rows else None

        found.append(
            Line(
                name=name, x=of(key), y=of(column), low=of(f"{stem}_low_s"), high=of(f"{stem}_high_s"),
                ideal=of(f"{stem}_ideal_s"), hollow=~of("fits"),
            )
        )  # fmt: skip
    return key, found


def device_counts(scenario: Scenario, vary: Sequence[str] | None) -> list[float]:
    """Return how many devices each line of `lines_over` is about."""
    others = list(axes_of(vary, 2 if vary and len(vary) > 1 else 1).items())[1:]
    changed = [apply(scenario, key, value) for key, values in others for value in values] or [scenario]
    return [float(part.deployment.system.device_count) for part in changed]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """What a map shows over two axes.

    Parameters
    ----------
    values : array
        In SI units, or a ratio; nan where it does not fit.
    name : str
        Of the values in the data beside a chart.
    label : str
        Of the values in the chart, with the unit that `scale` takes them to.
    regions : array or None
        What binds at each point.
    break_even : float or None
        The value at which nothing is gained or lost.
    """

    values: NDArray[np.float64]
    name: str
    label: str
    scale: float = 1.0
    regions: NDArray[np.str_] | None = None
    break_even: float | None = None


def column_grid(scenario: Scenario, axes: Mapping[str, Any], column: str) -> Grid:
    """Return a column over two axes, and what binds."""
    values, bound = _grid_over(scenario, axes, column)
    return Grid(values=values, name=column, label=label_of(column), scale=scale_of(column), regions=bound)


def ratio_grid(scenario: Scenario, axes: Mapping[str, Any], column: str, changes: Sequence[str]) -> Grid:
    """Return a column after changes over the column before them, over two axes."""
    before, _ = _grid_over(scenario, axes, column)
    after, _ = _grid_over(with_changes(scenario, changes), axes, column)
    label = f"{column.removesuffix('_s')} after / before {', '.join(changes)}"
    return Grid(values=after / before, name=label, label=label, break_even=1.0)


def gain_grid(scenario: Scenario, axes: Mapping[str, Any]) -> Grid:
    """Return the speed-up of speculation over plain decoding, over two axes.

    Raises
    ------
    InvalidSpecError
        If the scenario does not speculate.
    """
    if scenario.decoding.kind != "speculative":
        raise InvalidSpecError("--gain: want --speculate and --accept")
    slow, _ = _grid_over(scenario.replace(decoding=Autoregressive()), axes, "tpot_s")
    fast, _ = _grid_over(scenario, axes, "tpot_s")
    label = "speed-up of speculation (x)"
    return Grid(values=slow / fast, name=label, label=label, break_even=1.0)


def _grid_over(
    scenario: Scenario, axes: Mapping[str, Any], column: str
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return values of a column and what binds, over two axes; nan where it does not fit."""
    frame = sweep(scenario, axes, intervals=False)
    _check_column(frame, column)
    keys = list(axes)
    frame = frame.astype(dict.fromkeys(keys, float)).sort_values(keys)
    shape = tuple(len(values) for values in axes.values())
    values = np.where(frame["fits"], frame[column], np.nan).reshape(shape)
    phase = "prefill" if column.startswith("ttft") else "decode"
    return values, frame[f"{phase}_bound"].astype(str).to_numpy().reshape(shape)


def _check_column(frame: Any, column: str) -> None:
    numbers = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    if column not in numbers:
        raise UnknownNameError(f"--show: no column is called {column!r}{nearest(column, numbers)}")


def label_of(column: str) -> str:
    """Return a column's name as an axis label with its unit."""
    if column.endswith("_tokens_per_s"):
        return f"{column.removesuffix('_tokens_per_s').replace('_', ' ')} throughput (token/s)"
    if column.endswith("_bytes"):
        return f"{column.removesuffix('_bytes').replace('_', ' ')} (GB)"
    return (
        f"{column.removesuffix('_s').replace('_', ' ').replace('tpot', 'TPOT').replace('ttft', 'TTFT')} (ms)"
    )


def scale_of(column: str) -> float:
    """Return units of the axis that `label_of` names, per unit of the column."""
    if column.endswith("_bytes"):
        return 1e-9
    return 1e3 if column.endswith("_s") and not column.endswith("_per_s") else 1.0
