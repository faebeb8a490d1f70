"""Predictions for tables of whole-model speeds, row by row, with what speaks against a row."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze, analyze_decode
from roofline.calibration.measurements.measured_files import MeasuredFile
from roofline.calibration.predictions.named_scenarios import NamedScenarios
from roofline.calibration.predictions.offloaded_runs import OffloadedRuns
from roofline.calibration.predictions.operator_predictions import LARGEST
from roofline.calibration.predictions.parallelism_names import pools_of, splits_rows
from roofline.calibration.predictions.predictions import Predictions
from roofline.calibration.predictions.row_split import RowSplit
from roofline.calibration.predictions.run_times import known_metric
from roofline.calibration.predictions.speculated_runs import ACCEPTED, SpeculatedRuns, is_speed_up
from roofline.calibration.predictions.whole_model_metrics import (
    DECODE_RATE,
    ITERATION,
    METRICS,
    Metric,
    Passes,
)
from roofline.catalog.plain_decoders import CACHE_FACTOR, SHAPE_SPREAD
from roofline.catalog.wild_names import device_called, framework_called
from roofline.closed_loop import Load, Pools
from roofline.errors import RooflineError, nearest
from roofline.quantity import Quantity, total
from roofline.report import Interval
from roofline.scenario import Scenario
from roofline.serving import Served, busiest, loaded

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["iteration_s", "one_pass", "predict_whole_models", "runtimes", "whole_model_groups"]

Array = NDArray[np.float64]

_NOT_TIMES: Final = ("power", "energy")
_WITHOUT_PREFILL: Final = {name for name, made in METRICS.items() if made in (DECODE_RATE, ITERATION)}
#: Metrics whose batch is found, not told.
_AT_BEST: Final = {name for name, made in METRICS.items() if made.busiest}
_PHASES_LEFT_OUT: Final = {
    "spec": "speculative: the table states no accepted tokens beside the speed",
    "micro": "not a model",
}
#: Columns that say how large a model is, where its name or format says nothing.
_SIZES: Final = ("params_total_b", "params_active_b", "bits_per_weight")
_FASTER_THAN_FLOOR: Final = 1.15
#: Log-decile of software without a profile against the device's default: 13 pairs of device and software
#: (Core AI, LiteRT, MLC, MNN, ExLlama, TensorRT, PowerInfer) deviate by 0.25, the root of their mean square.
_OTHER_SOFTWARE: Final = 0.32
#: Cached tokens where a table says nothing: llama-bench's 128 generated from an empty cache, at half.
_UNSAID_CONTEXT: Final = 64.0
_ROWS_AT_ONCE: Final = 256


def predict_whole_models(file: MeasuredFile) -> Predictions:
    """Return predictions for every usable row of a whole-model table.

    Notes
    -----
    Names are resolved through the catalogue's aliases. A row of decode without context is taken at
    ``prompt + gen / 2`` cached tokens, at 64 where it says neither. The context of a prefill rate is
    what was cached before.

    A server under load (means and medians per request, ``output_tok_s``) is taken in the steady state
    of a closed loop, at the batch as concurrency (`roofline.serving`). Without a
    prompt length prefills are left out.
    """
    table = _table(file)
    measured, metric = table["value_number"].to_numpy(float), table["metric"]
    keys = table[["device", "runtime", "metric", "quant"]].set_axis(
        ["device", "software", "measured", "format"], axis="columns"
    )
    unit = table["unit_size"].to_numpy(float)
    rate = metric.map(lambda name: name in METRICS and METRICS[name].rate).to_numpy(bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds = np.where(rate, 1.0 / measured, measured * np.nan_to_num(unit, nan=1.0))
    result = Predictions.empty(measured=measured, seconds=seconds, keys=keys)
    result.skip(file.faults)
    result.skip(_faults(file, table, measured, unit))
    resolved = NamedScenarios()
    offloaded = OffloadedRuns(resolved)
    away = offloaded.away(table)
    usable = result.skipped == ""
    offloaded.predict(result, table[usable & away].fillna({"device_count": 1.0, "batch": 1.0}), unit)
    faster = is_speed_up(table).to_numpy(bool)
    SpeculatedRuns(resolved, table).predict(result, table[usable & faster])
    for rows in _groups(table[usable & ~away & ~faster]):
        try:
            _predict_group(result, resolved, rows, unit)
        except RooflineError as error:
            result.skipped[rows.index.to_numpy()] = str(error)
    _check(result, rate | faster)
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class _Deployed:
    """The scenario of a group's names; how many workers of two pools, or GPUs that share its rows."""

    scenario: Scenario
    pools: Pools | None = None
    rows: RowSplit | None = None


