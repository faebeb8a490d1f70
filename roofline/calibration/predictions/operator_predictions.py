"""Predictions for tables of measured operators, row by row, with what speaks against a row."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.measurements.measured_files import MeasuredFile, latency_column, read_measured_file
from roofline.calibration.measurements.operator_kinds import Kernels, describe
from roofline.calibration.measurements.operator_tables import (
    beside_the_kernel,
    completed,
    operator_of,
    software_of,
    version,
)
from roofline.calibration.predictions.predictions import Predictions
from roofline.catalog.files import fold
from roofline.catalog.fits import load_runtime, softwares
from roofline.catalog.hardware import load_device
from roofline.errors import RooflineError, nearest
from roofline.timing.forms import kernel_time
from roofline.timing.runtime import KernelFit, Runtime

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LARGEST", "NEEDED", "operator_table", "predict_operators", "runtime_near"]

Array = NDArray[np.float64]

_ATTENTION: Final = ("batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len")
_MESSAGE: Final = ("world", "bytes")
#: Columns without which a row of an operator says nothing; each holds numbers from 1.
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "gemm": ("m", "n", "k"),
    "gemm_grouped": ("m", "n", "k", "experts", "topk", "tp", "ep"),
    "attention_prefill": _ATTENTION,
    "attention_decode": _ATTENTION,
    "mla_prefill": ("batch", "heads", "q_len", "kv_len"),
    "mla_decode": ("batch", "heads", "kv_len"),
    **dict.fromkeys(("allreduce", "allgather", "reducescatter", "alltoall", "sendrecv"), _MESSAGE),
    **dict.fromkeys(("moe_dispatch", "moe_combine"), _MESSAGE),
    **dict.fromkeys(("norm", "elementwise", "add", "quantize", "copy", "read"), ("m", "n")),
    "attention_encoder": _ATTENTION,
    "bmm": ("m", "n", "k", "batch"),
}
#: No real amount exceeds it: a slip of the finger.
LARGEST: Final = 1e12
_NUMBERS: Final = sorted({name for names in NEEDED.values() for name in names} | {"window"})

#: A loop can beat memory only if it finds its operands in the cache; clocks above base add little.
_FASTER_THAN_FLOOR: Final = 0.9
_CACHES_THAT_HOLD_NOTHING: Final = 3.0
#: Tables do not say whether an elementwise kernel reads one operand or two; predictions assume two.
_FEWEST_PLANES: Final = 2.0 / 3.0
#: No kernel is that far from its prediction: its unit is another one.
_OTHER_UNIT: Final = 300.0
#: What a launch takes at most where nothing measured on the device says so, and a message that goes
#: through the host.
_FIXED_S: Final = 100e-6
_WIDENED_BY: Final = 0.1  # as in roofline.timing.cost: each step back from an exact fit


def predict_operators(file: MeasuredFile) -> Predictions:
    """Return predictions for every usable row of an operator table.

    Notes
    -----
    Software and version come from ``sources.csv`` beside the file, else from a column ``software``;
    rows without either use the device's default profile. Benchmarks repeat a kernel on the same
    operands, so operands that fit in the last-level cache are read from there (the fits' cache
    term), which no prediction of a whole model does; rows whose ``operands`` were ``rotated`` do not. A
    row of attention names the kernel that ran, so it is timed with that kernel's fit, where a model's
    prediction chooses the faster. The profile is the one nearest in version to the row's software.
    """
    import pandas as pd

    name, unit_s = latency_column(file.header)
    table = operator_table(file)
    measured = table["measured"].to_numpy(float)
    result = Predictions.empty(
        measured=measured,
        seconds=measured * unit_s,
        keys=pd.DataFrame(
            {
                "device": table["device"],
                "software": table["stated"].where(table["software"] == "", table["software"]),
                "measured": table["op"],
                "format": table["dtype"].where(
                    table["kv_dtype"] == "", table["dtype"] + " on " + table["kv_dtype"] + " cache"
                ),
            }
        ),
    )
    result.skip(file.faults)
    result.skip(_faults(file, table, name))
    result.skip(beside_the_kernel(table["stated"], table["op"], table["kernel"], table["qc"], table["world"]))
    for index, rows in _groups(table[result.skipped == ""]):
        _predict_group(result, index, rows, unit_s)
    _check(result, table, name)
    return result


def operator_table(file: MeasuredFile) -> "pd.DataFrame":
    """Return the cells of an operator table as numbers and plain labels; unreadable numbers are nan."""
    import pandas as pd

    name, _ = latency_column(file.header)
    numbers = {
        column: pd.to_numeric(file.column(column), errors="coerce").to_numpy(float) for column in _NUMBERS
    }
    table = pd.DataFrame(
        {
            **numbers,
            **{column: file.column(column) for column in ("kernel", "dist", "qc", "operands", "src_id")},
            "op": file.column("op").str.casefold(),
            "dtype": file.column("dtype").str.casefold(),
            "kv_dtype": file.column("kv_dtype").str.casefold(),
            "device": _devices(file),
            "measured": pd.to_numeric(file.column(name), errors="coerce").to_numpy(float),
        }
    )
    table["op"] = operator_of(table["op"], table["kernel"])
    table["stated"] = _stated_software(file)
    table["software"] = table["stated"].map({text: software_of(text) for text in table["stated"].unique()})
    return table


def _devices(file: MeasuredFile) -> "pd.Series[str]":
    """Return the device of each row; a table without that column is named like its device."""
    named = file.column("device")
    return named.where(named != "", file.path.stem)


def _stated_software(file: MeasuredFile) -> "pd.Series[str]":
    import pandas as pd

    own = file.column("software")
    beside = file.path.parent / "sources.csv"
    if "src_id" not in file.cells or not beside.is_file():
        return own
    sources = read_measured_file(beside)
    if sources.schema != "sources":
        return own
    known: Any = pd.Series(sources.column("software").to_numpy(), index=sources.column("src_id").to_numpy())
    known = known[~known.index.duplicated()]
    found = file.column("src_id").map(known).fillna("").astype(object)
    return found.where(found != "", own)


def _faults(file: MeasuredFile, table: "pd.DataFrame", latency: str) -> NDArray[np.object_]:
    """Return why rows cannot be read, first reason found."""
    faults = np.full(len(table), "", dtype=object)

    def fault(where: Any, reason: Any) -> None:
        open_rows = np.asarray(where, dtype=bool) & (faults == "")
        faults[open_rows] = reason[open_rows] if isinstance(reason, np.ndarray) else reason

    text = file.column(latency)
    measured = table["measured"].to_numpy(float)
    fault(text == "", f"{latency} is missing")
    fault(np.isnan(measured), np.array([f"{latency} is not a number: {cell!r}" for cell in text], object))
    fault(~np.isfinite(measured), f"{latency} is not finite")
    fault(measured <= 0, f"{latency} is not above 0")
    fault(measured > LARGEST, f"{latency} is above {LARGEST:g}")
    unknown = ~table["op"].isin(NEEDED)
    reasons = {op: f"operator {op!r} is not predicted{nearest(op, NEEDED)}" for op in table["op"].unique()}
    fault(unknown, table["op"].map(reasons).to_numpy(object))
    for op, names in NEEDED.items():
        own = (table["op"] == op).to_numpy()
        if own.any():
            for name in names:
                numbers = table[name].to_numpy(float)
                usable = (numbers >= 1) & (numbers <= LARGEST)
                fault(own & ~usable, f"{op} needs {name} from 1 to {LARGEST:g}")
    window = file.column("window")
    fault((window != "") & ~table["window"].between(0, LARGEST), "window is not a number from 0")
    fault(table["kernel"].str.contains("_minus_", regex=False), "difference of two kernels")
    repeated = file.cells.duplicated(keep="first").to_numpy()
    fault(repeated, "repeats an earlier row")
    return faults


def _groups(table: "pd.DataFrame") -> Iterator[tuple[NDArray[np.int64], "pd.DataFrame"]]:
    keys = ["device", "software", "op", "dtype", "kv_dtype", "operands"]
    for _, rows in table.groupby(keys, sort=False):
        yield rows.index.to_numpy(), rows


def _predict_group(
    result: Predictions, index: NDArray[np.int64], rows: "pd.DataFrame", unit_s: float
) -> None:
    first = rows.iloc[0]
    try:
        device = load_device(str(first["device"]))
        kernels = describe(
            device.value, str(first["op"]), str(first["dtype"]), str(first["kv_dtype"]), completed(rows)
        )
        runtime = runtime_near(device.name, str(first["software"]))
    except RooflineError as error:
        result.skipped[index] = str(error)
        return
    ideal_s = _ideal(kernels)
    timed = _timed(kernels, runtime, str(first["software"]))
    if timed is None:
        result.fill(index, predicted=ideal_s, ideal=ideal_s, low=ideal_s, high=ideal_s, unit=unit_s)
        result.basis[index] = "datasheet"
    else:
        time_s, fit, steps = timed
        result.fill(
            index,
            predicted=time_s,
            ideal=ideal_s,
            low=time_s * np.exp(fit.low - _WIDENED_BY * steps),
            high=time_s * np.exp(fit.high + _WIDENED_BY * steps),
            unit=unit_s,
        )
        result.basis[index] = fit.basis if fit.kind in (kernels.kind, "*") else "transferred"
        result.profile[index] = runtime.software
    cold = kernels.work.bytes > _CACHES_THAT_HOLD_NOTHING * kernels.ceilings.cache_bytes
    compute_s = kernels.work.flops / kernels.ceilings.flops_per_s
    least_s = ideal_s * (_FEWEST_PLANES if kernels.kind == "elementwise" else 1.0)
    result.floor[index] = np.where(cold, least_s, compute_s) / unit_s


def _ideal(kernels: Kernels) -> Array:
    work, ceilings = kernels.work, kernels.ceilings
    ideal = np.maximum(work.flops / ceilings.flops_per_s, work.bytes / ceilings.bytes_per_s)
    return np.asarray(ideal, dtype=np.float64)


def _timed(kernels: Kernels, runtime: Runtime, software: str) -> tuple[Array, KernelFit, int] | None:
    """Return the fitted time, the fit of the row's own kind and its steps from an exact match.

    A fit of other software, or of another version, is one step away: of 31,000 rows on four devices
    timed with the next version's profile, 66 % lay inside its band and 79 % inside one step.
    """
    fit, steps = runtime.fit_for(kernels.kind, kernels.format)
    if kernels.resembles and (fit is None or fit.kind != kernels.kind):
        fit, steps = runtime.fit_for(kernels.resembles, kernels.format)
        steps += 1
    if fit is None:
        return None
    if fit.basis == "measured" and version(software) and f": {software}," not in fit.source:
        steps += 1
    time_s = kernel_time(
        fit.form,
        work=kernels.work,
        ceilings=kernels.ceilings,
        parameters=fit.parameters,
        choices=fit.choices,
        warm=True,
    )
    floor_s = kernels.work.flops / kernels.ceilings.flops_per_s
    return np.maximum(np.asarray(time_s, dtype=np.float64), floor_s), fit, steps


def runtime_near(device: str, software: str) -> Runtime:
    """Return the profile of a device whose software is nearest to the one named.

    The same framework at the nearest version; the device's default where there is none.
    """
    wanted = fold(software.partition(" ")[0])
    known = softwares(device)
    same = [name for name in known if wanted and fold(_RELEASE.sub("", name)) == wanted]
    same = same or [name for name in known if wanted and fold(name.partition("_")[0]) == wanted]
    if len(same) < 2 or not version(software):
        return load_runtime(device, next(iter(same), None))
    profiles = (load_runtime(device, name) for name in same)
    return min(profiles, key=lambda profile: _distance(profile.software, software))


#: What follows a framework in the name of a profile of one version.
_RELEASE: Final = re.compile(r"_\d.*$")


def _distance(profile: str, software: str) -> list[int]:
    had, asked = version(profile), version(software)
    size = max(len(had), len(asked))
    padded = zip(had + [0] * (size - len(had)), asked + [0] * (size - len(asked)), strict=True)
    return [abs(first - second) for first, second in padded]


def _check(result: Predictions, table: "pd.DataFrame", latency: str) -> None:
    """Skip rows that are faster than physics allows, or so far off that their unit is another one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        launched = (result.basis != "measured") | (table["world"] >= 1).to_numpy()
        fixed = np.where(launched, _FIXED_S * result.measured / result.seconds, 0.0)
        ratio = result.measured / (result.predicted + fixed)
        impossible = result.measured < _FASTER_THAN_FLOOR * result.floor
    used = result.skipped == ""
    for where, reason in (
        (impossible, "is below the floor: {floor:.3g} at datasheet rates"),
        (ratio > _OTHER_UNIT, "seems to be in another unit: {ratio:.0f} times the prediction"),
    ):
        for row in np.flatnonzero(used & where & (result.skipped == "")):
            result.skipped[row] = f"{latency} " + reason.format(floor=result.floor[row], ratio=ratio[row])
