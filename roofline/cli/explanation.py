"""What binds each phase, in sentences: work and traffic against the roofs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from roofline.cli.answer import PHASES
from roofline.cli.sections import Section
from roofline.cli.tables import count, exact, percent, quantity
from roofline.units import DIMENSIONS, dimension_of, file_key

if TYPE_CHECKING:
    from roofline.report import Report
    from roofline.scenario import Scenario
    from roofline.studies.sensitivity import Elasticity

__all__ = ["explanation_sections"]

Document = Mapping[str, Any]

#: Operators named for each phase.
_LARGEST: Final = 3
#: Figures named for each latency, and the elasticity below which one is not.
_LEVERS: Final = 4
_FELT: Final = 0.01


def explanation_sections(report: "Report", document: Document, phases: Sequence[str]) -> Iterator[Section]:
    """Yield sentences and the tiles of the largest products of each phase, then what would change it."""
    for name in phases:
        phase = document[name]
        remarks = [
            *_roofs(document, phase),
            _bounds(phase),
            _host(phase),
            _formats(phase),
            _experts(report, name),
            _largest(phase),
        ]
        yield Section(title=f"Why: {PHASES[name].lower()}", remarks=tuple(filter(None, remarks)))
        yield from _tiles(report, name)
    yield _levers(report.scenario, phases)


def _tiles(report: "Report", phase: str) -> Iterator[Section]:
    """The kernels the fitted forms take for the largest products, and what flat products risk."""
    from roofline.timing.tiling import joining_share, padding_loss, tiling_of

    deployment = report.scenario.deployment
    running = (row for row in getattr(report, phase).rows if float(row.launches) > 0.0)
    rows = sorted(running, key=lambda row: -float(row.time_s))
    shown: list[tuple[str, ...]] = []
    losses: list[tuple[float, float]] = []
    for row in rows:
        given = (row, deployment.system, deployment.runtime_of(row.engine))
        tiling, loss = tiling_of(*given), padding_loss(*given)
        if tiling is None or loss is None or len(shown) == _LARGEST:
            continue
        losses.append(loss)
        shown.append(
            (
                f"{row.operator.block}.{row.operator.name}",
                " x ".join(exact(round(size)) for size in (tiling.m, tiling.n, tiling.k)),
                f"{tiling.rows:g} x {tiling.columns:g}",
                exact(tiling.padded_m),
                f"{exact(tiling.blocks)} on {exact(tiling.units)}",
                exact(tiling.waves),
                exact(tiling.split),
                percent(tiling.bandwidth_share),
            )
        )
    if not shown:
        return
    low, high = (max(ends) for ends in zip(*losses, strict=True))
    remarks = [
        f"without kernels for few rows these would run {percent(low)} (bytes and padded operations alone) "
        f"to {percent(high)} (the largest tile for every shape) slower"
    ]
    joins = (
        joining_share(row, deployment.system, deployment.runtime_of(row.engine))
        for row in rows
        if phase == "decode"
    )
    joining = max((join[1] for join in joins if join is not None), default=0.0)
    if joining:
        remarks.append(f"joining the softmax of split keys takes at most {percent(joining)} of attention")
    header = ("product", "M x N x K", "tile", "padded M", "blocks", "waves", "split K", "of bandwidth")
    yield Section(title=f"Tiles: {PHASES[phase].lower()}", header=header, rows=shown, remarks=tuple(remarks))


def _levers(scenario: "Scenario", phases: Sequence[str]) -> Section:
    """The figures that move each latency most, from elasticities."""
    from roofline.studies.sensitivity import sensitivities

    found = sensitivities(scenario).elasticities
    metrics = [metric for phase, metric in (("prefill", "ttft"), ("decode", "tpot")) if phase in phases]
    chosen = {
        entry.key: entry
        for metric in metrics
        for entry in _strongest(found, metric)[:_LEVERS]
        if abs(getattr(entry, metric)) >= _FELT
    }
    rows = [
        (
            _lever(scenario, key),
            _value(key, entry.value),
            *(f"{getattr(entry, metric):+.2f} %" for metric in metrics),
        )
        for key, entry in chosen.items()
    ]
    header = ("1 % more of", "now", *(metric.upper() for metric in metrics))
    return Section(title="What would change it", header=header, rows=rows)


def _strongest(found: "Sequence[Elasticity]", metric: str) -> "list[Elasticity]":
    return sorted(found, key=lambda entry: -abs(getattr(entry, metric)))


def _lever(scenario: "Scenario", key: str) -> str:
    """A figure's key, with the fit of a kernel named instead of numbered."""
    if not key.startswith("runtime.kernels."):
        return ".".join(file_key(name) for name in key.split("."))
    index, _, name = key.removeprefix("runtime.kernels.").partition(".parameters.")
    fit = scenario.deployment.runtime.kernels[int(index)]
    return f"{fit.kind} {fit.format} {name}"