def _deployed(resolved: NamedScenarios, row: "pd.Series[Any]", cache: float = 1.0) -> _Deployed:
    devices, text = float(row["device_count"]), row["parallelism"]

    def scenario(parallelism: str, device_count: float) -> Scenario:
        named = row.mask(row.index == "parallelism", parallelism)
        return resolved.scenario(named.mask(named.index == "device_count", device_count), cache=cache)

    if splits_rows(text, devices, framework_called(row["runtime"])):
        alone = scenario("", 1.0)
        return _Deployed(scenario=alone, rows=RowSplit.of(alone.deployment.model, devices))
    pools = pools_of(text, devices)
    if pools is None:
        return _Deployed(scenario=resolved.scenario(row, cache=cache))
    prefill, decode = (scenario(pool.degrees, pool.devices) for pool in pools)
    return _Deployed(
        scenario=replace(decode, prefill_deployment=prefill.deployment),
        pools=Pools(prefill=pools[0].workers, decode=float(np.nan_to_num(pools[1].workers, nan=1.0))),
    )


def _table(file: MeasuredFile) -> "pd.DataFrame":
    """Return the cells of a whole-model table as numbers and plain labels; unreadable numbers are nan."""
    import pandas as pd

    names = ("device", "model", "quant", "runtime", "parallelism", "metric", "unit", "phase", "note")
    table = pd.DataFrame({name: file.column(name) for name in (*names, *_SIZES)})
    table["runtime"] = runtimes(file)
    table["lengths"] = file.column("lengths").str.casefold()
    for name in ("device_count", "batch", "prompt_len", "gen_len", "context"):
        table[name] = pd.to_numeric(file.column(name).str.removeprefix("<="), errors="coerce")
    table["metric"], table["phase"] = table["metric"].str.casefold(), table["phase"].str.casefold()
    table["stated_metric"] = table["metric"]
    table["metric"] = table["metric"].map(known_metric)
    table["value_number"] = pd.to_numeric(file.column("value"), errors="coerce")
    table["unit_size"] = _units(table)
    return table


#: Folder in the path of a result -> the runtime that wrote it, whatever a collector's column says.
_WRITTEN_BY: Final = {"/mlx/": "mlx"}


def runtimes(file: MeasuredFile) -> "pd.Series[str]":
    """Return the runtime of each row of a whole-model table.

    Notes
    -----
    The path of a result tells more than a collector's label: mac-llm-bench keeps runs of MLX in a folder
    ``mlx``, and tables made of it call all of its runs llama.cpp.
    """
    stated, source = file.column("runtime"), file.column("source")
    for folder, name in _WRITTEN_BY.items():
        unsaid = source.str.contains(folder, regex=False) & ~stated.str.casefold().str.contains(name)
        stated = stated.mask(unsaid, name)
    return stated


def _groups(table: "pd.DataFrame") -> Iterator["pd.DataFrame"]:
    """Yield rows that share everything but workload and metric."""
    told = table.fillna({"device_count": 1.0, "batch": 1.0})
    keys = ["device", "device_count", "model", "quant", "runtime", "parallelism", *_SIZES]
    for _, rows in told.groupby(keys, sort=False):
        yield rows


def _predict_group(result: Predictions, resolved: NamedScenarios, rows: "pd.DataFrame", unit: Array) -> None:
    """Predict rows of one scenario.

    The interval of a plain decoder is that of its shape and cache too, that of software without a
    profile that of softwares too.
    """
    first, index = rows.iloc[0], rows.index.to_numpy()

    def predict(into: Predictions, cache: float = 1.0) -> Predictions:
        deployed = _deployed(resolved, first, cache)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            _predict(into, deployed, rows.iloc[start : start + _ROWS_AT_ONCE], unit)
        return into

    predict(result)
    size = resolved.size(first)
    if size is not None:
        others = tuple(predict(result.like(), cache) for cache in (1.0 / CACHE_FACTOR, CACHE_FACTOR))
        result.widen(index, spread=SHAPE_SPREAD, others=others)
        result.stand_in[index] = f"a plain decoder of {size} parameters"
    if resolved.runs_as_another(first):
        result.widen(index, spread=_OTHER_SOFTWARE, others=())


