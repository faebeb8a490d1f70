"""Predictions beside measurements, row by row."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Predictions"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """One entry per row of a file, filled group by group.

    Parameters
    ----------
    measured, predicted, ideal, low, high : ndarray
        In the unit of the measured column; nan where a row is skipped.
    floor : ndarray
        What no measurement can fall below, or for a rate exceed, in the same unit.
    seconds : ndarray
        Measured time that weighs a row [s].
    basis : ndarray of str
        What the prediction rests on.
    profile : ndarray of str
        Software and version of the profile that was used.
    skipped : ndarray of str
        Why there is none; empty where there is one.
    stand_in : ndarray of str
        What was predicted in place of a model that the catalogue does not hold; empty where it does.
    keys : DataFrame
        What rows are grouped by, one column per key.
    """

    measured: Array
    seconds: Array
    keys: "pd.DataFrame"
    predicted: Array
    ideal: Array
    low: Array
    high: Array
    floor: Array
    basis: NDArray[np.object_]
    profile: NDArray[np.object_]
    skipped: NDArray[np.object_]
    stand_in: NDArray[np.object_]

    @classmethod
    def empty(cls, *, measured: Array, seconds: Array, keys: "pd.DataFrame") -> "Predictions":
        """Return predictions of no row yet."""
        count = len(measured)
        blank = {name: np.full(count, np.nan) for name in ("predicted", "ideal", "low", "high", "floor")}
        return cls(
            measured=measured,
            seconds=seconds,
            keys=keys,
            profile=np.full(count, "", dtype=object),
            basis=np.full(count, "", dtype=object),
            skipped=np.full(count, "", dtype=object),
            stand_in=np.full(count, "", dtype=object),
            **blank,
        )

    def skip(self, reasons: NDArray[np.object_]) -> None:
        """Skip the rows that have a reason and none yet."""
        new = (self.skipped == "") & (reasons != "")
        self.skipped[new] = reasons[new]

    def like(self) -> "Predictions":
        """Return predictions of no row yet for the same measurements."""
        return Predictions.empty(measured=self.measured, seconds=self.seconds, keys=self.keys)

    def widen(self, index: NDArray[np.int64], *, spread: float, others: "tuple[Predictions, ...]") -> None:
        """Widen the intervals of some rows by a log-spread and by what others predict, in squares."""
        middle = self.predicted[index]
        with np.errstate(divide="ignore", invalid="ignore"):
            told = [np.log(other.predicted[index] / middle) for other in others]
            sides = (
                (self.low, np.minimum.reduce([np.zeros_like(middle), *told])),
                (self.high, np.maximum.reduce([np.zeros_like(middle), *told])),
            )
            for side, farthest in sides:
                own = np.log(side[index] / middle)
                far = np.sqrt(own**2 + farthest**2 + spread**2)
                side[index] = middle * np.exp(np.where(side is self.low, -far, far))

    def fill(
        self,
        index: NDArray[np.int64],
        *,
        predicted: Array,
        ideal: Array,
        low: Array,
        high: Array,
        unit: float,
    ) -> None:
        """Enter the predictions of some rows, given in SI, in the measured column's unit."""
        for name, values in (("predicted", predicted), ("ideal", ideal), ("low", low), ("high", high)):
            getattr(self, name)[index] = values / unit

    @property
    def error(self) -> Array:
        """Signed relative error, ``predicted / measured - 1``; nan where a row is skipped."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.skipped == "", self.predicted / self.measured - 1.0, np.nan)
