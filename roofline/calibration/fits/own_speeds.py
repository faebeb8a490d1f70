"""Fits of somebody's own whole-model speeds: of whole passes, or of the host beside measured kernels."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import rounded
from roofline.calibration.fits.own_fits import OWN, VERSIONS, OwnFit, Refused, combined
from roofline.calibration.fits.pass_fits import (
    PRIOR,
    Passes,
    PassFit,
    alone,
    fit_passes,
    pass_runtime,
    passes_of,
    predicted_s,
)
from roofline.calibration.fits.served_fits import Iterations, fit_host
from roofline.calibration.measurements.measured_files import MeasuredFile
from roofline.calibration.predictions.whole_model_metrics import ITERATION, METRICS
from roofline.calibration.predictions.whole_model_predictions import (
    iteration_s,
    predict_whole_models,
    whole_model_groups,
)
from roofline.errors import InvalidSpecError, RooflineError
from roofline.scenario import Scenario
from roofline.timing.runtime import HostTime, Runtime

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fit_whole_models"]

Array = NDArray[np.float64]
Group = tuple[Scenario, "pd.DataFrame"]

_FEWEST_ROWS: Final = 3
#: A factor of two either way where nothing was known before, an estimate.
_UNKNOWN: Final = float(np.log(2.0))
#: Time per token of a loaded server holds prefills of other requests, but not where there is one request.
_ALONE_TOO: Final = ("tpot_mean_ms", "tpot_median_ms", "itl_mean_ms")
_PHASES: Final = ("decode", "prefill")
#: Models of a third and of three times the sizes in the table, which it lacks.
_SIZES: Final = (1.0 / 3.0, 3.0)
_UNTOLD: Final = 0.5
#: Part of that by which a centre is really moved, so that bounds do not bend the answer.
_NUDGE: Final = 0.25


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
    reasons = Counter(str(reason).partition(":")[0] for reason in usable.skipped if reason)
    refused = [
        Refused(what=f"{count} row{'s' if count > 1 else ''}", reason=reason)
        for reason, count in reasons.most_common()
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
            made, runtime = make(device, software, parts, date, usable.error)
        except RooflineError as error:
            refused.append(Refused(what=f"{device} {software}", reason=str(error)))
            continue
        fits += made
        profiles.append((device, f"{framework} ", runtime))
    return fits, refused, profiles


# ------------------------------------------------------------------ whole passes


def _passes_of(
    device: str, software: str, parts: list[Group], date: str, errors: Array
) -> tuple[list[OwnFit], Runtime]:
    """Return fits of decode and prefill passes of one sequence, and the profile they make."""
    rows: list[tuple[Mapping[str, Any], Scenario, Any]] = [
        ({"software": software}, scenario, row)
        for scenario, group in parts
        for _, row in group.iterrows()
        if alone(row)
    ]
    if len(rows) < _FEWEST_ROWS:
        raise InvalidSpecError(
            f"{len(rows)} speeds of one sequence on one device; want at least {_FEWEST_ROWS}"
        )
    base = parts[0][0].deployment.runtime
    passes, centre = passes_of(rows), _centre(base)
    found = fit_passes(passes, centre)
    before = {phase: _band_of(base, phase) for phase in _PHASES}
    runtime = pass_runtime(
        [found],
        errors={phase: found.errors_of(phase) for phase in _PHASES},
        everyone={phase: _as_errors(before[phase]) for phase in _PHASES},
        device=device,
        software=software,
        date=date,
    )
    moved, untold = _prior_decides(passes, centre, _doubts(base))
    bands = {phase: _widened(runtime.host.spread(phase), moved[phase]) for phase in _PHASES}
    host = replace(
        runtime.host,
        low_of={phase: rounded(low) for phase, (low, _) in bands.items()},
        high_of={phase: rounded(high) for phase, (_, high) in bands.items()},
    )
    index = np.array([row.name for _, _, row in rows])
    made = [
        OwnFit(
            device=device,
            software=software,
            kind=phase,
            format="*",
            points=int(own.sum()),
            parameters={name: rounded(value) for name, value in found.shared.items()},
            before=float(np.median(np.abs(errors[index[own]]))),
            after=float(np.median(np.abs(np.expm1(-found.errors[own])))),
            band_before=before[phase] if base.host.points else None,
            band=bands[phase],
            untold=untold,
        )
        for phase in _PHASES
        if (own := passes.phase == phase).any()
    ]
    return made, replace(runtime, host=host)


def _centre(base: Runtime) -> Mapping[str, float]:
    """Return what the profile says of whole passes; nothing where it was not made of such."""
    kernel, _ = base.fit_for("*", "*")
    if kernel is None or base.host.per_layer_s <= 0.0:
        return {}
    shares = {name: kernel.parameters[name] for name in ("memory_fraction", "compute_fraction")}
    return {**shares, "per_layer_s": base.host.per_layer_s}


def _doubts(base: Runtime) -> Mapping[str, float]:
    """Return how far the profile may be off (standard deviations of logs); the form's own where untold."""
    kernel, _ = base.fit_for("*", "*")
    if kernel is None or not _centre(base):
        return {}
    return {
        name: float(np.hypot(error, VERSIONS))
        for name, error in kernel.standard_errors.items()
        if name in PRIOR
    }


