"""Fits of somebody's own measurements, which start from the profile there is and narrow its interval."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitted_forms import FITTED_FORMS, form_of
from roofline.calibration.fits.fitting import Solution, fit, log_errors, predict, quantiles, refit, stored_fit
from roofline.calibration.fits.profile_files import profile_text
from roofline.calibration.measurements.measured_files import MeasuredFile, latency_column
from roofline.calibration.measurements.operator_kinds import Kernels, describe
from roofline.calibration.measurements.operator_tables import Measurements, completed
from roofline.calibration.predictions.operator_predictions import (
    operator_table,
    predict_operators,
    runtime_near,
)
from roofline.catalog.files import read_text, read_toml
from roofline.catalog.fits import load_runtime, softwares
from roofline.catalog.hardware import load_device
from roofline.catalog.sourced import validated
from roofline.errors import InvalidSpecError, RooflineError
from roofline.hardware.device import Device
from roofline.timing.runtime import KernelFit, Runtime

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "OWN",
    "VERSIONS",
    "OwnFit",
    "Refused",
    "combined",
    "fit_operators",
    "set_aside",
    "write_fits",
]

Array = NDArray[np.float64]

#: What sources of own fits start with.
OWN: Final = "own measurement"
#: Fewer shapes than that cannot tell a fixed time from a rate.
_FEWEST_SHAPES: Final = 4
#: Shapes whose work differs less than that are one shape.
_LEAST_SPAN: Final = 3.0
#: How many points the profile that a fit starts from counts as when intervals are put together.
_PRIOR_POINTS: Final = 4.0
#: Beyond that many points, four folds stand for leaving out each.
_MOST_LEFT_OUT: Final = 24
#: Farther than kin: an engine that the forms were not made for, such as a processor.
_LOOSE: Final = 3.0
#: A row's band where nothing was known before: a factor of two either way, an estimate.
_UNKNOWN: Final = float(np.log(2.0))
_NORMAL_DECILE: Final = 1.2816
#: A parameter that follows its prior by more than that share was not told by the rows.
_UNTOLD: Final = 0.5
#: How far software of another version lies from a profile of the device (standard deviation of logs): the
#: same kernel differs by 9 to 22 % between versions.
VERSIONS: Final = 0.15
#: Shares of a peak above which the peak itself is wrong; the largest of the shipped fits are 1.21 and 2.24.
_IMPOSSIBLE: Final = {"compute_fraction": 1.3, "memory_fraction": 2.5}
#: Plain passes over memory, which tell the elementwise fit its fraction of the bandwidth.
_STREAMS: Final = ("copy", "read", "add")


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnFit:
    """A fit to somebody's rows, beside what the profile said before.

    Parameters
    ----------
    kind, format : str
        Of the kernel; ``decode`` or ``prefill`` where whole passes were fitted.
    parameters : mapping of str to float
        As they are stored.
    before, after : float
        Median absolute relative error of the profile on the rows, and of the fit on rows left out.
    band_before, band : tuple of float
        Log-quantiles 10 % and 90 % of the profile and of the fit; None where there was no profile.
    untold : tuple of str
        Parameters that the rows say little of and that are therefore the profile's or the form's own.
    """

    device: str
    software: str
    kind: str
    format: str
    points: int
    parameters: Mapping[str, float]
    before: float
    after: float
    band_before: tuple[float, float] | None
    band: tuple[float, float]
    untold: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A group of rows that was not fitted, and why."""

    what: str
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Kernel:
    """A fit, and the kernel that is stored."""

    fit: OwnFit
    kernel: KernelFit


def fit_operators(
    file: MeasuredFile, date: str
) -> tuple[list[OwnFit], list[Refused], list[tuple[str, str, Runtime]]]:
    """Return a fit of every device, software, kind and format in an operator table, and the profiles.

    Parameters
    ----------
    file : MeasuredFile
        Rows that cannot be used are left out as in validation.
    date : str
        Written into every profile.

    Notes
    -----
    Parameters start from the profile's own, with the form's prior around them. Errors are those of
    rows left out of the fit; with n of them, the variance of the interval is theirs with weight n and
    the profile's with weight 4, so few rows narrow it little. What rows do not tell stays with the
    prior, and by how much shapes of a model would move if the prior were another is added in squares.
    """
    usable = predict_operators(file)
    table = operator_table(file)
    _, unit_s = latency_column(file.header)
    table["times_s"] = table["measured"] * unit_s
    reasons = Counter(str(reason).partition(":")[0] for reason in usable.skipped if reason)
    refused = [
        Refused(what=f"{count} row{'s' if count > 1 else ''}", reason=reason)
        for reason, count in reasons.most_common()
    ]
    fits = []
    table = table[usable.skipped == ""]
    table["fitted_as"] = table["op"].replace(dict.fromkeys(_STREAMS, "elementwise"))
    keys = ["device", "software", "fitted_as", "dtype", "kv_dtype", "operands"]
    for values, rows in table.groupby(keys, sort=True):
        what = " ".join(str(value) for value in values if value)
        try:
            fits.append(_fit_group(rows))
        except RooflineError as error:
            refused.append(Refused(what=what, reason=str(error)))
    return [made.fit for made in fits], refused, [*_merged(fits, date)]


