"""Fits of somebody's own whole-model speeds: of whole passes, or of the host beside measured kernels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import rounded
from roofline.calibration.fits.own_fits import OWN, OwnFit, Refused, combined
from roofline.calibration.fits.own_passes import SHARES, band_of, fit_own_passes, whole_pass_profile
from roofline.calibration.fits.pass_fits import Passes, alone, multiplied_in, passes_of
from roofline.calibration.fits.served_fits import Iterations, fit_host
from roofline.calibration.measurements.measured_files import MeasuredFile
from roofline.calibration.predictions.whole_model_metrics import ITERATION, METRICS
from roofline.calibration.predictions.whole_model_predictions import (
    iteration_s,
    predict_whole_models,
    whole_model_groups,
)
from roofline.catalog.fits import device_family
from roofline.catalog.hardware import load_device
from roofline.errors import InvalidSpecError, RooflineError
from roofline.scenario import Scenario
from roofline.timing.runtime import HostTime, Runtime

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fit_whole_models"]

Array = NDArray[np.float64]
Group = tuple[Scenario, "pd.DataFrame"]

_FEWEST_ROWS: Final = 3
#: Time per token of a loaded server holds prefills of other requests, but not where there is one request.
_ALONE_TOO: Final = ("tpot_mean_ms", "tpot_median_ms", "itl_mean_ms")
_PHASES: Final = ("decode", "prefill")
_NOT_ALONE: Final = "not of one sequence on one device, or a prompt of under 64 tokens"
_NO_ITERATION: Final = "not a decode iteration (itl, or time per token of one request)"


def fit_whole_models(
    file: MeasuredFile, date: str
) -> tuple[list[OwnFit], list[Refused], list[tuple[str, str, Runtime]]]:
    """Return fits and a profile of every device and software with speeds in a table.

    Notes
    -----
    Where the profile there is was fitted kernel by kernel, as those of serving software are, it is kept
    and the host's times are fitted to decode iterations. Elsewhere rows of one sequence on one device
    give the shares of bandwidth and peak that whole passes reach, starting from the profile.
    """
    usable = predict_whole_models(file)
    skipped = usable.skipped != ""
    left: dict[str, list[int]] = {}
    for row in np.flatnonzero(skipped):
        left.setdefault(str(usable.skipped[row]).partition(":")[0], []).append(int(row))
    refused = [
        _unused(file, rows, reason) for reason, rows in sorted(left.items(), key=lambda one: -len(one[1]))
    ]
    groups: dict[tuple[str, str], list[Group]] = {}
    for scenario, rows in whole_model_groups(file, ~skipped):
        # A file that does not say is taken for what its rows were predicted with.
        framework = rows["framework"].iloc[0] or scenario.deployment.runtime.software.partition(" ")[0]
        key = str(rows["device_name"].iloc[0]), str(framework)
        groups.setdefault(key, []).append((scenario, rows.assign(source=OWN)))
    fits: list[OwnFit] = []
    profiles: list[tuple[str, str, Runtime]] = []
    for (device, framework), parts in groups.items():
        software = str(parts[0][1]["runtime"].iloc[0]) or framework
        base = parts[0][0].deployment.runtime
        timed = any(kernel.low < kernel.high for kernel in base.kernels)
        try:
            make = _host_of if timed else _passes_of
            made, runtime, used = make(device, software, parts, date, usable.error)
        except RooflineError as error:
            refused.append(Refused(what=f"{device} {software}", reason=str(error)))
            continue
        rest = sorted({int(row) for _, rows in parts for row in rows.index} - {*used})
        if rest:
            refused.append(_unused(file, rest, _NO_ITERATION if timed else _NOT_ALONE))
        fits += made
        profiles.append((device, f"{framework} ", runtime))
    return fits, refused, profiles


def _unused(file: MeasuredFile, rows: list[int], reason: str) -> Refused:
    line = f"line {file.lines[rows[0]]}"
    return Refused(what=f"{len(rows)} rows from {line} on" if len(rows) > 1 else line, reason=reason)


# ------------------------------------------------------------------ whole passes


def _passes_of(
    device: str, software: str, parts: list[Group], date: str, errors: Array
) -> tuple[list[OwnFit], Runtime, list[int]]:
    """Return fits of decode and prefill passes of one sequence, the profile they make, and rows used."""
    rows: list[tuple[Mapping[str, Any], Scenario, Any]] = [
        ({"software": software}, scenario, row)
        for scenario, group in parts
        for _, row in group.iterrows()
        if alone(row)
    ]
    if not rows:
        raise InvalidSpecError("no speed of one sequence on one device, with prompts of 64 tokens or more")
    there = parts[0][0].deployment.runtime
    passes = passes_of(rows)
    maker = device_family(load_device(device).value, passes.engine).partition("_")[0]
    base = replace(whole_pass_profile(there), runs_as=multiplied_in(passes.framework, maker))
    found = fit_own_passes(passes, base, source=f"{OWN}: whole-model speeds at batch 1")
    index = np.array([row.name for _, _, row in rows])
    made = [
        OwnFit(
            device=device,
            software=software,
            kind=phase,
            format="*",
            points=int(own.sum()),
            parameters=_reached(passes, found.runtime),
            before=float(np.median(np.abs(errors[index[own]]))),
            after=float(np.median(np.abs(np.expm1(-found.errors[own])))),
            band_before=band_of(base, phase) if there.host.points else None,
            band=found.runtime.host.spread(phase),
            untold=found.untold,
        )
        for phase in _PHASES
        if (own := passes.phase == phase).any()
    ]
    return made, replace(found.runtime, device=device, software=software, date=date), index.tolist()


def _reached(passes: Passes, runtime: Runtime) -> Mapping[str, float]:
    """Return what products in the format that most bytes are read in reach, and host time per layer [s]."""
    read_s = {
        name: float(np.sum((passes.launches * passes.memory_s)[passes.format == name]))
        for name in dict.fromkeys(passes.format)
        if name
    }
    fit, _ = runtime.fit_for("gemm", max(read_s, key=read_s.__getitem__))
    shares = {} if fit is None else {name: fit.parameters[name] for name in SHARES}
    return {**shares, "per_layer_s": runtime.host.per_layer_s}


# ------------------------------------------------------------------ the host of served models


def _host_of(
    device: str, software: str, parts: list[Group], date: str, errors: Array
) -> tuple[list[OwnFit], Runtime, list[int]]:
    """Return a fit of the host's times to decode iterations, the profile with it, and rows used."""
    base = parts[0][0].deployment.runtime
    idle = replace(base, host=HostTime(composition=base.host.composition))
    together = base.host.composition.get("decode", "max")
    columns: dict[str, list[Any]] = {name: [] for name in Iterations.__dataclass_fields__}
    index: list[int] = []
    for scenario, group in parts:
        rows = group[_iterations(group)]
        if rows.empty:
            continue
        deployment = replace(scenario.deployment, runtime=idle)
        kernels = iteration_s(replace(scenario, deployment=deployment), rows)
        count = len(rows)
        columns["model"] += [deployment.model.name] * count
        for name, value in (("device_s", kernels.value), ("low_s", kernels.low), ("high_s", kernels.high)):
            columns[name] += [*np.broadcast_to(value, count)]
        columns["layers"] += [float(sum(deployment.model.layer_counts().values()))] * count
        columns["sequences"] += [*(rows["batch"] / deployment.parallelism.data)]
        columns["measured_s"] += [*_seconds(rows)]
        index += [*rows.index]
    if len(index) < _FEWEST_ROWS:
        raise InvalidSpecError(
            f"{len(index)} decode iterations (itl, or time per token of one request); "
            f"want at least {_FEWEST_ROWS}"
        )
    if len(set(columns["model"])) == 1:
        columns["model"] = [f"{name} {row}" for row, name in enumerate(columns["model"])]
    data = Iterations(
        **{name: np.array(part, dtype=object if name == "model" else float) for name, part in columns.items()}
    )
    found = fit_host(data, together)
    before = band_of(base, "decode")
    band = combined((found.low, found.high), len(index), before, 0.0)
    seconds: dict[str, Any] = {name: rounded(value) for name, value in found.seconds.items()}
    host = replace(
        base.host,
        **seconds,
        low=rounded(band[0]),
        high=rounded(band[1]),
        low_of={},
        high_of={},
        basis="measured",
        points=len(index),
        source=f"{OWN}: {software}, decode iterations",
    )
    made = OwnFit(
        device=device,
        software=software,
        kind="decode",
        format="*",
        points=len(index),
        parameters=seconds,
        before=float(np.median(np.abs(errors[index]))),
        after=float(np.median(np.abs(np.expm1(-found.errors)))),
        band_before=before if base.host.points else None,
        band=band,
    )
    return [made], replace(base, device=device, software=software, date=date, host=host), index


def _iterations(rows: "pd.DataFrame") -> NDArray[np.bool_]:
    """Return which rows time one decode iteration."""
    plain = rows["metric"].map(lambda name: METRICS[name] is ITERATION).to_numpy(bool)
    one = (rows["batch"] == 1.0).to_numpy() & rows["metric"].isin(_ALONE_TOO).to_numpy()
    rates = (rows["batch"] == 1.0).to_numpy() & (rows["metric"] == "decode_tok_s").to_numpy()
    chosen: NDArray[np.bool_] = plain | one | rates
    return chosen


def _seconds(rows: "pd.DataFrame") -> Array:
    """Return the iterations that rows state as times or as rates of one sequence [s]."""
    value = rows["value_number"].to_numpy(float)
    rate = rows["metric"].map(lambda name: METRICS[name].rate).to_numpy(bool)
    times: Array = np.where(rate, 1.0 / value, value * rows["unit_size"].to_numpy(float))
    return times
