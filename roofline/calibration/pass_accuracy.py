"""How well whole-model speeds are predicted without a model, without a device, without a source."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.pass_pool import Place, PooledFit
from roofline.calibration.pass_profiles import lent_band, measured_band

__all__ = ["PassScore", "score_passes"]

Array = NDArray[np.float64]

_PHASES: Final = ("decode", "prefill")


@dataclass(frozen=True, kw_only=True)
class PassScore:
    """Errors of one software on one class of devices.

    Parameters
    ----------
    left_out : {"model", "device"}
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
    for left_out, errors in (("model", pool.without_model), ("device", pool.without_device)):
        for phase in _PHASES:
            own = {
                (place.framework, place.device): (
                    place,
                    values[part.phase == phase],
                    part.model[part.phase == phase],
                )
                for part, place, values in zip(pool.passes, pool.places, errors, strict=True)
            }
            own = {key: found for key, found in own.items() if len(found[1])}
            inside = {}
            for key, (place, values, models) in own.items():
                others = [found[1] for found in own.values() if found[0].device != place.device]
                if left_out == "device":
                    kin = [
                        found[1]
                        for found in own.values()
                        if _alike(found[0], place) and found[0].device != place.device
                    ]
                    low, high = lent_band(kin, others)
                    inside[key] = (low <= values) & (values <= high)
                else:
                    inside[key] = _without_model(values, models, others)
            classes: dict[tuple[str, str], list[tuple[str, str]]] = {("all", ""): list(own)}
            for key, (place, _, _) in own.items():
                classes.setdefault((place.framework, place.family), []).append(key)
            for (software, family), members in sorted(classes.items()):
                error = np.expm1(-np.concatenate([own[key][1] for key in members]))
                yield PassScore(
                    left_out=left_out,
                    phase=phase,
                    software=software,
                    family=family,
                    rows=len(error),
                    devices=len({device for _, device in members}),
                    signed=float(np.median(error)),
                    median=float(np.median(np.abs(error))),
                    p90=float(np.quantile(np.abs(error), 0.9)),
                    covered=float(np.mean(np.concatenate([inside[key] for key in members]))),
                )


def _alike(one: Place, other: Place) -> bool:
    return (one.framework, one.family) == (other.framework, other.family)


def _without_model(values: Array, models: NDArray[np.object_], others: list[Array]) -> NDArray[np.bool_]:
    """Return which errors lie in the band that the errors of other models make."""
    found = np.empty(len(values), dtype=bool)
    for model in dict.fromkeys(models):
        here = models == model
        low, high = measured_band(values[~here], others)
        found[here] = (low <= values[here]) & (values[here] <= high)
    return found
