"""How well whole-model speeds are predicted without a model, without a device, without a source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.pass_pool import Place, PooledFit
from roofline.calibration.fits.pass_profiles import lent_band, measured_band

__all__ = ["PassScore", "score_passes"]

Array = NDArray[np.float64]

_PHASES: Final = ("decode", "prefill")


@dataclass(frozen=True, kw_only=True)
class PassScore:
    """Errors of one software on one class of devices.

    Parameters
    ----------
    left_out : {"model", "source", "device"}
        What took no part in the fit that predicts a row, nor in its band.
    signed, median, p90 : float
        Median signed error, median and 90 % quantile of its size, predicted / measured - 1.
    covered : float
        Share of measurements in the 80 % band.
    """

    left_out: str
    phase: str
    software: str
    family: str
    rows: int
    devices: int
    signed: float
    median: float
    p90: float
    covered: float


def score_passes(pool: PooledFit) -> Iterator[PassScore]:
    """Yield the errors of every phase, by what is left out, software and family, and of all together."""
    kinds = (
        ("model", pool.without_model, [part.model for part in pool.passes]),
        ("source", pool.without_source, [part.origin for part in pool.passes]),
        ("device", pool.without_device, [part.origin for part in pool.passes]),
    )
    for left_out, errors, folds in kinds:
        for phase in _PHASES:
            held = []
            for part, place, values, fold in zip(pool.passes, pool.places, errors, folds, strict=True):
                own = (part.phase == phase) & np.isfinite(values)
                if own.any():
                    held.append(_Held(place=place, errors=values[own], fold=fold[own]))
            yield from _scores(left_out, phase, held)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Held:
    """Errors of a phase at a place, and what was left out together."""

    place: Place
    errors: Array
    fold: NDArray[np.object_]


def _scores(left_out: str, phase: str, held: list[_Held]) -> Iterator[PassScore]:
    classes: dict[tuple[str, str], list[_Held]] = {("all", ""): held} if held else {}
    for one in held:
        classes.setdefault((one.place.framework, one.place.family), []).append(one)
    inside = {one.place: _inside(left_out, one, held) for one in held}
    for (software, family), members in sorted(classes.items(), key=lambda pair: pair[0]):
        error = np.expm1(-np.concatenate([one.errors for one in members]))
        yield PassScore(
            left_out=left_out,
            phase=phase,
            software=software,
            family=family,
            rows=len(error),
            devices=len({one.place.device for one in members}),
            signed=float(np.median(error)),
            median=float(np.median(np.abs(error))),
            p90=float(np.quantile(np.abs(error), 0.9)),
            covered=float(np.mean(np.concatenate([inside[one.place] for one in members]))),
        )


def _inside(left_out: str, one: _Held, held: list[_Held]) -> NDArray[np.bool_]:
    """Return which errors lie in a band to which they did not contribute."""
    others = [other for other in held if other.place.device != one.place.device]
    everyone = [other.errors for other in others]
    if left_out == "device":
        low, high = lent_band([other.errors for other in others if _alike(other.place, one.place)], everyone)
        return np.asarray((low <= one.errors) & (one.errors <= high))
    found = np.empty(len(one.errors), dtype=bool)
    for fold in dict.fromkeys(one.fold):
        here = one.fold == fold
        low, high = measured_band(one.errors[~here], everyone)
        found[here] = (low <= one.errors[here]) & (one.errors[here] <= high)
    return found


def _alike(one: Place, other: Place) -> bool:
    return (one.framework, one.family) == (other.framework, other.family)