def whole_model_groups(
    file: MeasuredFile, usable: NDArray[np.bool_]
) -> Iterator[tuple[Scenario, "pd.DataFrame"]]:
    """Yield the scenario of each group of usable rows of known models, with the catalogue's names.

    Rows that say that the model exceeds the memory time something else than the device.
    """
    resolved = NamedScenarios()
    table = _table(file)
    for rows in _groups(table[usable & ~OffloadedRuns(resolved).away(table)]):
        first = rows.iloc[0]
        split = splits_rows(
            first["parallelism"], float(first["device_count"]), framework_called(first["runtime"])
        )
        if split or resolved.size(first) is not None:
            continue
        yield (
            resolved.scenario(first),
            rows.assign(
                device_name=device_called(first["device"]), framework=framework_called(first["runtime"])
            ),
        )


def _units(table: "pd.DataFrame") -> Array:
    """Return the size of each row's unit, nan where it is not one of its metric."""
    stated = table["unit"].str.partition("(")[0].str.strip().str.casefold()
    sizes = [
        METRICS[metric].units.get(unit or ("tok/s" if METRICS[metric].rate else "ms"), np.nan)
        if metric in METRICS
        else np.nan
        for metric, unit in zip(table["metric"], stated, strict=True)
    ]
    return np.array(sizes, dtype=np.float64)


def _faults(file: MeasuredFile, table: "pd.DataFrame", measured: Array, unit: Array) -> NDArray[np.object_]:
    """Return why rows cannot be predicted, first reason found."""
    faults = np.full(len(table), "", dtype=object)

    def fault(where: Any, reason: Any) -> None:
        open_rows = np.asarray(where, dtype=bool) & (faults == "")
        faults[open_rows] = reason[open_rows] if isinstance(reason, np.ndarray) else reason

    text = file.column("value")
    fault(text == "", "value is missing")
    fault(np.isnan(measured), np.array([f"value is not a number: {cell!r}" for cell in text], object))
    fault(~np.isfinite(measured), "value is not finite")
    fault(measured <= 0, "value is not above 0")
    fault(measured > LARGEST, f"value is above {LARGEST:g}")
    fault(table["note"].str.contains("ANOMALY|OUTLIER"), "marked as an outlier by its source")
    speed_up = is_speed_up(table)
    fault(table["metric"] == ACCEPTED, "accepted tokens are an input of the speed-ups beside them")
    for phase, reason in _PHASES_LEFT_OUT.items():
        fault(~speed_up & (table["phase"] == phase), reason)
    reasons = {name: _unpredicted(name) for name in table["metric"].unique()}
    fault(~speed_up & ~table["metric"].isin(METRICS), table["metric"].map(reasons).to_numpy(object))
    fault(
        ~speed_up & np.isnan(unit),
        np.array([f"unit is not one of {row.metric}: {row.unit!r}" for row in table.itertuples()], object),
    )
    for name in ("device", "model"):
        fault(table[name] == "", f"{name} is missing")
    fault((table["quant"] == "") & (table["bits_per_weight"] == ""), "quant is missing")
    for name in ("device_count", "batch", "prompt_len", "gen_len", "context"):
        given = file.column(name)
        least = 0.0 if name in ("context", "gen_len") else 1.0
        wrong = (given != "") & ~table[name].between(least, LARGEST)
        if name == "batch":
            wrong &= ~((given == "max") & table["metric"].isin(_AT_BEST))
        fault(wrong, np.array([f"{name} is not a number from {least:g}: {cell!r}" for cell in given], object))
        lacking = [metric for metric, made in METRICS.items() if name in made.needs]
        fault((given == "") & table["metric"].isin(lacking), f"{name} is missing")
    fault(file.cells.duplicated(keep="first"), "repeats an earlier row")
    return faults


def _unpredicted(metric: str) -> str:
    if any(part in metric for part in _NOT_TIMES):
        return f"metric {metric!r} is not a time"
    if metric.startswith(("ttft_min", "ttft_max")):
        return f"metric {metric!r} is an extreme of a distribution"
    return f"metric {metric!r} is not predicted{nearest(metric, METRICS)}"


def _context(rows: "pd.DataFrame") -> Array:
    """Return the cached tokens of decode rows [tokens]."""
    context = rows["context"].to_numpy(float)
    prompt, output = (np.nan_to_num(rows[name].to_numpy(float)) for name in ("prompt_len", "gen_len"))
    implied = prompt + output / 2.0
    context = np.where(np.isnan(context), np.where(implied > 0, implied, _UNSAID_CONTEXT), context)
    cached: Array = np.maximum(context, 1.0)
    return cached


def iteration_s(scenario: Scenario, rows: "pd.DataFrame") -> Interval:
    """Return the decode iterations of a group's rows [s]."""
    return _decode(scenario, rows["batch"].to_numpy(float), _context(rows))[0]


