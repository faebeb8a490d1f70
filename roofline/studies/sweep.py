"""Sweeps: a scenario over a grid of what may change in it, as a tidy table.

Every number goes through the same `analyze` as a single point. Numeric axes lie on trailing array
dimensions and are evaluated in blocks; keys that change structure are looped over outside.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze, analyze_decode
from roofline.dotted_path import replace_at
from roofline.errors import InvalidSpecError, optional
from roofline.quantity import Quantity, total
from roofline.report import Interval, PhaseReport
from roofline.scenario import Scenario
from roofline.studies.changes import apply, factor_of, figures_of, is_numeric
from roofline.timing.pass_time import BOUNDS, MemoryUse
from roofline.workload_settings import refuse_beyond_context

__all__ = ["POINTS", "Phases", "columns_of", "sweep", "sweep_blocks", "to_xarray"]

Phases = Literal["both", "decode"]

#: Points of one evaluation at most: 256 KiB an array. Half of it costs 1.3 times the time a point, for
#: what every evaluation costs; twice it saves 1.2 times, for twice the memory (benchmarks/speed.py).
POINTS: Final = 32_768

#: Numbers in one array of an evaluation at most, axes of our own included.
_ELEMENTS: Final = 2**17

#: Numbers of an array that is asked for once and freed untouched. glibc then keeps freed blocks up to
#: that size instead of returning their pages after every operation, 3 times the time (mallopt(3)).
_WARMED: Final = 3 * 2**20

_DECODE: Final = (
    "tpot_s", "tpot_low_s", "tpot_high_s", "tpot_ideal_s", "decode_tokens_per_s", "decode_bound",
)  # fmt: skip
_BOTH: Final = (
    "ttft_s", "ttft_low_s", "ttft_high_s", "ttft_ideal_s", "prefill_bound", *_DECODE,
    "output_tokens_per_s",
)  # fmt: skip
_MEMORY: Final = ("memory_bytes", "fits")
_BOUND_COLUMNS: Final = ("prefill_bound", "decode_bound")


def columns_of(phases: Phases = "both") -> tuple[str, ...]:
    """Return the columns a sweep has besides its axes."""
    return (*(_BOTH if phases == "both" else _DECODE), *_MEMORY)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grid:
    """The axes of a sweep, apart by what they do."""

    structural: Mapping[str, tuple[Any, ...]]
    numeric: Mapping[str, tuple[Any, ...]]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(values) for values in (*self.structural.values(), *self.numeric.values()))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    """Results of one evaluation: where they belong in the grid, and arrays that broadcast to it."""

    where: tuple[slice, ...]
    axes: Mapping[str, Any]
    results: Mapping[str, Quantity]


def sweep(
    scenario: Scenario,
    axes: Mapping[str, Iterable[Any]],
    *,
    phases: Phases = "both",
    intervals: bool = True,
    columns: Sequence[str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Any:
    """Return a pandas DataFrame with one row per point of a grid.

    Parameters
    ----------
    scenario : Scenario
        What the axes change.
    axes : mapping of str to iterable
        Values by key; keys are those of `what_if`: fields of `Settings`, aliases, dotted paths.
    phases : str
        ``decode`` leaves out the prefill and everything that depends on it.
    intervals : bool
        Whether low and high are worked out; otherwise both equal the value.
    columns : sequence of str, optional
        Only these of `columns_of`, for large grids.
    progress : callable, optional
        Called with the share that is done, 0..1.

    Returns
    -------
    pandas.DataFrame
        Axes first: numbers as floats in SI units, factors such as ``"x2"`` as floats, names as
        categories. Then times [s], rates [token/s], memory of one device [B], whether it fits, and
        what binds each phase. Rows in the order of the axes, those that change structure first.

    Raises
    ------
    RooflineError
        If a key, value or column does not exist.
    MissingDependencyError
        If pandas is not installed.
    """
    with optional("a sweep's table", extra="sweep"):
        import pandas
    grid = _grid(scenario, axes)
    wanted = _wanted(phases, columns)
    size = math.prod(grid.shape)
    tables = {name: np.empty(grid.shape, dtype=_type_of(name)) for name in wanted}
    labels: dict[str, NDArray[Any]] = {}
    done = 0
    for block in _blocks(scenario, grid, phases, intervals, wanted):
        for name in wanted:
            tables[name][block.where] = block.results[name]
        for name, values in block.axes.items():
            held = labels.setdefault(name, np.empty(grid.shape, dtype=_axis_type(grid, name)))
            held[block.where] = values
        done += math.prod(part.stop - part.start for part in block.where)
        if progress is not None:
            progress(done / size)
    frame: dict[str, Any] = {}
    for name in axes:
        if name in grid.numeric:
            frame[name] = labels[name].reshape(-1)
        else:
            names = [str(value) for value in grid.structural[name]]
            frame[name] = pandas.Categorical(
                np.asarray(names)[labels[name].reshape(-1)], list(dict.fromkeys(names))
            )
    for name in wanted:
        values = tables[name].reshape(-1)
        frame[name] = (
            pandas.Categorical.from_codes(values, pandas.Index(BOUNDS)) if name in _BOUND_COLUMNS else values
        )
    return pandas.DataFrame(frame, copy=False)


def sweep_blocks(
    scenario: Scenario,
    axes: Mapping[str, Iterable[Any]],
    *,
    phases: Phases = "both",
    intervals: bool = True,
    columns: Sequence[str] | None = None,
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the rows of a sweep as blocks of columns, in bounded memory.

    Parameters are those of `sweep`, with which a block's columns agree. One numeric axis may be an
    iterator that never ends: it is then the slowest one, and values are taken as they are needed.

    Raises
    ------
    RooflineError
        As `sweep`; also if two axes have no end.
    """
    wanted = _wanted(phases, columns)
    endless = [key for key, values in axes.items() if not _has_length(values)]
    if len(endless) > 1:
        raise InvalidSpecError(f"only one axis may be endless, got {' and '.join(endless)}")
    for part in _parts(axes, endless):
        grid = _grid(scenario, part)
        for block in _blocks(scenario, grid, phases, intervals, wanted):
            shape = tuple(piece.stop - piece.start for piece in block.where)
            names = {
                key: np.asarray([str(value) for value in grid.structural[key]]) for key in grid.structural
            }
            flat = {
                key: np.broadcast_to(names[key][value] if key in names else value, shape).reshape(-1)
                for key, value in block.axes.items()
            }
            for name in wanted:
                values = np.broadcast_to(np.asarray(block.results[name]), shape).reshape(-1)
                values = values.astype(_type_of(name))
                flat[name] = np.asarray(BOUNDS)[values] if name in _BOUND_COLUMNS else values
            yield {key: flat[key] for key in (*part, *wanted)}