def _fit_group(rows: "pd.DataFrame") -> _Kernel:
    first = rows.iloc[0]
    device = load_device(str(first["device"]))
    kernels = describe(
        device.value, str(first["fitted_as"]), str(first["dtype"]), str(first["kv_dtype"]), completed(rows)
    )
    if kernels.kind not in FITTED_FORMS:
        raise InvalidSpecError(f"{first['op']} has no form of its own to fit")
    shapes = {key: np.broadcast_to(value, len(rows)) for key, value in kernels.work.shape.items()}
    family = np.array(
        [crc32(repr([float(part[row]) for part in shapes.values()]).encode()) for row in range(len(rows))]
    )
    work = np.broadcast_to(kernels.work.bytes, len(rows)) + np.broadcast_to(kernels.work.flops, len(rows))
    _refuse_degenerate(family, work)
    data = Measurements(
        device=device.name,
        software=str(first["software"]) or "own",
        kind=kernels.kind,
        format=kernels.format,
        engine=kernels.engine,
        kernel=str(rows["kernel"].mode().iloc[0]),
        source=OWN,
        work=kernels.work,
        ceilings=kernels.ceilings,
        times_s=rows["times_s"].to_numpy(float),
        family=family.astype(np.int64),
    )
    base = _fit_there_is(device.name, data)
    start = _start(base, data)
    before = np.abs(np.exp(-log_errors(data, start)) - 1.0) if start else np.array([np.nan])
    solution = _solve(data, start)
    _refuse_impossible(solution)
    errors = _left_out(data, start)
    doubts = {} if base is None or start is None else base.standard_errors
    moved, untold = _prior_decides(data, start, solution, doubts, _model_shapes(device.value, rows))
    band = _band(errors, base, moved)
    kernel = stored_fit(
        data,
        solution,
        band,
        basis="measured",
        points=len(errors),
        source=f"{OWN}: {data.software}, {data.kernel}"
        + (f"; not told by the rows: {', '.join(untold)}" if untold else ""),
    )
    made = OwnFit(
        device=device.name,
        software=data.software,
        kind=kernel.kind,
        format=kernel.format,
        points=kernel.points,
        parameters=kernel.parameters,
        before=float(np.median(before)),
        after=float(np.median(np.abs(np.exp(-errors) - 1.0))),
        band_before=None if base is None else (base.low, base.high),
        band=band,
        untold=untold,
    )
    return _Kernel(fit=made, kernel=kernel)


def _fit_there_is(device: str, data: Measurements) -> KernelFit | None:
    """Return the fit of the nearest software that timed such kernels; None where nobody did.

    Fits of whole models timed no kernel, and their intervals are those of passes.
    """
    runtimes = [
        runtime_near(device, data.software),
        *(load_runtime(device, name) for name in softwares(device)),
    ]
    found = (runtime.fit_for(data.kind, data.format)[0] for runtime in runtimes)
    return next(
        (fit for fit in found if fit is not None and fit.kind == data.kind and fit.low < fit.high), None
    )


def _refuse_impossible(solution: Solution) -> None:
    """Refuse shares of a peak that no kernel has: the peak is wrong, and with it every other shape."""
    for name, most in _IMPOSSIBLE.items():
        share = solution.parameters.get(name, 0.0)
        if share > most:
            raise InvalidSpecError(
                f"the rows want {name} = {share:.3g}, above {most:g}: the device's peak is too low, or the "
                "times are of another unit or shape"
            )


def _refuse_degenerate(family: NDArray[Any], work: Array) -> None:
    shapes = len(set(family.tolist()))
    if shapes < _FEWEST_SHAPES:
        raise InvalidSpecError(f"{shapes} different shapes; want at least {_FEWEST_SHAPES}")
    span = float(work.max() / work.min())
    if span < _LEAST_SPAN:
        raise InvalidSpecError(
            f"the largest shape does {span:.2g} times the work of the smallest; want at least {_LEAST_SPAN:g}"
        )


