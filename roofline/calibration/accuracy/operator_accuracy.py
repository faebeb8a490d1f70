"""How far fitted kernel times are from measured ones that the fit has not seen."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import quantiles
from roofline.calibration.fits.transfer import Donor, carry_over_errors

__all__ = ["AccuracyRow", "accuracy_markdown", "unseen_devices"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AccuracyRow:
    """Errors of one kind of operator on one device, medians over its softwares.

    Parameters
    ----------
    groups, points : int
        Softwares scored and measurements in them.
    median, ninetieth : float
        Of the absolute relative error of the predicted time, as fractions.
    bias : float
        Median of the signed relative error: below zero, predictions are too fast.
    weighted : float
        Absolute error summed over all rows, over their summed time.
    coverage : float
        Share of rows inside the nominal 80 % interval that was made without them.
    """

    kind: str
    format: str
    device: str
    groups: int
    points: int
    median: float
    ninetieth: float
    bias: float
    weighted: float
    coverage: float


def _row(kind: str, format: str, device: str, scored: list[tuple[Donor, Array, float]]) -> AccuracyRow:
    off = [np.exp(-errors) - 1.0 for _, errors, _ in scored]
    times = [donor.data.times_s for donor, _, _ in scored]
    return AccuracyRow(
        kind=kind,
        format=format,
        device=device,
        groups=len(scored),
        points=sum(len(part) for part in off),
        median=float(np.median([np.median(np.abs(part)) for part in off])),
        ninetieth=float(np.median([np.quantile(np.abs(part), 0.9) for part in off])),
        bias=float(np.median([np.median(part) for part in off])),
        weighted=float(
            np.median([np.sum(np.abs(part) * t) / np.sum(t) for part, t in zip(off, times, strict=True)])
        ),
        coverage=float(np.mean([inside for _, _, inside in scored])),
    )


def _inside(errors: Array, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return float(np.mean((errors >= low) & (errors <= high)))


def _tabulated(scored: Iterable[tuple[Donor, Array, float]]) -> list[AccuracyRow]:
    table: dict[tuple[str, str, str], list[tuple[Donor, Array, float]]] = {}
    for part in scored:
        data = part[0].data
        table.setdefault((data.kind, data.format, data.device), []).append(part)
    return [_row(*key, parts) for key, parts in sorted(table.items())]


def unseen_devices(donors: Iterable[Donor]) -> list[AccuracyRow]:
    """Return the errors on devices none of whose rows were used.

    Coverage is by the quantiles of the errors that the *other* left-out devices showed.
    """
    scored = []
    for parts in carry_over_errors(tuple(donors)).values():
        for donor, errors in parts:
            others = [other for kin, other in parts if kin.data.device != donor.data.device]
            if others:
                scored.append((donor, errors, _inside(errors, quantiles(np.concatenate(others)))))
    return _tabulated(scored)


_HEAD: Final = (
    "| operator | format | device | softwares | rows | median | 90 % | bias | time-weighted | coverage |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def accuracy_markdown(rows: Iterable[AccuracyRow]) -> str:
    """Return accuracy rows as a Markdown table, errors in percent."""
    lines = [_HEAD]
    for row in rows:
        covered = f"{100 * row.coverage:.0f}" if np.isfinite(row.coverage) else "–"
        errors = " | ".join(f"{100 * value:.1f}" for value in (row.median, row.ninetieth))
        lines.append(
            f"| {row.kind} | {row.format} | {row.device} | {row.groups} | {row.points} | {errors} "
            f"| {100 * row.bias:+.1f} | {100 * row.weighted:.1f} | {covered} |"
        )
    return "\n".join(lines) + "\n"
