"""How much each figure of hardware and software matters: elasticities, and differences for counts."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from roofline.analysis import analyze
from roofline.dotted_path import replace_at
from roofline.overrides import full_path
from roofline.report import Report
from roofline.scenario import Scenario
from roofline.units import dimension_of

__all__ = ["Difference", "Elasticity", "Sensitivities", "sensitivities"]

#: Relative step up and down; central, so that its error is of the order of its square.
_STEP: Final = 1e-3

#: Roots of the figures that are moved, as in a dotted key.
_ROOTS: Final = ("engine", "memory", "peer_link", "host_link", "host", "storage", "runtime")

#: Names whose numbers are counts, and parts of a fit that are not its figures.
_COUNTS: Final = frozenset({"units", "queue_depth"})
_NO_FIGURES: Final = frozenset({"choices", "standard_errors", "low", "high", "points", "year", "policy"})
_WORKLOAD: Final = ("batch_size", "prompt_tokens", "output_tokens", "context_tokens")

#: An elasticity below this is rounding.
_NOTHING: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class Elasticity:
    """Percent by which times change when a figure changes by one percent.

    Parameters
    ----------
    key : str
        The figure, as `what_if` and ``--set`` take it.
    value : float
        What it is now, in its SI unit.
    ttft, tpot : float
        Relative change of the time over relative change of the figure; -1: twice the figure, half
        the time.
    """

    key: str
    value: float
    ttft: float
    tpot: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Seconds by which times change when a count goes up by one.

    Parameters
    ----------
    key : str
    value : float
        The count now.
    ttft_s, tpot_s : float
        Added seconds [s].
    """

    key: str
    value: float
    ttft_s: float
    tpot_s: float


@dataclass(frozen=True, kw_only=True)
class Sensitivities:
    """What matters, the strongest first; figures that move neither time are left out."""

    elasticities: tuple[Elasticity, ...]
    differences: tuple[Difference, ...]


def sensitivities(scenario: Scenario) -> Sensitivities:
    """Return elasticities of TTFT and TPOT to every continuous figure, and differences for counts.

    Parameters
    ----------
    scenario : Scenario
        A single point.

    Notes
    -----
    Every figure is moved by 0.1 % up and down, and every count up by one, on one axis: one
    evaluation in all. Elasticities of all rates, times and fixed costs add up to -1 for rates and 1
    for times where the time is a homogeneous function of them. Right where two roofs meet the value
    is the mean of both sides. Counts pass through ``ceil`` (tiles, waves), so theirs are differences.
    """
    figures = dict(_figures(scenario))
    counts = {key: figures.pop(key) for key in tuple(figures) if key.rpartition(".")[2] in _COUNTS}
    for name in _WORKLOAD:
        value = getattr(scenario.workload, name)
        structure = name == "prompt_tokens" and scenario.workload.prefill_chunk is not None
        unused = name == "output_tokens" and scenario.workload.context_tokens is not None
        if isinstance(value, float) and not structure and not unused:
            counts[f"workload.{name}"] = value
    size = 1 + 2 * len(figures) + len(counts)
    moved = scenario
    for index, (key, value) in enumerate(figures.items()):
        values = np.full(size, value)
        values[1 + 2 * index : 3 + 2 * index] *= (1.0 + _STEP, 1.0 - _STEP)
        moved = replace_at(moved, full_path(key), values)
    for index, (key, value) in enumerate(counts.items()):
        values = np.full(size, value)
        values[1 + 2 * len(figures) + index] += 1.0
        moved = replace_at(moved, full_path(key), values)
    report = analyze(moved, axes=1, intervals=False, tables=())
    return Sensitivities(
        elasticities=_elasticities(figures, report, size), differences=_differences(counts, report, size)
    )


def _times(report: Report, size: int) -> tuple[Any, Any]:
    return (
        np.broadcast_to(np.asarray(report.ttft_s.value), (size,)),
        np.broadcast_to(np.asarray(report.tpot_s.value), (size,)),
    )


def _elasticities(figures: Mapping[str, float], report: Report, size: int) -> tuple[Elasticity, ...]:
    width = np.log((1.0 + _STEP) / (1.0 - _STEP))
    end = 1 + 2 * len(figures)
    ttft, tpot = (np.log(time[1:end:2] / time[2:end:2]) / width for time in _times(report, size))
    found = [
        Elasticity(key=key, value=value, ttft=float(ttft[index]), tpot=float(tpot[index]))
        for index, (key, value) in enumerate(figures.items())
        if max(abs(ttft[index]), abs(tpot[index])) > _NOTHING
    ]
    return tuple(sorted(found, key=lambda entry: -max(abs(entry.ttft), abs(entry.tpot))))


def _differences(counts: Mapping[str, float], report: Report, size: int) -> tuple[Difference, ...]:
    start = size - len(counts)
    ttft, tpot = (time[start:] - time[0] for time in _times(report, size))
    return tuple(
        Difference(key=key, value=value, ttft_s=float(ttft[index]), tpot_s=float(tpot[index]))
        for index, (key, value) in enumerate(counts.items())
        if ttft[index] != 0.0 or tpot[index] != 0.0
    )


def _figures(scenario: Scenario) -> Iterator[tuple[str, float]]:
    """Keys and values of every non-zero figure below the roots."""
    for root in _ROOTS:
        part: Any = scenario
        for name in full_path(root).split("."):
            part = getattr(part, name)
        yield from _leaves(root, part)


def _leaves(key: str, part: Any) -> Iterator[tuple[str, float]]:
    if dataclasses.is_dataclass(part):
        part = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    if isinstance(part, tuple):
        part = {str(index): inner for index, inner in enumerate(part)}
    if isinstance(part, Mapping):
        for name, inner in part.items():
            if name not in _NO_FIGURES:
                yield from _leaves(f"{key}.{name}", inner)
    elif isinstance(part, float) and part != 0.0 and _is_figure(key):
        yield key, part


def _is_figure(key: str) -> bool:
    names = key.split(".")
    return (
        names[-1] in _COUNTS or "parameters" in names or any(dimension_of(name) is not None for name in names)
    )
