"""A report as one plain document, the form in which it is written as JSON (docs/json.md).

Counts of work and traffic are over all devices; memory is of one device; all values are SI.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

import roofline
from roofline.errors import InvalidSpecError
from roofline.provenance import Citation
from roofline.quantity import Quantity, total
from roofline.report import Interval, PhaseReport, Report
from roofline.timing.cost import arithmetic
from roofline.timing.deployment import Deployment
from roofline.timing.pass_time import BOUNDS, MemoryUse, Row
from roofline.timing.runtime import KernelFit, Runtime

__all__ = ["SCHEMA_VERSION", "document_of", "operators_of", "shares", "sources_of"]

#: Raised by one whenever a key is removed or changes its meaning; new keys leave it alone.
SCHEMA_VERSION: Final = 1

#: Shape keys that tell two operators of one name apart (those of a drafter from those of its target).
_STRUCTURAL: Final = ("n", "k", "groups", "heads", "kv_heads", "head_dim", "columns", "ranks")


def document_of(report: Report, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a report of a single point as nested dicts, lists, text, numbers and None.

    Parameters
    ----------
    report : Report
        Of an analysis without axes.
    settings : mapping, optional
        The keys the user set, kept as they are.

    Raises
    ------
    InvalidSpecError
        If a number in it is not finite, which only impossible figures (a rate of zero) cause.
    """
    deployment, workload = report.scenario.deployment, report.scenario.workload
    model = deployment.model
    document = {
        "schema_version": SCHEMA_VERSION,
        "roofline_version": roofline.__version__,
        "model": {
            "name": model.name,
            "parameters": _plain(model.parameters),
            "active_parameters": _plain(model.active_parameters),
        },
        "hardware": _hardware(deployment),
        "software": deployment.runtime.software,
        "formats": {
            name: getattr(deployment.precision, name)
            for name in ("weights", "activations", "kv_cache", "hidden")
        },
        "workload": {field.name: getattr(workload, field.name) for field in fields(workload)},
        "decoding": report.scenario.decoding.kind,
        "settings": dict(settings or {}),
        **_interval("ttft", report.ttft_s),
        **_interval("tpot", report.tpot_s),
        **_interval("end_to_end", report.end_to_end_s),
        "output_tokens_per_s": report.output_tokens_per_s,
        "total_tokens_per_s": report.total_tokens_per_s,
        "decode_tokens_per_s": report.decode_tokens_per_s,
        "prefill": _phase(report.prefill),
        "decode": _phase(report.decode),
        "memory": _memory(report.memory),
        "fits": bool(report.fits),
        "basis": report.basis,
        "binding": _binding(report, float(workload.decode_steps)),
        "sources": sources_of(report),
        "assumptions": list(report.assumptions),
    }
    return {key: _checked(key, value) for key, value in document.items()}


def _hardware(deployment: Deployment) -> dict[str, Any]:
    system = deployment.system
    first, engine = next(iter(system.device.engine.items()))
    chosen = deployment.runtime_of(first).runs_as
    return {
        "name": system.name,
        "device": system.device.name,
        "devices": system.device_count,
        "memory_bandwidth_bytes_per_s": {
            name: memory.bandwidth_bytes_per_s for name, memory in system.device.memory.items()
        },
        "peak_flops_per_s": {
            format: arithmetic(engine, format, chosen)[1] for format in engine.peak_flops_per_s
        },
        "peer_link": None if system.peer_link is None else system.peer_link.name,
        "parallelism": {
            name: getattr(deployment.parallelism, name) for name in ("tensor", "pipeline", "data", "expert")
        },
    }


def _interval(name: str, interval: Interval) -> dict[str, Quantity]:
    return {f"{name}_s": interval.value, f"{name}_low_s": interval.low, f"{name}_high_s": interval.high}


def _phase(phase: PhaseReport) -> dict[str, Any]:
    return {
        **_interval("time", phase.time_s),
        "ideal_s": phase.ideal_s,
        "no_overlap_s": phase.no_overlap_s,
        "host_s": phase.host_s,
        "tokens_per_sequence": phase.tokens,
        "flops": phase.flops,
        "bytes": total(phase.bytes_by_tensor.values()),
        "bytes_by_tensor": phase.bytes_by_tensor,
        "bytes_by_tier": phase.bytes_by_tier,
        "bound": phase.bound,
        "bound_share": shares(phase.bound_s)[phase.bound],
        "bound_shares": shares(phase.bound_s),
        "basis": phase.basis,
        "basis_share": shares(phase.basis_s)[phase.basis],
        "operators": operators_of(phase.rows),
    }


def shares(seconds: Mapping[Any, Quantity]) -> dict[str, float]:
    """Return each entry's share of the sum of all, 0 where there is no time at all."""
    whole = float(total(seconds.values()))
    return {str(name): float(value) / whole if whole else 0.0 for name, value in seconds.items()}


def _binding(report: Report, steps: float) -> str:
    """What binds most of the time from arrival to last token."""
    seconds = {name: float(value) for name, value in report.prefill.bound_s.items()}
    for name, value in report.decode.bound_s.items():
        iterations = steps / float(report.decode.tokens)
        seconds[name] = seconds.get(name, 0.0) + iterations * float(value)
    return max(seconds, key=lambda name: seconds[name])


