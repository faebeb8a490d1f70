"""Reached peaks and host time from whole-model speeds at batch 1, where no kernel was timed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze
from roofline.calibration.fits.fitting import robust, rounded
from roofline.calibration.measurements.measured_files import MeasuredFile, read_measured_file
from roofline.calibration.predictions.whole_model_predictions import (
    one_pass,
    predict_whole_models,
    runtimes,
    whole_model_groups,
)
from roofline.catalog.files import read_toml
from roofline.catalog.fits import device_family
from roofline.catalog.hardware import load_device
from roofline.scenario import Scenario
from roofline.timing.runtime import HostTime, KernelFit, Runtime, datasheet_runtime

__all__ = [
    "PRIOR",
    "PassFit",
    "Passes",
    "alone",
    "fit_passes",
    "multiplied_in",
    "pass_runtime",
    "passes_of",
    "predicted_s",
    "read_passes",
]

Array = NDArray[np.float64]
Timed = Literal["decode", "prefill"]

#: Metrics of one sequence alone -> the phase they time.
_PHASE_OF: Final[dict[str, Timed]] = {
    "decode_tok_s": "decode", "tpot_ms": "decode", "prefill_tok_s": "prefill", "ttft_ms": "prefill",
}  # fmt: skip
#: Shorter prompts show launches and tokenisers more than products.
_LONG_PROMPT: Final = 64.0
_FEWEST_ROWS: Final = 2
#: Centre and spread of the logarithms of reached bandwidth, reached peak and host time per layer, over
#: the engines of docs/decisions/0003-latency-forms.md.
PRIOR: Final[dict[str, tuple[float, float]]] = {
    "memory_fraction": (0.75, 0.25),
    "compute_fraction": (0.4, 0.7),
    "per_layer_s": (8e-5, 0.8),
}
#: By how much a format reaches another share of the bandwidth, of the peak (standard deviations of logs).
_FORMAT_PRIOR: Final = {"memory_fraction": 0.12, "compute_fraction": 0.5}
#: What software multiplies 16-bit operands in, by the maker of the engine; every other maker's is "".
#: llama.cpp asks its library for 16-bit sums, which GeForce parts form twice as fast (ggml-cuda.cu,
#: CUBLAS_COMPUTE_16F). On Apple it multiplies on the lanes, at their fp32 rate: builds turn the neural
#: accelerators off where the tensor interface does not compile (ggml-org/llama.cpp pull request 27461).
_RUNS_AS: Final[dict[str, dict[str, str]]] = {"llama.cpp": {"": "fp16.fp16", "apple": "fp32.fp32"}}
_SIXTEEN_BITS: Final = ("bf16", "fp16")
#: Close to the plain maximum.
_EXPONENT: Final = 4.0
#: As many rows of other fits as stand behind the interval of one with few rows of its own.
_SHARED_ROWS: Final = 4.0
_MANY_ROWS: Final = 30
_NORMAL_DECILE: Final = 1.2816
_LARGEST_ERROR: Final = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Passes:
    """Measured passes of one software on one device, and the kernels each of them launches.

    Parameters
    ----------
    compute_s, memory_s, launches : ndarray
        Of every kernel of every pass: datasheet times of a launch [s], and launches.
    format : ndarray of str
        Weight format of every kernel that multiplies with weights, empty elsewhere.
    first : ndarray of int
        Where the kernels of each pass begin.
    model, phase, origin : ndarray of str
        Of every pass: what is held out together; ``decode`` or ``prefill``; the table it is from.
    layers, measured_s : ndarray
        Of every pass: decoder layers; measured time [s].
    grouped : ndarray of bool
        Of every kernel: whether it multiplies with the weights of experts.
    cold : ndarray of bool
        Of every pass: whether it was the first of its process.
    fitted : ndarray of bool
        Of every pass: whether it decides parameters; others, of several sequences, are scored only.
    engine : str
        Engine of the device.
    """

    device: str
    software: str
    source: str
    compute_s: Array
    memory_s: Array
    launches: Array
    format: NDArray[np.object_]
    first: NDArray[np.int64]
    model: NDArray[np.object_]
    phase: NDArray[np.object_]
    origin: NDArray[np.object_]
    layers: Array
    measured_s: Array
    grouped: NDArray[np.bool_]
    cold: NDArray[np.bool_]
    fitted: NDArray[np.bool_]
    engine: str

    @property
    def framework(self) -> str:
        """Software without its version."""
        return self.software.partition(" ")[0]

    @property
    def formats(self) -> tuple[str, ...]:
        """Weight formats that have something to be told apart from."""
        found = tuple(sorted(set(self.format) - {""}))
        return found if len(found) > 1 else ()


@dataclass(frozen=True, kw_only=True, eq=False)
class PassFit:
    """Reached shares of the peaks and host time, with held-out errors.

    Parameters
    ----------
    shared : mapping of str to float
        memory_fraction, compute_fraction, per_layer_s.
    by_format : mapping of format to mapping
        memory_fraction and compute_fraction of products in that format.
    standard_errors : mapping of str to float
        Of the logarithms of `shared`.
    errors : ndarray
        Logarithm of measured over predicted time of every pass, its model left out of the fit.
    """

    passes: Passes
    shared: Mapping[str, float]
    by_format: Mapping[str, Mapping[str, float]]
    standard_errors: Mapping[str, float]
    errors: Array

    def errors_of(self, phase: str) -> Array:
        """Return the held-out errors of one phase."""
        found: Array = self.errors[self.passes.phase == phase]
        return found


def multiplied_in(framework: str, maker: str) -> dict[str, str]:
    """Return the format and accumulator that a framework multiplies operand formats in.

    Parameters
    ----------
    maker : str
        Of the engine, as `device_family` begins.
    """
    by_maker = _RUNS_AS.get(framework, {})
    chosen = by_maker.get(maker, by_maker.get("", ""))
    return dict.fromkeys(_SIXTEEN_BITS, chosen) if chosen else {}


# ------------------------------------------------------------------ reading


def read_passes(folder: Path, campaign: Path) -> list[Passes]:
    """Return the passes that a campaign file finds in a folder of end-to-end tables.

    Sets of one device and framework are put together; a row belongs to the first set that takes it.
    Models that do not fit in the device's memory are left out: something else than the device is timed.

    Raises
    ------
    FileFormatError
        If the campaign or a table cannot be read.
    """
    tables: dict[str, tuple[MeasuredFile, NDArray[np.bool_]]] = {}
    found: dict[tuple[str, str], list[tuple[Mapping[str, Any], Scenario, Any]]] = {}
    for part in read_toml(campaign)["set"]:
        name = part["table"]
        if name not in tables:
            file = read_measured_file(folder / f"{name}.csv")
            tables[name] = file, predict_whole_models(file).skipped == ""
        file, free = tables[name]
        own = free & runtimes(file).str.startswith(part["runtime"]).to_numpy()
        if "rows" in part:
            own &= file.column("device").isin(part["rows"]).to_numpy()
        if "models" in part:
            own &= file.column("model").isin(part["models"]).to_numpy()
        tables[name] = file, free & ~own
        if "left_out" in part:
            continue
        for scenario, rows in whole_model_groups(file, own):
            if not np.all(analyze(scenario, intervals=False, tables=()).fits):
                continue
            rows = rows.assign(source=file.column("source")[rows.index].str.partition(":")[0])
            for _, row in rows.iterrows():
                if alone(row) or _together(row):
                    key = row["device_name"], part["software"].partition(" ")[0]
                    found.setdefault(key, []).append((part, scenario, row))
    return [
        passes_of(rows) for rows in found.values() if sum(alone(row) for _, _, row in rows) >= _FEWEST_ROWS
    ]


def alone(row: Any) -> bool:
    """Return whether a row of a group is of one sequence on one device, and long enough to show kernels."""
    phase = _PHASE_OF.get(row["metric"])
    long = phase == "decode" or row["prompt_len"] >= _LONG_PROMPT
    return phase is not None and bool(long and row["batch"] == 1.0 and row["device_count"] == 1.0)


def _together(row: Any) -> bool:
    """Return whether a row is of the decode of several sequences on one device."""
    decodes = _PHASE_OF.get(row["metric"]) == "decode"
    return bool(decodes and row["batch"] > 1.0 and row["device_count"] == 1.0)


def passes_of(rows: list[tuple[Mapping[str, Any], Scenario, Any]]) -> Passes:
    """Return the passes that rows timed.

    Parameters
    ----------
    rows : list of tuple
        What says the software, the scenario of the row's group, and the row with its source.
    """
    kernels: list[tuple[float, float, float, str, bool]] = []
    first, model, phase, layers, measured, cold = [], [], [], [], [], []
    plan = rows[0][0]
    framework = plan["software"].partition(" ")[0]
    maker = device_family(rows[0][1].deployment.system.device).partition("_")[0]
    for part_plan, scenario, row in rows:
        timed = _PHASE_OF[row["metric"]]
        runtime = datasheet_runtime(scenario.deployment.runtime.device)
        runtime = replace(runtime, runs_as=multiplied_in(framework, maker))
        bare = replace(scenario.deployment, runtime=runtime)
        report = analyze(one_pass(replace(scenario, deployment=bare), row, timed), intervals=False, tables=())
        first.append(len(kernels))
        for part in (report.decode if timed == "decode" else report.prefill).rows:
            product = part.operator.kind in ("gemm", "grouped_gemm")
            format = "bf16" if part.operator.format == "fp16" else part.operator.format
            kernels.append(
                (
                    float(part.cost.compute_s),
                    float(part.cost.memory_s),
                    float(part.launches),
                    format if product else "",
                    part.operator.kind == "grouped_gemm",
                )
            )
        cold.append(timed == "prefill" and bool(part_plan.get("cold", False)))
        model.append(bare.model.name)
        phase.append(timed)
        layers.append(float(sum(bare.model.layer_counts().values())))
        value = float(row["value_number"])
        tokens = float(row["prompt_len"]) if timed == "prefill" else float(row["batch"])
        measured.append(
            tokens / value if row["metric"].endswith("tok_s") else value * float(row["unit_size"])
        )
    compute_s, memory_s, launches, format_of, grouped = zip(*kernels, strict=True)
    device = rows[0][2]["device_name"]
    return Passes(
        device=device,
        software=plan["software"],
        source=", ".join(sorted({str(row["source"]) for _, _, row in rows})),
        compute_s=np.array(compute_s),
        memory_s=np.array(memory_s),
        launches=np.array(launches),
        format=np.array(format_of, dtype=object),
        first=np.array(first),
        model=np.array(model, dtype=object),
        phase=np.array(phase, dtype=object),
        origin=np.array([part.get("table", "") for part, _, _ in rows], dtype=object),
        layers=np.array(layers),
        measured_s=np.array(measured),
        grouped=np.array(grouped),
        cold=np.array(cold),
        fitted=np.array([float(row["batch"]) == 1.0 for _, _, row in rows]),
        engine=next(iter(rows[0][1].deployment.system.device.engine)),
    )


# ------------------------------------------------------------------ fitting


def _predicted_s(passes: Passes, point: Array, formats: tuple[str, ...]) -> Array:
    """Return the time of every pass; `point` holds logarithms, formats relative to what is shared."""
    memory, compute = np.full(len(passes.format), point[0]), np.full(len(passes.format), point[1])
    for index, name in enumerate(formats):
        own = passes.format == name
        memory[own] += point[3 + 2 * index]
        compute[own] += point[4 + 2 * index]
    slow_memory, slow_compute = passes.memory_s * np.exp(-memory), passes.compute_s * np.exp(-compute)
    longer, shorter = np.maximum(slow_memory, slow_compute), np.minimum(slow_memory, slow_compute)
    share = shorter / np.maximum(longer, 1e-300)
    kernel_s = longer * (1.0 + share**_EXPONENT) ** (1.0 / _EXPONENT)
    kernel_s = np.maximum(kernel_s, np.maximum(passes.memory_s, passes.compute_s))
    device_s: Array = np.add.reduceat(passes.launches * kernel_s, passes.first)
    whole_s: Array = device_s + np.exp(point[2]) * passes.layers
    return whole_s


def predicted_s(passes: Passes, fit: PassFit) -> Array:
    """Return the time of every pass under a fit [s]."""
    point = [float(np.log(fit.shared[name])) for name in PRIOR]
    for reached in fit.by_format.values():
        point += [float(np.log(reached[name] / fit.shared[name])) for name in _FORMAT_PRIOR]
    return _predicted_s(passes, np.array(point), tuple(fit.by_format))


def _solved(
    passes: Passes, keep: NDArray[np.bool_], formats: tuple[str, ...], middle: Mapping[str, float]
) -> tuple[Array, Array]:
    """Return the best point and its standard errors, from the passes that are kept."""
    from scipy.optimize import least_squares

    centre = np.concatenate((np.log([middle[name] for name in PRIOR]), np.zeros(2 * len(formats))))
    width = np.array([spread for _, spread in PRIOR.values()] + [*_FORMAT_PRIOR.values()] * len(formats))

    def residuals(point: Array) -> Array:
        missed = robust(np.log(_predicted_s(passes, point, formats) / passes.measured_s)[keep])
        return np.concatenate((missed, (point - centre) / width))

    found = least_squares(residuals, centre)
    slopes = np.asarray(found.jac)
    variance = max(2.0 * found.cost / max(int(keep.sum()), 1), 1.0)
    return np.asarray(found.x), np.sqrt(np.diag(np.linalg.pinv(slopes.T @ slopes)) * variance)


def fit_passes(passes: Passes, centre: Mapping[str, float] | None = None) -> PassFit:
    """Return the reached shares of peak and bandwidth and the host time per layer.

    Parameters
    ----------
    centre : mapping of str to float, optional
        Values to centre the prior on instead of the middle of all engines.

    Notes
    -----
    ``t = sum over kernels of | F / (e_c P), B / (e_m W) |_4 + c layers``, no kernel below its
    datasheet bound. Products with weights reach shares of their own in each format, where there are
    several. Soft-L1 on log ratios with a Gaussian prior on all logarithms: with three rows the prior
    decides half of the result. Without prompts e_c stays at its prior, an estimate.

    References
    ----------
    docs/decisions/0003-latency-forms.md (why a sum, and why per layer).
    """
    formats = passes.formats
    middle = {name: value for name, (value, _) in PRIOR.items()} | dict(centre or {})
    everything = np.ones(len(passes.measured_s), dtype=bool)
    point, errors = _solved(passes, everything, formats, middle)
    models = sorted(set(passes.model))
    held_out = np.empty(len(passes.measured_s))
    # With one model only, each row is left out in turn.
    folds = [passes.model == name for name in models]
    if len(models) == 1:
        folds = [*np.eye(len(held_out), dtype=bool)]
    for own in folds:
        other = _solved(passes, ~own, formats, middle)[0]
        held_out[own] = np.log(passes.measured_s / _predicted_s(passes, other, formats))[own]
    return PassFit(
        passes=passes,
        shared=dict(zip(PRIOR, map(float, np.exp(point[:3])), strict=True)),
        by_format={
            name: {
                "memory_fraction": float(np.exp(point[0] + point[3 + 2 * index])),
                "compute_fraction": float(np.exp(point[1] + point[4 + 2 * index])),
            }
            for index, name in enumerate(formats)
        },
        standard_errors=dict(zip(PRIOR, map(float, errors[:3]), strict=True)),
        errors=held_out,
    )


# ------------------------------------------------------------------ lending


@dataclass(frozen=True, kw_only=True)
class _Middle:
    shared: Mapping[str, float]
    by_format: Mapping[str, Mapping[str, float]]


def _middle(fits: list[PassFit]) -> _Middle:
    """Return the medians over the fits that saw a phase; formats differ from them by median ratios."""

    def seen(name: str) -> list[PassFit]:
        phase = "prefill" if name == "compute_fraction" else "decode"
        return [fit for fit in fits if phase in fit.passes.phase] or fits

    shared = {name: _median(fit.shared[name] for fit in seen(name)) for name in PRIOR}

    def reached(format: str, name: str) -> float:
        own = [fit for fit in seen(name) if format in fit.by_format]
        return shared[name] * _median(fit.by_format[format][name] / fit.shared[name] for fit in own)

    formats = sorted({format for fit in fits for format in fit.by_format})
    return _Middle(
        shared=shared,
        by_format={format: {name: reached(format, name) for name in _FORMAT_PRIOR} for format in formats},
    )


def _median(values: Iterable[float]) -> float:
    """Return the median on a log axis; 1 of nothing."""
    logs = np.log([*values])
    return float(np.exp(np.median(logs))) if len(logs) else 1.0


def _spread(own: Array, everyone: Array) -> tuple[float, float]:
    """Return log-quantiles of errors; those of few rows are drawn towards everyone's."""
    if len(own) >= _MANY_ROWS:
        low, high = np.quantile(own, (0.1, 0.9))
        return min(float(low), 0.0), max(float(high), 0.0)
    squares = np.sum(np.clip(own, -_LARGEST_ERROR, _LARGEST_ERROR) ** 2)
    shared = np.mean(np.clip(everyone, -_LARGEST_ERROR, _LARGEST_ERROR) ** 2)
    half = _NORMAL_DECILE * float(np.sqrt((squares + _SHARED_ROWS * shared) / (len(own) + _SHARED_ROWS)))
    return -half, half


