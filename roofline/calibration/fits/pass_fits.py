"""Measured passes of whole models at batch 1, and the kernels each of them launches."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze
from roofline.calibration.measurements.measured_files import MeasuredFile, read_measured_file
from roofline.calibration.predictions.whole_model_predictions import (
    one_pass,
    predict_whole_models,
    runtimes,
    whole_model_groups,
)
from roofline.catalog.files import read_toml
from roofline.catalog.fits import device_family
from roofline.scenario import Scenario
from roofline.timing.runtime import datasheet_runtime

__all__ = ["Passes", "alone", "multiplied_in", "passes_of", "read_passes"]

Array = NDArray[np.float64]
Timed = Literal["decode", "prefill"]

#: Metrics of one sequence alone -> the phase they time.
_PHASE_OF: Final[dict[str, Timed]] = {
    "decode_tok_s": "decode", "tpot_ms": "decode", "prefill_tok_s": "prefill", "ttft_ms": "prefill",
}  # fmt: skip
#: Shorter prompts show launches and tokenisers more than products.
_LONG_PROMPT: Final = 64.0
_FEWEST_ROWS: Final = 2
#: What software multiplies 16-bit operands in, by the maker of the engine; every other maker's is "".
#: llama.cpp asks its library for 16-bit sums, which GeForce parts form twice as fast (ggml-cuda.cu,
#: CUBLAS_COMPUTE_16F). On Apple it multiplies on the lanes, at their fp32 rate: builds turn the neural
#: accelerators off where the tensor interface does not compile (ggml-org/llama.cpp pull request 27461).
_RUNS_AS: Final[dict[str, dict[str, str]]] = {"llama.cpp": {"": "fp16.fp16", "apple": "fp32.fp32"}}
_SIXTEEN_BITS: Final = ("bf16", "fp16")


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

    def chosen(self, rows: NDArray[np.int64]) -> "Passes":
        """Return the passes of such numbers, in that order."""
        ends = np.append(self.first[1:], len(self.format))
        kernels = np.concatenate([np.arange(self.first[row], ends[row]) for row in rows])
        sizes = (ends - self.first)[rows]
        of_kernels = ("compute_s", "memory_s", "launches", "format", "grouped")
        of_passes = ("model", "phase", "origin", "layers", "measured_s", "cold", "fitted")
        found: dict[str, Any] = {name: getattr(self, name)[kernels] for name in of_kernels}
        found |= {name: getattr(self, name)[rows] for name in of_passes}
        return replace(self, first=np.cumsum(sizes) - sizes, **found)


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