def operators_of(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return operators in order with numbers over all devices; equal ones of several passes are one.

    Rows that never launch are left out.
    """
    merged: dict[Any, Row] = {}
    for row in rows:
        if float(row.launches) > 0.0:
            key = _identity(row)
            merged[key] = _together(merged[key], row) if key in merged else row
    whole = float(total(row.time_s for row in merged.values()))
    return [_operator(row, whole) for row in merged.values()]


def _identity(row: Row) -> tuple[Any, ...]:
    operator = row.operator
    shape = tuple(float(operator.shape[name]) for name in _STRUCTURAL if name in operator.shape)
    return operator.layer, operator.block, operator.name, operator.format, row.engine, shape


def _together(first: Row, second: Row) -> Row:
    """Two rows as one: work and traffic become means over the launches of both."""
    launches = first.launches + second.launches
    parts = [(row.operator, row.launches / launches) for row in (first, second)]

    def mean(table: str) -> dict[str, Quantity]:
        sums: dict[str, Quantity] = {}
        for operator, weight in parts:
            for tensor, size in getattr(operator, table).items():
                sums[tensor] = sums.get(tensor, 0.0) + weight * size
        return sums

    operator = replace(
        first.operator,
        flops=total(operator.flops * weight for operator, weight in parts),
        read=mean("read"),
        written=mean("written"),
    )
    longest = max((first, second), key=lambda row: float(row.time_s))
    return replace(
        first,
        operator=operator,
        cost=longest.cost,
        launches=launches,
        ideal_s=first.ideal_s + second.ideal_s,
        time_s=first.time_s + second.time_s,
    )


def _operator(row: Row, whole_s: float) -> dict[str, Any]:
    operator = row.operator
    everywhere = row.copies * row.launches
    read = {tensor: everywhere * size for tensor, size in operator.read.items()}
    written = {tensor: everywhere * size for tensor, size in operator.written.items()}
    flops, moved = everywhere * operator.flops, total((*read.values(), *written.values()))
    return {
        "name": operator.name,
        "layer": operator.layer,
        "block": operator.block,
        "kind": operator.kind,
        "engine": row.engine,
        "repeat": operator.repeat,
        "launches": row.launches,
        "flops": flops,
        "bytes": moved,
        "read": read,
        "written": written,
        "intensity": flops / moved if float(moved) else None,
        "bound": BOUNDS[int(row.bound)],
        "ideal_s": row.ideal_s,
        "time_s": row.time_s,
        "share": float(row.time_s) / whole_s if whole_s else 0.0,
        "format": operator.format,
        "runs_as": row.cost.runs_as,
        "basis": row.cost.basis,
    }


def _memory(memory: MemoryUse) -> dict[str, Any]:
    return {
        tier: {
            "tensor_bytes": tensors,
            "used_bytes": total(tensors.values()),
            "capacity_bytes": memory.capacity_bytes[tier],
            "shortfall_bytes": memory.shortfall_bytes[tier],
        }
        for tier, tensors in memory.used_bytes.items()
    }


def sources_of(report: Report) -> list[dict[str, Any]]:
    """Return every source used, once, with the figures taken from it; fits come last."""
    figures: dict[Any, list[Citation]] = {}
    for citation in report.scenario.citations:
        figures.setdefault(citation.source, []).append(citation)
    listed = [
        {
            "title": source.title,
            "url": source.url,
            "kind": source.kind,
            "accessed": source.accessed,
            "figures": [citation.path for citation in citations],
        }
        for source, citations in figures.items()
    ]
    runtime = report.scenario.deployment.runtime
    fitted: dict[str, list[str]] = {}
    for fit in _fits_of(runtime, (*report.prefill.rows, *report.decode.rows)):
        fitted.setdefault(fit.source, []).append(f"{fit.kind} {fit.format}")
    if runtime.host.source:
        fitted.setdefault(runtime.host.source, []).append("host time")
    listed += [
        {"title": source, "url": "", "kind": "measurement", "accessed": runtime.date, "figures": names}
        for source, names in fitted.items()
    ]
    return listed


def _fits_of(runtime: Runtime, rows: Iterable[Row]) -> list[KernelFit]:
    """The fits that the times of rows rest on, each once."""
    found: dict[tuple[str, str], KernelFit] = {}
    for kind, format, used in dict.fromkeys(
        (row.operator.kind, row.operator.format, row.cost.fit_kind)
        for row in rows
        if float(row.launches) > 0.0
    ):
        for name in (kind, f"{kind}_decode", f"{kind}_prefill") if used else ():
            fit, _ = runtime.fit_for(name, format)
            if fit is not None and fit.kind in (name, used):
                found[fit.kind, fit.format] = fit
    return list(found.values())


def _plain(value: Quantity) -> int | float:
    """A count as a whole number where it is one."""
    number = float(value)
    return int(number) if number.is_integer() else number


def _checked(path: str, value: Any) -> Any:
    """The value with plain numbers and containers only; numbers that are not finite are refused."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _checked(f"{path}.{key}", part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(f"{path}.{index}", part) for index, part in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    if not math.isfinite(number):
        raise InvalidSpecError(f"{path} comes out as {number}: is a rate or size of the scenario zero?")
    return number