def _band_of(base: Runtime, phase: str) -> tuple[float, float]:
    low, high = base.host.spread(phase)
    return (low, high) if low < high else (-_UNKNOWN, _UNKNOWN)


def _as_errors(band: tuple[float, float]) -> Array:
    """Return errors whose mean square is that of a band's standard deviation."""
    half = (band[1] - band[0]) / 2.0 / 1.2816
    return np.array([-half, half])


def _widened(band: tuple[float, float], moved: float) -> tuple[float, float]:
    low, high = band
    extra = 1.2816 * moved
    return -float(np.hypot(low, extra)), float(np.hypot(high, extra))


def _prior_decides(
    passes: Passes, centre: Mapping[str, float], doubts: Mapping[str, float]
) -> tuple[Mapping[str, float], tuple[str, ...]]:
    """Return how far passes of other sizes follow the prior, by phase, and which parameters do.

    As in `own_fits`: each centre is moved by what it may be off, and the rows are fitted again.
    """
    start = {name: middle for name, (middle, _) in PRIOR.items()} | dict(centre)
    base = fit_passes(passes, start)
    squares, untold = np.zeros(len(_SIZES) * len(passes.phase)), []
    others = [
        replace(passes, compute_s=size * passes.compute_s, memory_s=size * passes.memory_s) for size in _SIZES
    ]
    for name, (_, spread) in PRIOR.items():
        step = min(doubts.get(name, spread), spread)
        moved = fit_passes(passes, {**start, name: start[name] * float(np.exp(_NUDGE * step))})
        changes = [np.log(predicted_s(part, moved) / predicted_s(part, base)) for part in others]
        squares += (np.concatenate(changes) / _NUDGE) ** 2
        if abs(_followed(base, moved, name)) > _UNTOLD * _NUDGE * step:
            untold.append(name)
    phases = np.tile(passes.phase, len(_SIZES))
    return {
        phase: float(np.sqrt(np.mean(squares[phases == phase]))) if (phases == phase).any() else 0.0
        for phase in _PHASES
    }, tuple(untold)


def _followed(before: PassFit, after: PassFit, name: str) -> float:
    """Return how far a parameter moved (log), the median over formats where each has its own."""
    formats = [format for format, reached in before.by_format.items() if name in reached]
    if not formats:
        return float(np.log(after.shared[name] / before.shared[name]))
    moved = [np.log(after.by_format[key][name] / before.by_format[key][name]) for key in formats]
    return float(np.median(moved))


# ------------------------------------------------------------------ the host of served models


def _host_of(
    device: str, software: str, parts: list[Group], date: str, errors: Array
) -> tuple[list[OwnFit], Runtime]:
    """Return a fit of the host's times to decode iterations, and the profile with it."""
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
    before = _band_of(base, "decode")
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
    return [made], replace(base, device=device, software=software, date=date, host=host)


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
