"""How well whole-model speeds are predicted without a model, a source, a device, its generation or maker."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.pass_pool import Place, PooledFit
from roofline.calibration.fits.pass_profiles import lent_band, measured_band, source_deviation

__all__ = ["PassScore", "band_without", "score_passes"]

Array = NDArray[np.float64]

_PHASES: Final = ("decode", "prefill")
#: What is left out together -> what it is called.
_WITHOUT: Final[dict[str, Callable[[Place], object]]] = {
    "device": lambda place: place.device,
    "generation": lambda place: (place.maker, place.architecture or place.device),
    "maker": lambda place: place.maker,
}


@dataclass(frozen=True, kw_only=True)
class PassScore:
    """Errors of one software on one class of devices.

    Parameters
    ----------
    left_out : {"model", "source", "device", "generation", "maker"}
        What took no part in the fit that predicts a row, nor in its band.
    signed, median, p90 : float
        Median signed error, median and 90 % quantile of its size, predicted / measured - 1.
    covered, covered_devices : float
        Share of measurements in the 80 % band, each row and each device counting the same.
    width : float
        Median over rows of half the band's width, as a logarithm.
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
    covered_devices: float
    width: float


def score_passes(pool: PooledFit) -> Iterator[PassScore]:
    """Yield the errors of every phase, by what is left out, software and family, and of all together."""
    kinds: tuple[tuple[str, Sequence[Array], Literal["model", "origin"]], ...] = (
        ("model", pool.without_model, "model"),
        ("source", pool.without_source, "origin"),
        ("device", pool.without_device, "origin"),
        ("generation", pool.without_generation, "origin"),
        ("maker", pool.without_maker, "origin"),
    )
    for left_out, errors, fold in kinds:
        for phase in _PHASES:
            yield from _scores(pool, left_out, phase, list(_of_phase(pool, errors, phase, by=fold)))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Held:
    """Errors of a phase at a place, and what was left out together."""

    place: Place
    errors: Array
    fold: NDArray[np.object_]


def _of_phase(
    pool: PooledFit, errors: Sequence[Array], phase: str, by: Literal["model", "origin"] = "origin"
) -> Iterator[_Held]:
    """Yield what is known of each place's passes of a phase."""
    for part, place, values in zip(pool.passes, pool.places, errors, strict=True):
        own = (part.phase == phase) & np.isfinite(values)
        if own.any():
            fold = part.model if by == "model" else part.origin
            yield _Held(place=place, errors=values[own], fold=fold[own])


def band_without(pool: PooledFit, phase: str, place: Place) -> tuple[float, float]:
    """Return the log-quantiles of a phase at a place whose device's rows did not help to make them."""
    held = _of_phase(pool, pool.without_device, phase)
    return _lent([one for one in held if one.place.device != place.device], place)


def _scores(pool: PooledFit, left_out: str, phase: str, held: list[_Held]) -> Iterator[PassScore]:
    classes: dict[tuple[str, str], list[_Held]] = {("all", ""): held} if held else {}
    for one in held:
        classes.setdefault((one.place.framework, one.place.family), []).append(one)
    bands = {one.place: _bands(pool, left_out, phase, one, held) for one in held}
    inside = {one.place: _inside(one.errors, bands[one.place]) for one in held}
    for (software, family), members in sorted(classes.items(), key=lambda pair: pair[0]):
        error = np.expm1(-np.concatenate([one.errors for one in members]))
        widths = [np.ptp(bands[one.place], axis=0) / 2.0 for one in members]
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
            covered_devices=float(np.mean([np.mean(inside[one.place]) for one in members])),
            width=float(np.median(np.concatenate(widths))),
        )


def _inside(errors: Array, band: Array) -> NDArray[np.bool_]:
    return np.asarray((band[0] <= errors) & (errors <= band[1]))


def _bands(pool: PooledFit, left_out: str, phase: str, one: _Held, held: list[_Held]) -> Array:
    """Return the low and high end, for each error, of a band to which it did not contribute."""
    if left_out in _WITHOUT:
        gone = _WITHOUT[left_out]
        strange = [other for other in held if gone(other.place) != gone(one.place)]
        return np.outer(_lent(strange, one.place), np.ones(len(one.errors)))
    between = source_deviation(pool, phase, without=one.place.device)
    kept = list(_of_phase(pool, pool.without_model, phase, by="model" if left_out == "model" else "origin"))
    everyone = [other.errors for other in kept if other.place.device != one.place.device]
    own = next(other for other in kept if other.place == one.place)
    away = band_without(pool, phase, one.place)
    found = np.empty((2, len(one.errors)))
    for name in dict.fromkeys(one.fold):
        rest = own.errors[own.fold != name]
        timed = measured_band(rest, everyone, between=between) if len(rest) else away
        found[:, one.fold == name] = np.array(timed)[:, None]
    return found


def _lent(others: list[_Held], place: Place) -> tuple[float, float]:
    kin = [other.errors for other in others if _alike(other.place, place)]
    return lent_band(kin, [other.errors for other in others])


def _alike(one: Place, other: Place) -> bool:
    return (one.framework, one.family) == (other.framework, other.family)