def _value(key: str, value: float) -> str:
    dimension = next((found for found in map(dimension_of, reversed(key.split("."))) if found), None)
    return f"{value:.3g}" if dimension is None else quantity(value, next(iter(DIMENSIONS[dimension])))


def _roofs(document: Document, phase: Document) -> Iterator[str]:
    hardware = document["hardware"]
    devices = hardware["devices"]
    tier, bandwidth = next(iter(hardware["memory_bandwidth_bytes_per_s"].items()))
    moved = phase["bytes_by_tier"].get(tier, 0.0)
    yield (
        f"{phase['bound']} binds {percent(phase['bound_share'])} of the device time"
        + _others(phase["bound_shares"], phase["bound"])
    )
    work: dict[str, float] = {}
    for row in phase["operators"]:
        work[row["runs_as"]] = work.get(row["runs_as"], 0.0) + row["flops"]
    format = max(hardware["peak_flops_per_s"].keys() & work.keys(), key=lambda name: work[name], default=None)
    if format is not None:
        peak = devices * hardware["peak_flops_per_s"][format]
        yield (
            f"{quantity(work[format], 'FLOP')} in {format} at {quantity(peak, 'FLOP/s')} "
            f"take {quantity(work[format] / peak, 's')}"
        )
    rate = devices * bandwidth
    yield f"{quantity(moved, 'B')} at {quantity(rate, 'B/s')} from {tier} take {quantity(moved / rate, 's')}"
    if format is not None and moved:
        yield (
            f"operational intensity {count(phase['flops'] / moved)} FLOP/B against a ridge point of "
            f"{count(peak / rate)} FLOP/B"
        )


def _others(found: Mapping[str, float], first: str) -> str:
    rest = [f"{name} {percent(share)}" for name, share in found.items() if name != first and share >= 0.005]
    return f"; {', '.join(rest)}" if rest else ""


def _bounds(phase: Document) -> str:
    ideal, time = phase["ideal_s"], phase["time_s"]
    if time <= ideal * (1 + 1e-9):
        return "the time is the ideal bound: nothing but peak rates is assumed"
    return (
        f"kernels, fixed times and launches take {quantity(time - ideal, 's')} more than the ideal bound "
        f"({percent(ideal / time)} of the time is ideal)"
    )


def _host(phase: Document) -> str:
    if not phase["host_s"]:
        return ""
    waits = phase["bound_shares"].get("host", 0.0)
    told = (
        f"the device waits for it {percent(waits)} of the time"
        if waits
        else "hidden behind the device or added to it"
    )
    return f"the host needs {quantity(phase['host_s'], 's')} to launch it: {told}"


def _formats(phase: Document) -> str:
    changed = {
        (row["format"], row["runs_as"])
        for row in phase["operators"]
        if row["runs_as"] not in (row["format"], "vector", "link")
    }
    return ", ".join(f"{format} runs as {runs_as}" for format, runs_as in sorted(changed))


def _experts(report: "Report", phase: str) -> str:
    """Experts of a layer that a pass touches, their spread, and their bounds whatever the routing."""
    shapes = (row.operator.shape for row in getattr(report, phase).rows)
    shape = next((found for found in shapes if "top_k" in found), None)
    if shape is None:
        return ""
    tokens, experts, top_k = (float(shape[name]) for name in ("tokens", "experts", "top_k"))
    routing = report.scenario.deployment.routing
    sizes = {"experts": experts, "top_k": top_k, "tokens": tokens}
    mean, variance = float(routing.touched(**sizes)), float(routing.touched_variance(**sizes))
    most = "" if routing.kind == "uniform" else "at most "
    return (
        f"tokens of the pass: {exact(round(tokens))}; under {routing.kind} routing they touch {count(mean)} "
        f"of {exact(experts)} experts in a layer, standard deviation {most}{count(variance**0.5)}; "
        f"under any, {exact(top_k)} to {exact(round(min(experts, tokens * top_k)))}"
    )


def _largest(phase: Document) -> str:
    rows = sorted(phase["operators"], key=lambda row: -row["share"])[:_LARGEST]
    named = ", ".join(
        f"{row['block']}.{row['name']} {percent(row['share'])} ({row['bound']})" for row in rows
    )
    return f"largest operators: {named}"
