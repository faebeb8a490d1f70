"""How far predictions lie from measurements: one row of figures per group."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Score", "score"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Score:
    """Errors of a group of rows; each is relative, ``predicted / measured - 1``.

    Parameters
    ----------
    rows : int
        Rows scored.
    signed : float
        Median of the signed error.
    median, mean, p90 : float
        Median, mean (MAPE) and 90 % quantile of the absolute error.
    time_weighted : float
        Sum of absolute differences over the sum of measured times.
    ideal_signed, ideal_median : float
        Median signed and absolute error of the datasheet bound.
    covered : float
        Share of measurements inside the 80 % interval.
    """

    rows: int
    signed: float
    median: float
    mean: float
    p90: float
    time_weighted: float
    ideal_signed: float
    ideal_median: float
    covered: float


def score(
    *, measured: Array, predicted: Array, ideal: Array, low: Array, high: Array, seconds: Array
) -> Score:
    """Return the errors of rows; all arrays have one entry per row, > 0.

    Parameters
    ----------
    seconds : ndarray
        Measured time that weighs each row [s]: the latency itself, or what a rate stands for.
    """
    error = predicted / measured - 1.0
    bound = ideal / measured - 1.0
    size = np.abs(error)
    return Score(
        rows=len(measured),
        signed=float(np.median(error)),
        median=float(np.median(size)),
        mean=float(np.mean(size)),
        p90=float(np.quantile(size, 0.9)),
        time_weighted=float(np.sum(size * seconds) / np.sum(seconds)),
        ideal_signed=float(np.median(bound)),
        ideal_median=float(np.median(np.abs(bound))),
        covered=float(np.mean((low <= measured) & (measured <= high))),
    )