def _start(base: KernelFit | None, data: Measurements) -> Solution | None:
    """Return the profile's parameters, where they are of the same form."""
    form = form_of(data.kind, data.format, data.engine)
    if base is None or base.form != form.form:
        return None
    return Solution(
        parameters={one.name: base.parameters.get(one.name, one.prior) for one in form.parameters},
        choices=base.choices,
        standard_errors={},
        loss=0.0,
    )


def _prior_scale(data: Measurements, start: Solution | None) -> float:
    return _LOOSE if start is None and data.engine != "gpu" else 1.0


def _solve(data: Measurements, start: Solution | None) -> Solution:
    if start is None:
        return fit(data, prior_scale=_prior_scale(data, start))
    return refit(data, start)


def _left_out(data: Measurements, start: Solution | None) -> Array:
    """Return the log error of each row under a fit without its shape."""
    names = np.unique(data.family)
    fold = np.searchsorted(names, data.family)
    if len(names) > _MOST_LEFT_OUT:
        fold = fold % 4
    errors = np.empty(len(fold))
    for part in np.unique(fold):
        held = fold == part
        errors[held] = log_errors(data.rows(held), _solve(data.rows(~held), start))
    return errors


#: Shapes of decoders of 1 to 70 billion parameters in decode, in small batches and in prefill.
_MODEL_SHAPES: Final[dict[str, list[dict[str, float]]]] = {
    "gemm": [
        {"m": rows, "n": outputs, "k": 4096.0}
        for rows in (1.0, 16.0, 256.0, 2048.0)
        for outputs in (4096.0, 14336.0)
    ],
    "attention_decode": [
        {"batch": batch, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "q_len": 1.0, "kv_len": keys}
        for batch in (1.0, 16.0)
        for keys in (512.0, 8192.0)
    ],
    "attention_prefill": [
        {"batch": 1.0, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "q_len": keys, "kv_len": keys}
        for keys in (512.0, 4096.0)
    ],
    **{op: [{"m": rows, "n": 4096.0} for rows in (1.0, 256.0, 4096.0)] for op in ("norm", "elementwise")},
}
_MESSAGES: Final = (2.0**14, 2.0**20, 2.0**26)


def _model_shapes(device: Device, rows: "pd.DataFrame") -> Kernels | None:
    """Return what kernels of models would do in the place of the rows; None where that is the rows' own."""
    import pandas as pd

    first = rows.iloc[0]
    op = str(first["fitted_as"])
    shapes = _MODEL_SHAPES.get(op, [])
    if np.isfinite(first["world"]):
        shapes = [{"world": float(first["world"]), "bytes": size} for size in _MESSAGES]
    if not shapes:
        return None
    table = completed(pd.DataFrame(shapes).assign(op=op, kernel=str(first["kernel"])))
    return describe(device, op, str(first["dtype"]), str(first["kv_dtype"]), table)


def _prior_decides(
    data: Measurements,
    start: Solution | None,
    solution: Solution,
    doubts: Mapping[str, float],
    shapes: Kernels | None,
) -> tuple[float, tuple[str, ...]]:
    """Return how far predictions follow the prior (root mean square of logs), and which parameters do.

    Parameters
    ----------
    doubts : mapping of str to float
        Standard errors of the profile's parameters; the spread of the prior where there is none.

    Notes
    -----
    The centre of each parameter's prior is moved in turn by what it may be off, and the rows are fitted
    again. A profile may be off by its standard error and by what versions of a software differ by.
    Were the fit linear, the squares of what a prediction moves would add up to the part of its variance
    that the prior, not the rows, decides.
    """
    form, scale = form_of(data.kind, data.format, data.engine), _prior_scale(data, start)
    centre = {parameter.name: parameter.prior for parameter in form.parameters}
    centre |= start.parameters if start else {}
    there = data if shapes is None else replace(data, work=shapes.work, ceilings=shapes.ceilings)

    def refitted(moved: Mapping[str, float]) -> Solution:
        return fit(data, centre={**centre, **moved}, choices=(solution.choices,), prior_scale=scale)

    def log_times(found: Solution) -> Array:
        return np.log(predict(form, there, found.parameters, found.choices, warm=False))

    base = refitted({})
    squares, untold = np.zeros(1), []
    for parameter in form.parameters:
        name, place = parameter.name, parameter.coordinate(centre[parameter.name])
        spread = parameter.spread * scale
        step = min(float(np.hypot(doubts[name], VERSIONS)), spread) if name in doubts else spread
        # Ratios that cannot pass 1 are moved away from it.
        step = -step if parameter.scale == "below_one" else step
        other = refitted({name: float(parameter.value(np.asarray(place + step)))})
        squares = squares + (log_times(other) - log_times(base)) ** 2
        followed = parameter.coordinate(other.parameters[name]) - parameter.coordinate(base.parameters[name])
        if abs(followed) > _UNTOLD * abs(step):
            untold.append(name)
    return float(np.sqrt(np.mean(squares))), tuple(untold)