def one_pass(scenario: Scenario, row: "pd.Series[Any]", phase: str) -> Scenario:
    """Return the scenario with the workload of one row of decode or prefill."""
    workload = replace(scenario.workload, batch_size=float(row["batch"]))
    if phase == "decode":
        context = float(_context(row.to_frame().T)[0])
        return replace(scenario, workload=replace(workload, context_tokens=context))
    cached = row["context"] if row["metric"] == "prefill_tok_s" else 0.0
    workload = replace(
        workload,
        prompt_tokens=float(row["prompt_len"]),
        prefix_tokens=float(np.nan_to_num(cached)),
        output_tokens=1.0,
        context_tokens=None,
    )
    return replace(scenario, workload=workload)


def _predict(result: Predictions, deployed: _Deployed, rows: "pd.DataFrame", unit: Array) -> None:
    scenario = deployed.scenario
    served = rows["metric"].map(lambda name: bool(METRICS[name].served)).to_numpy(bool)
    at_best = rows["metric"].map(lambda name: METRICS[name].busiest).to_numpy(bool)
    for part in (rows[served & ~at_best], rows[at_best]):
        if part.empty:
            continue
        load = Load(
            concurrency=part["batch"].to_numpy(float),
            prompt=part["prompt_len"].to_numpy(float),
            output=part["gen_len"].fillna(1.0).clip(lower=1.0).to_numpy(float),
            context=_context(part),
            alike=(part["lengths"] != "drawn").to_numpy(bool),
        )
        best = METRICS[part["metric"].iloc[0]].busiest
        server = busiest(scenario, load) if best else loaded(scenario, load, deployed.pools)
        result.basis[part.index] = server.basis
        _enter_served(result, part, unit, server)
    if not np.all(served):
        part = rows[~served]
        passes, basis = _passes(deployed, part)
        result.basis[part.index] = basis
        _enter(result, part, unit, passes)
    result.profile[rows.index] = scenario.deployment.runtime.software


def _passes(deployed: _Deployed, rows: "pd.DataFrame") -> tuple[dict[str, Passes], str]:
    """Return the passes of a group's rows, predicted, low, high and ideal, and what they rest on."""
    scenario, split = deployed.scenario, deployed.rows
    batch = rows["batch"].to_numpy(float)
    prompt, output = rows["prompt_len"].to_numpy(float), rows["gen_len"].to_numpy(float)
    decode, ideal_decode, basis, weight_bytes = _decode(scenario, batch, _context(rows))
    nothing: Quantity = np.zeros(len(rows))
    whole, ideal_whole, best_whole = Interval(value=nothing, low=nothing, high=nothing), nothing, nothing
    if set(rows["metric"]) - _WITHOUT_PREFILL:
        told = ~np.isnan(prompt)
        of_prefill = (rows["metric"] == "prefill_tok_s").to_numpy()
        cached = np.where(of_prefill, np.nan_to_num(rows["context"].to_numpy(float)), 0.0)
        whole, (ideal_whole, best_whole), basis = _prefill(
            scenario, batch, np.where(told, prompt, 1.0), cached, told
        )
    if split is not None:
        decode, ideal_decode = split.split(decode, batch), ideal_decode / split.gpus
        whole = split.split(whole, batch * np.nan_to_num(prompt))
        ideal_whole, best_whole = ideal_whole / split.gpus, best_whole / split.gpus

    def passes(prefill_s: Quantity, iteration_s: Quantity) -> Passes:
        return Passes(
            batch=batch,
            prompt=prompt,
            output=output,
            whole_prefill_s=prefill_s,
            iteration_s=iteration_s,
            weight_bytes=weight_bytes,
        )

    found = {kind: passes(getattr(whole, kind), getattr(decode, kind)) for kind in ("value", "low", "high")}
    alike_s = _alike_s(scenario, batch, _context(rows)) / (1.0 if split is None else split.gpus)
    return {
        **found,
        "ideal": passes(ideal_whole, ideal_decode),
        "best": passes(best_whole, np.minimum(ideal_decode, alike_s)),
    }, basis


def _each_metric(rows: "pd.DataFrame") -> Iterator[tuple[Metric, NDArray[np.bool_], NDArray[np.int64]]]:
    """Yield the metrics of rows, which rows are theirs, and where those stand in the table."""
    for name in rows["metric"].unique():
        own = (rows["metric"] == name).to_numpy()
        yield METRICS[name], own, rows.index.to_numpy()[own]


def _own(value: Quantity, own: NDArray[np.bool_]) -> Array:
    of_rows: Array = np.broadcast_to(np.asarray(value, dtype=np.float64), own.shape)[own]
    return of_rows