def to_xarray(frame: Any, axes: Iterable[str]) -> Any:
    """Return a sweep's table as an `xarray.Dataset` with the axes as dimensions.

    Raises
    ------
    MissingDependencyError
        If xarray is not installed.
    """
    with optional("a table with labelled dimensions", extra="sweep"):
        import xarray
    return xarray.Dataset.from_dataframe(frame.set_index(list(axes)))


def _has_length(values: Iterable[Any]) -> bool:
    return hasattr(values, "__len__")


def _parts(axes: Mapping[str, Iterable[Any]], endless: list[str]) -> Iterator[Mapping[str, Iterable[Any]]]:
    """The sweep itself, or one sweep for each run of values of an endless axis."""
    if not endless:
        yield axes
        return
    key = endless[0]
    others = math.prod(len(tuple(values)) for name, values in axes.items() if name != key)
    source = iter(axes[key])
    while taken := tuple(itertools.islice(source, max(1, POINTS // max(1, others)))):
        yield {**axes, key: taken}


def _wanted(phases: Phases, columns: Sequence[str] | None) -> tuple[str, ...]:
    known = columns_of(phases)
    for name in columns or ():
        if name not in known:
            raise InvalidSpecError(f"no column {name!r} in a sweep of {phases}; there are {', '.join(known)}")
    return known if columns is None else tuple(columns)


def _grid(scenario: Scenario, axes: Mapping[str, Iterable[Any]]) -> _Grid:
    structural: dict[str, tuple[Any, ...]] = {}
    numeric: dict[str, tuple[Any, ...]] = {}
    for key, values in axes.items():
        found = tuple(values)
        if not found:
            raise InvalidSpecError(f"{key}: want at least one value")
        (numeric if is_numeric(scenario, key) else structural)[key] = found
    return _Grid(structural=structural, numeric=numeric)


def _blocks(
    scenario: Scenario, grid: _Grid, phases: Phases, intervals: bool, wanted: tuple[str, ...]
) -> Iterator[_Block]:
    """Evaluate a grid: structure by structure, and each in blocks of its numeric axes."""
    np.empty(_WARMED)
    for chosen in itertools.product(*(range(len(values)) for values in grid.structural.values())):
        changed = scenario
        for (key, values), index in zip(grid.structural.items(), chosen, strict=True):
            changed = apply(changed, key, values[index])
        labels: dict[str, Any] = dict(zip(grid.structural, chosen, strict=True))
        outer = tuple(slice(index, index + 1) for index in chosen)
        figures = {key: _figures(changed, key, values) for key, values in grid.numeric.items()}
        for inner in _slices(changed, grid, intervals):
            placed, varied = _placed(changed, figures, inner)
            yield _Block(
                where=(*outer, *inner),
                axes={**labels, **varied},
                results=_evaluate(placed, len(inner), phases, intervals, wanted),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Figures:
    """One numeric axis: what its column shows, and the figures it sets by full path."""

    shown: NDArray[np.float64]
    by_path: Mapping[str, NDArray[np.float64]]


def _figures(scenario: Scenario, key: str, values: tuple[Any, ...]) -> _Figures:
    factors = [factor_of(value) for value in values]
    if isinstance(values[0], float | int | np.number) and all(
        isinstance(value, float | int | np.number) for value in values
    ):
        by_path = figures_of(scenario, key, np.asarray(values, dtype=np.float64))
        arrays = {path: np.asarray(figure) for path, figure in by_path.items()}
    else:
        each = [figures_of(scenario, key, value) for value in values]
        arrays = {path: np.array([figures[path] for figures in each]) for path in each[0]}
    shown = next(iter(arrays.values()))
    if None not in factors:
        shown = np.array(factors, dtype=np.float64)
    return _Figures(shown=shown, by_path=arrays)


def _placed(
    scenario: Scenario, figures: Mapping[str, _Figures], block: tuple[slice, ...]
) -> tuple[Scenario, dict[str, NDArray[np.float64]]]:
    """The scenario with a block of each axis on a dimension of its own, and what the columns show."""
    shown: dict[str, NDArray[np.float64]] = {}
    for index, (key, axis) in enumerate(figures.items()):
        shape = tuple(-1 if place == index else 1 for place in range(len(figures)))
        shown[key] = axis.shown[block[index]].reshape(shape)
        for path, values in axis.by_path.items():
            scenario = replace_at(scenario, path, values[block[index]].reshape(shape))
    refuse_beyond_context(scenario.deployment.model, scenario.workload)
    return scenario, shown


def _slices(scenario: Scenario, grid: _Grid, intervals: bool) -> Iterator[tuple[slice, ...]]:
    """Blocks of the numeric axes, each within the bounds on points and on numbers in an array."""
    growing = scenario.workload.context_tokens is None and "context" not in grid.numeric
    runtime = scenario.deployment.runtime
    moved = 1 + 2 * (len({fit.kind for fit in runtime.kernels}) + 1)
    own = (16 if growing else 1) * (moved if intervals and runtime.kernels else 1)
    room = max(1, min(POINTS, _ELEMENTS // own))
    sizes = [len(values) for values in grid.numeric.values()]
    steps = []
    for index, size in enumerate(sizes):
        left = len(sizes) - index
        step = min(size, max(1, math.ceil(room ** (1.0 / left))))
        if all(other <= step for other in sizes[index + 1 :]):
            step = min(size, max(1, room // math.prod(sizes[index + 1 :])))
        steps.append(step)
        room = max(1, room // step)
    starts = (range(0, size, step) for size, step in zip(sizes, steps, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + step, size))
            for start, step, size in zip(corner, steps, sizes, strict=True)
        )


def _evaluate(
    scenario: Scenario, axes: int, phases: Phases, intervals: bool, wanted: tuple[str, ...]
) -> dict[str, Quantity]:
    bounds = ("bound",) if set(wanted) & set(_BOUND_COLUMNS) else ()
    if phases == "decode":
        decode, memory = analyze_decode(scenario, axes=axes, intervals=intervals, tables=bounds)
        found = _interval("tpot", decode.time_s, decode.tokens)
        found["decode_tokens_per_s"] = scenario.workload.sequences / found["tpot_s"]
    else:
        report = analyze(scenario, axes=axes, intervals=intervals, tables=bounds)
        decode, memory = report.decode, report.memory
        found = _interval("ttft", report.ttft_s, 1.0) | _interval("tpot", report.tpot_s, 1.0)
        found["ttft_ideal_s"] = report.prefill.ideal_s
        found["output_tokens_per_s"] = report.output_tokens_per_s
        found["decode_tokens_per_s"] = report.decode_tokens_per_s
        if "prefill_bound" in wanted:
            found["prefill_bound"] = _bound_code(report.prefill)
    found["tpot_ideal_s"] = decode.ideal_s / decode.tokens
    if "decode_bound" in wanted:
        found["decode_bound"] = _bound_code(decode)
    return found | _memory(memory)


def _interval(name: str, interval: Interval, tokens: Quantity) -> dict[str, Quantity]:
    return {
        f"{name}_s": interval.value / tokens,
        f"{name}_low_s": interval.low / tokens,
        f"{name}_high_s": interval.high / tokens,
    }


def _memory(use: MemoryUse) -> dict[str, Quantity]:
    near = next(iter(use.used_bytes))
    return {"memory_bytes": total(use.used_bytes[near].values()), "fits": use.fits}


def _bound_code(phase: PhaseReport) -> Quantity:
    """Position in `BOUNDS` of what binds most of the time; of equals the first."""
    code: Any = np.float64(0.0)
    most: Any = -np.inf
    for name, seconds in phase.bound_s.items():
        longer = seconds > most
        code = np.where(longer, float(BOUNDS.index(name)), code)
        most = np.where(longer, seconds, most)
    found: Quantity = code
    return found


def _type_of(column: str) -> type[np.generic]:
    if column in _BOUND_COLUMNS:
        return np.int8
    return np.bool_ if column == "fits" else np.float64


def _axis_type(grid: _Grid, key: str) -> type[np.generic]:
    return np.float64 if key in grid.numeric else np.int32