def _band(errors: Array, base: KernelFit | None, moved: float) -> tuple[float, float]:
    """Return log-quantiles from rows left out, the profile there was, and what the prior decides."""
    before = (-_UNKNOWN, _UNKNOWN) if base is None else (base.low, base.high)
    return combined(quantiles(errors), len(errors), before, moved)


def combined(
    own: tuple[float, float], rows: int, before: tuple[float, float], moved: float
) -> tuple[float, float]:
    """Return log-quantiles of few rows, drawn to those there were, with what the prior decides.

    Parameters
    ----------
    own, before : tuple of float
        Log-quantiles 10 % and 90 % of `rows` rows left out, and of the profile, which counts as 4 rows.
    moved : float
        Standard deviation of logs of what the prior decides; it is added in squares.
    """
    low, high = (
        np.sqrt(
            (rows * new**2 + _PRIOR_POINTS * old**2) / (rows + _PRIOR_POINTS) + (_NORMAL_DECILE * moved) ** 2
        )
        for new, old in zip(own, before, strict=True)
    )
    return -float(low), float(high)


def _merged(fits: Iterable[_Kernel], date: str) -> Iterator[tuple[str, str, Runtime]]:
    """Yield device, software and profile: what there was, with own fits in the place of its kernels."""
    groups: dict[tuple[str, str], list[KernelFit]] = {}
    for made in fits:
        groups.setdefault((made.fit.device, made.fit.software), []).append(made.kernel)
    for (device, software), own in groups.items():
        base = runtime_near(device, software)
        kept = {(kernel.kind, kernel.format): kernel for kernel in base.kernels}
        kept |= {(kernel.kind, kernel.format): kernel for kernel in own}
        yield (
            device,
            software,
            replace(base, device=device, software=software, date=date, kernels=tuple(kept.values())),
        )


@contextmanager
def set_aside(folder: Path) -> Iterator[None]:
    """Hide profiles below ``folder/fits`` that hold own fits, so that no row counts as its own prior.

    They come back at the end where nothing was written in their place; kernels and host times that were
    not fitted anew come back in what was.
    """
    for hidden in (folder / "fits").glob(f"*/*{_HIDDEN}"):
        shown = hidden.with_suffix("")
        if not shown.exists():  # a run was killed in between
            hidden.rename(shown)
    own = [path for path in (folder / "fits").glob("*/*.toml") if f'"{OWN}' in read_text(path)]
    for path in own:
        path.rename(path.with_name(path.name + _HIDDEN))
    try:
        yield
    finally:
        for path in own:
            hidden = path.with_name(path.name + _HIDDEN)
            if path.exists():
                path.write_text(profile_text(_with_earlier(_read(path), _read(hidden))), encoding="utf-8")
                hidden.unlink()
            else:
                hidden.rename(path)


_HIDDEN: Final = ".earlier"


def _read(path: Path) -> Runtime:
    return validated(Runtime, read_toml(path), path.name)


def _with_earlier(runtime: Runtime, earlier: Runtime) -> Runtime:
    """Return a profile with the own fits of an earlier one where it has none of its own."""
    new = {(kernel.kind, kernel.format) for kernel in runtime.kernels if kernel.source.startswith(OWN)}
    kept = [kernel for kernel in earlier.kernels if kernel.source.startswith(OWN)]
    kernels = {(kernel.kind, kernel.format): kernel for kernel in runtime.kernels}
    kernels |= {
        (kernel.kind, kernel.format): kernel for kernel in kept if (kernel.kind, kernel.format) not in new
    }
    back = earlier.host.source.startswith(OWN) and not runtime.host.source.startswith(OWN)
    return replace(runtime, kernels=tuple(kernels.values()), host=earlier.host if back else runtime.host)


def write_fits(profiles: Iterable[tuple[str, str, Runtime]], folder: Path) -> Mapping[str, Path]:
    """Write profiles below ``folder/fits`` and return where, by device and software."""
    written = {}
    for device, software, runtime in profiles:
        path = folder / "fits" / device / f"{software.partition(' ')[0]}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(profile_text(runtime), encoding="utf-8")
        written[f"{device} {software}"] = path
    return written