def _enter_served(result: Predictions, rows: "pd.DataFrame", unit: Array, served: Served) -> None:
    """Enter the metrics of rows of a loaded server."""
    for metric, own, index in _each_metric(rows):
        found, best = served.interval(metric.served, least=metric.least), metric.best or metric.make
        result.predicted[index] = _own(found.value, own) / unit[index]
        result.low[index], result.high[index] = (
            _own(end, own) / unit[index] for end in (found.low, found.high)
        )
        result.ideal[index] = _own(metric.make(served.ideal), own) / unit[index]
        result.floor[index] = _own(best(served.ideal), own) / unit[index]


def _enter(result: Predictions, rows: "pd.DataFrame", unit: Array, made: Mapping[str, Passes]) -> None:
    """Enter the metrics of rows, made of passes at predicted, low, high, ideal and best times."""
    for metric, own, index in _each_metric(rows):
        value, low, high, ideal, floor = (
            _own(metric.make(made[kind]), own) / unit[index]
            for kind in ("value", "low", "high", "ideal", "best")
        )
        if metric.rate:
            low, high = high, low
        result.predicted[index], result.low[index], result.high[index] = value, low, high
        result.ideal[index], result.floor[index] = ideal, floor


def _decode(scenario: Scenario, batch: Array, context: Array) -> tuple[Interval, Quantity, str, Quantity]:
    """Return an iteration, its ideal time, what it rests on, and the weights one device reads in it."""
    workload = replace(scenario.workload, batch_size=batch, context_tokens=context)
    phase, _ = analyze_decode(replace(scenario, workload=workload), axes=1, tables=("basis", "tensor"))
    read = total(phase.bytes_by_tensor.get(tensor, 0.0) for tensor in ("weight", "expert_weight"))
    devices = scenario.deployment.parallelism.devices
    return phase.time_s, phase.ideal_s, _largest(phase.basis_s), read / devices


#: Share of a batch's tokens that may choose experts like another: llama.cpp's batches on a GB10 read
#: two thirds of what independent choices would touch, as this does at 32 of them.
_ALIKE: Final = 0.5


def _alike_s(scenario: Scenario, batch: Array, context: Array) -> Quantity:
    """Return the ideal iteration of a batch whose tokens choose experts alike, as those of one text do."""
    deployment = scenario.deployment
    routing = replace(deployment.routing, correlation=_ALIKE)
    workload = replace(scenario.workload, batch_size=batch, context_tokens=context)
    alike = replace(scenario, deployment=replace(deployment, routing=routing), workload=workload)
    return analyze_decode(alike, axes=1, intervals=False, tables=())[0].ideal_s


def _prefill(
    scenario: Scenario, batch: Array, prompt: Array, cached: Array, told: NDArray[np.bool_]
) -> tuple[Interval, tuple[Quantity, Quantity], str]:
    """Return the prefill of prompts after `cached` tokens, nothing where their length is not told.

    Beside the prediction: its ideal time with the arithmetic that the software is known to choose, and
    with the hardware's best, which another build may use.
    """
    workload = replace(
        scenario.workload,
        batch_size=batch,
        prompt_tokens=prompt,
        prefix_tokens=cached,
        output_tokens=1.0,
        context_tokens=None,
    )
    scenario = replace(scenario, workload=workload)
    report = analyze(scenario, axes=1, keep_rows=False, tables=("basis",))
    ideal_s = best_s = report.prefill.ideal_s
    runtime = scenario.deployment.runtime
    if runtime.runs_as:
        deployment = replace(scenario.deployment, runtime=replace(runtime, runs_as={}))
        free = replace(scenario, deployment=deployment)
        best_s = np.minimum(ideal_s, analyze(free, axes=1, intervals=False, tables=()).prefill.ideal_s)
    known: Quantity = np.where(told, 1.0, 0.0)
    found = report.ttft_s
    told_s = Interval(value=found.value * known, low=found.low * known, high=found.high * known)
    return told_s, (ideal_s * known, best_s * known), _largest(report.prefill.basis_s)


def _largest(basis_s: Mapping[Any, Quantity]) -> str:
    """Return the basis of most of the time; all rows of a group share one runtime."""
    return str(max(basis_s, key=lambda name: float(np.sum(basis_s[name])), default="datasheet"))


def _check(result: Predictions, rate: NDArray[np.bool_]) -> None:
    """Skip rows that are faster than the datasheet allows."""
    used = result.skipped == ""
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(rate, result.measured / result.floor, result.floor / result.measured)
    for row in np.flatnonzero(used & (gain > _FASTER_THAN_FLOOR)):
        result.skipped[row] = f"value is faster than the floor: {gain[row]:.2f} times the datasheet bound"