def pass_runtime(
    fits: list[PassFit],
    *,
    errors: Mapping[str, Array],
    everyone: Mapping[str, Array],
    device: str,
    software: str,
    date: str,
) -> Runtime:
    """Return the runtime of one fit, or the median of several where a device has none of its own.

    Parameters
    ----------
    errors, everyone : mapping of phase to ndarray
        Logarithmic errors its interval is taken from; those of all fits alike.
    """
    first = fits[0]
    measured = len(fits) == 1 and first.passes.device == device
    middle = _middle(fits)
    names = sorted({fit.passes.device for fit in fits})
    source = first.passes.source if measured else "carried over from " + ", ".join(names)
    maker = device_family(load_device(first.passes.device).value, first.passes.engine).partition("_")[0]
    unseen = "" if any("prefill" in fit.passes.phase for fit in fits) else "; compute_fraction is an estimate"
    points = sum(len(fit.passes.measured_s) for fit in fits)
    source = f"{source}: whole-model speeds at batch 1{unseen}"
    deviations = {
        name: first.standard_errors[name]
        if len(fits) == 1
        else float(np.std(np.log([fit.shared[name] for fit in fits]), ddof=1))
        for name in PRIOR
    }

    def kernel(kind: str, format: str, reached: Mapping[str, float]) -> KernelFit:
        return KernelFit(
            kind=kind,
            format=format,
            form="overhead_roofline",
            parameters={
                "compute_fraction": rounded(reached["compute_fraction"]),
                "memory_fraction": rounded(reached["memory_fraction"]),
                "t0_s": 0.0,
            },
            choices={"exponent": _EXPONENT},
            standard_errors={name: rounded(deviations[name]) for name in _FORMAT_PRIOR},
            low=0.0,
            high=0.0,
            basis="measured" if measured else "transferred",
            points=points,
            source=source,
        )

    kernels = [kernel("*", "*", middle.shared)]
    for kind in ("gemm", "grouped_gemm") if middle.by_format else ():
        kernels.append(kernel(kind, "*", middle.shared))
        kernels += [kernel(kind, name, reached) for name, reached in middle.by_format.items()]
    bands = {phase: _spread(errors[phase], everyone[phase]) for phase in errors}
    return Runtime(
        device=device,
        software=software,
        date=date,
        engine=first.passes.engine,
        runs_as=multiplied_in(first.passes.framework, maker),
        kernels=tuple(kernels),
        host=HostTime(
            per_layer_s=rounded(middle.shared["per_layer_s"]),
            composition={"decode": "sum", "prefill": "sum"},
            low_of={phase: rounded(low) for phase, (low, _) in bands.items()},
            high_of={phase: rounded(high) for phase, (_, high) in bands.items()},
            basis="measured" if measured else "transferred",
            points=points,
            source=source,
        ),
    )
