"""Host time of serving software, from measured decode iterations over the predicted kernels."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import robust, rounded
from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.predictions.whole_model_predictions import (
    iteration_s,
    predict_whole_models,
    whole_model_groups,
)
from roofline.catalog.files import read_toml
from roofline.timing.runtime import HostTime, Runtime

__all__ = [
    "HostFit",
    "Iterations",
    "fit_host",
    "lent_hosts",
    "needed_spread",
    "read_iterations",
    "served_runtimes",
]

Array = NDArray[np.float64]

#: Centre and standard deviation of the logarithm of each host time [s], wide enough that 20 rows decide:
#: from the dense rows of ML.ENERGY v3 and from Splitwise (calibrate/README.md).
_PRIOR: Final = {"per_pass_s": (1e-3, 0.5), "per_layer_s": (3e-5, 1.5), "per_sequence_s": (3e-5, 1.5)}
_STEPS_OF: Final = ("itl_median_ms", "tpot_ms", "tpot_mean_ms")
_DECILES: Final = 0.9
_SLOW_HOST: Final = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Iterations:
    """Measured decode iterations of one software on one device.

    Parameters
    ----------
    model : ndarray of str
        Rows of one model are held out together.
    device_s, low_s, high_s : ndarray
        Predicted time of the kernels and its interval [s].
    layers, sequences : ndarray
        Decoder layers; sequences of one data-parallel rank.
    measured_s : ndarray
        Measured time of an iteration [s].
    """

    model: NDArray[np.object_]
    device_s: Array
    low_s: Array
    high_s: Array
    layers: Array
    sequences: Array
    measured_s: Array

    def rows(self, keep: NDArray[np.bool_]) -> "Iterations":
        """Return the rows where `keep` is true."""
        return Iterations(**{name: value[keep] for name, value in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class HostFit:
    """Host times with their held-out errors.

    Parameters
    ----------
    seconds : mapping of str to float
        Fields of `HostTime`.
    errors : ndarray
        Logarithm of measured over predicted iteration time, each model left out of its fit.
    low, high : float
        Log-quantiles of the pass that, with the kernels' own intervals, hold 80 % of `errors`.
    """

    seconds: Mapping[str, float]
    errors: Array
    low: float
    high: float


def _predicted_s(data: Iterations, point: Array, together: str) -> Array:
    per_pass, per_layer, per_sequence = np.exp(point)
    host_s = per_pass + per_layer * data.layers + per_sequence * data.sequences
    predicted_s: Array = data.device_s + host_s if together == "sum" else np.maximum(data.device_s, host_s)
    return predicted_s


def _solved(data: Iterations, together: str) -> Array:
    from scipy.optimize import least_squares

    centre = np.log([middle for middle, _ in _PRIOR.values()])
    width = np.array([spread for _, spread in _PRIOR.values()])

    def residuals(point: Array) -> Array:
        missed = robust(np.log(_predicted_s(data, point, together) / data.measured_s))
        return np.concatenate((missed, (point - centre) / width))

    # Under a maximum, a host that starts below the device shows no slope.
    slow_host = centre + np.log([1.0, _SLOW_HOST, 1.0])
    best = min((least_squares(residuals, start) for start in (centre, slow_host)), key=lambda made: made.cost)
    return np.asarray(best.x)


def fit_host(data: Iterations, together: str) -> HostFit:
    """Return host time per pass, per layer and per sequence, fitted to measured iterations.

    Parameters
    ----------
    together : {"sum", "max"}
        Whether host and device times add or the longer of both counts.

    Notes
    -----
    ``t = t_device + a + b layers + c sequences`` (or their maximum), soft-L1 on log ratios, a
    Gaussian prior on the logarithms of a, b and c. The kernels are not fitted again, so a, b and c
    take up everything that the kernels leave out, in a server above all the prefills that share
    passes with decode.
    """
    held_out = np.empty(len(data.model))
    for model in sorted(set(data.model)):
        own = data.model == model
        point = _solved(data.rows(~own), together)
        held_out[own] = np.log(data.measured_s[own] / _predicted_s(data.rows(own), point, together))
    point = _solved(data, together)
    predicted_s = _predicted_s(data, point, together)
    below, above = data.low_s - data.device_s, data.high_s - data.device_s
    low, high = needed_spread(held_out, np.log1p(below / predicted_s), np.log1p(above / predicted_s))
    return HostFit(
        seconds=dict(zip(_PRIOR, map(float, np.exp(point)), strict=True)),
        errors=held_out,
        low=low,
        high=high,
    )


def needed_spread(errors: Array, low: Array, high: Array) -> tuple[float, float]:
    """Return the log-quantiles that, added in squares to intervals there are, hold 80 % of errors.

    Parameters
    ----------
    errors : ndarray
        Logarithm of measured over predicted time.
    low, high : ndarray
        Logarithmic reach of the intervals there are, <= 0 and >= 0.
    """
    below = np.sqrt(np.maximum(np.minimum(errors, 0.0) ** 2 - low**2, 0.0))
    above = np.sqrt(np.maximum(np.maximum(errors, 0.0) ** 2 - high**2, 0.0))
    return -float(np.quantile(below, _DECILES)), float(np.quantile(above, _DECILES))


def read_iterations(path: Path, part: Mapping[str, Any], base: Runtime) -> Iterations:
    """Return the decode iterations of a table's rows that belong to a device and runtime.

    Parameters
    ----------
    part : mapping
        One ``[[served]]`` entry of the campaign.
    base : Runtime
        Its kernels are used.
    """
    file = read_measured_file(path)
    usable = predict_whole_models(file).skipped == ""
    usable &= file.column("runtime").str.startswith(part["runtime"]).to_numpy()
    usable &= file.column("device").isin(part["rows"]).to_numpy()
    usable &= file.column("metric").str.casefold().isin(_STEPS_OF).to_numpy()
    idle = replace(base, host=HostTime(composition={"decode": "sum"}))
    columns: dict[str, list[Any]] = {name: [] for name in Iterations.__dataclass_fields__}
    for scenario, rows in whole_model_groups(file, usable):
        deployment = replace(scenario.deployment, runtime=idle)
        found = iteration_s(replace(scenario, deployment=deployment), rows)
        count = len(rows)
        columns["model"] += [deployment.model.name] * count
        columns["device_s"] += [*np.broadcast_to(found.value, count)]
        columns["low_s"] += [*np.broadcast_to(found.low, count)]
        columns["high_s"] += [*np.broadcast_to(found.high, count)]
        columns["layers"] += [float(sum(deployment.model.layer_counts().values()))] * count
        columns["sequences"] += [*(rows["batch"] / deployment.parallelism.data)]
        columns["measured_s"] += [*(rows["value_number"] * rows["unit_size"])]
    return Iterations(
        **{
            name: np.array(values, dtype=object if name == "model" else float)
            for name, values in columns.items()
        }
    )


def served_runtimes(
    folder: Path, campaign: Path, profiles: Mapping[str, Runtime]
) -> Iterator[tuple[str, Runtime, HostFit]]:
    """Yield path, profile and fit of every ``[[served]]`` entry of a campaign.

    Parameters
    ----------
    folder : Path
        Holds the tables of whole-model speeds.
    profiles : mapping of str to Runtime
        By path below the fits folder; the entry's ``kernels`` is one of them.
    """
    for part in read_toml(campaign).get("served", ()):
        base = profiles[part["kernels"]]
        data = read_iterations(folder / f"{part['table']}.csv", part, base)
        together = part["together"]
        made = fit_host(data, together)
        host = HostTime(
            per_pass_s=rounded(made.seconds["per_pass_s"]),
            per_layer_s=rounded(made.seconds["per_layer_s"]),
            per_sequence_s=rounded(made.seconds["per_sequence_s"]),
            composition={**base.host.composition, "decode": together},
            low=rounded(made.low),
            high=rounded(made.high),
            basis="measured",
            points=len(data.model),
            source=part["source"],
        )
        yield part["profile"], replace(base, software=part.get("software", base.software), host=host), made


def lent_hosts(profiles: Mapping[str, Runtime]) -> dict[str, Runtime]:
    """Return the profiles of serving software without host time, with that of the same software elsewhere.

    Only a profile that is named like the software lends; those of old releases do not.
    """
    hosts = {name.rpartition("/")[2]: runtime.host for name, runtime in profiles.items() if _served(runtime)}
    return {
        name: replace(runtime, host=replace(hosts[software], basis="transferred"))
        for name, runtime in profiles.items()
        if (software := name.rpartition("/")[2]) in hosts and not runtime.host.points
    }


def _served(runtime: Runtime) -> bool:
    return runtime.host.per_sequence_s > 0.0
