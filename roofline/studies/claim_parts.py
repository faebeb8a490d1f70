"""Published figures of one part of a run: a layer, a collective, a read from flash, an expert set."""

from collections.abc import Callable, Mapping
from typing import Final

from roofline.analysis import analyze
from roofline.errors import InvalidSpecError
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.formats import format_named
from roofline.scenario import Scenario
from roofline.studies.claim_systems import SYSTEM_PARTS, Arguments, Part
from roofline.studies.llm_viewer import STEPS, ViewerCase, by_layer, departures, rows_of
from roofline.techniques.curves import over_layers
from roofline.timing.cost import arithmetic
from roofline.units import parse

__all__ = ["PARTS", "Part", "part_figure"]


def part_figure(name: str, scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Return a figure in SI units and what binds it.

    Raises
    ------
    InvalidSpecError
        If the scenario has no such part.
    """
    return PARTS[name].figure(scenario, arguments)


def _viewer(scenario: Scenario, stage: str) -> ViewerCase:
    workload, precision = scenario.workload, scenario.deployment.precision
    return ViewerCase(
        model=scenario.deployment.model,
        stage="prefill" if stage == "prefill" else "decode",
        tokens=float(workload.prompt_tokens),
        batch=float(workload.sequences),
        weight_bits=float(int(format_named(precision.weights).bits)),
        activation_bits=float(int(format_named(precision.activations or precision.hidden).bits)),
        cache_bits=float(int(format_named(precision.kv_cache).bits)),
        flash=scenario.deployment.terms.policy.fused_attention,
    )


def _viewer_total(figure: str) -> Callable[[Scenario, Arguments], tuple[float, str]]:
    def found(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
        case = _viewer(scenario, str(arguments.get("stage", "decode")))
        device = scenario.deployment.system.device
        if "layer" not in arguments:
            return float(getattr(departures(case, device)[-1], figure)), ""
        rows = rows_of(case)
        for step in STEPS:
            rows = step.change(case, rows)
        row = next((row for row in rows if row.name == arguments["layer"]), None)
        if row is None:
            raise InvalidSpecError(f"no layer {arguments['layer']!r}; there are {[row.name for row in rows]}")
        if figure == "flops":
            return float(row.flops), ""
        return float(row.bytes), ""

    return found


def _viewer_layers(figure: str) -> Callable[[Scenario, Arguments], tuple[float, str]]:
    """A prefill in which every layer has its own tokens, as AIM's copy of that tool counts it."""

    def found(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
        case = _viewer(scenario, "prefill")
        layers = sum(case.model.layer_counts().values())
        tokens = over_layers(str(arguments["tokens"]), layers)
        return float(getattr(by_layer(case, tokens, scenario.deployment.system.device), figure)), ""

    return found


def _viewer_weights(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Bytes of the layers' weights, without embedding and head."""
    del arguments
    case = _viewer(scenario, "decode")
    rows = rows_of(case)
    return sum(
        float(row.repeat * row.read.get("weight", 0.0)) for row in rows if row.layer in case.model.layers
    ), ""


def _viewer_rate(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Operations a second that a layer attains."""
    flops, _ = _viewer_total("flops")(scenario, arguments)
    size, _ = _viewer_total("bytes")(scenario, arguments)
    engine = next(iter(scenario.deployment.system.device.engine.values()))
    memory = next(iter(scenario.deployment.system.device.memory.values()))
    case = _viewer(scenario, str(arguments.get("stage", "decode")))
    peak = float(
        engine.peak_flops_per_s["int8" if case.all_narrow else "fp16"]["int32" if case.all_narrow else "fp32"]
    )
    fed = flops / size * float(memory.bandwidth_bytes_per_s)
    return min(peak, fed), "compute" if peak < fed else "memory"


def _viewer_throughput(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Sequences over the time of a decode pass."""
    seconds, binding = _viewer_total("time_s")(scenario, arguments)
    return float(scenario.workload.sequences) / seconds, binding


def _storage(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    storage = scenario.deployment.system.storage
    if storage is None:
        raise InvalidSpecError(f"{scenario.deployment.system.name}: has no storage")
    span = arguments.get("range")
    rate = storage.read_rate(
        access_bytes=parse(arguments["block"], "bytes"),
        queue_depth=float(arguments.get("depth", 1.0)),
        range_bytes=None if span is None else parse(span, "bytes"),
        issuer=str(arguments.get("issuer", "")),
    )
    return float(rate), "storage"


def _storage_time(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Seconds in which so many bytes are read in blocks of that size."""
    rate, binding = _storage(scenario, arguments)
    return parse(arguments["bytes"], "bytes") / rate, binding


def _memory_rate(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Rate at which engines draw from the near memory, each at its own limit, together at most its rate."""
    device = scenario.deployment.system.device
    near = next(iter(device.memory.values())).bandwidth_bytes_per_s
    names = str(arguments["engines"]).split("+")
    unknown = set(names) - set(device.engine)
    if unknown:
        raise InvalidSpecError(
            f"{device.name}: has no engine {min(unknown)!r}; there are {', '.join(device.engine)}"
        )
    limits = [device.engine[name].bandwidth_limit_bytes_per_s for name in names]
    drawn = sum(float(near if limit is None else limit) for limit in limits)
    shared = next(iter(device.memory.values())).shared_bandwidth_bytes_per_s
    most = near if len(names) == 1 or shared is None else shared
    return min(float(most), drawn), "memory"


def _ridge(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Operations a byte at which the roofs meet."""
    device = scenario.deployment.system.device
    _, peak = arithmetic(next(iter(device.engine.values())), str(arguments["format"]))
    return float(peak / next(iter(device.memory.values())).bandwidth_bytes_per_s), ""


def _board_power(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Watts of one device at its limit."""
    del arguments
    device = scenario.deployment.system.device
    if device.tdp_watts is None:
        raise InvalidSpecError(f"{device.name}: its power is not known")
    return float(device.tdp_watts), ""


def _distinct(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Experts of one layer that some token chooses."""
    blocks = [
        block
        for layer in scenario.deployment.model.layers.values()
        for block in layer.values()
        if isinstance(block, MixtureOfExperts)
    ]
    if not blocks:
        raise InvalidSpecError(f"{scenario.deployment.model.name}: has no mixture of experts")
    touched = scenario.deployment.routing.touched(
        experts=blocks[0].experts, top_k=blocks[0].top_k, tokens=float(arguments["tokens"])
    )
    return float(touched), ""


def _collective(scenario: Scenario, arguments: Arguments) -> tuple[float, str]:
    """Seconds of one all-reduce of a prefill."""
    del arguments
    rows = analyze(scenario, intervals=False).prefill.rows
    for row in rows:
        if row.operator.kind == "all_reduce" and float(row.launches) > 0.0:
            return float(row.time_s / row.launches), "link"
    raise InvalidSpecError(f"{scenario.deployment.system.name}: nothing is reduced over devices")


PARTS: Final[Mapping[str, Part]] = {
    "viewer_flops": Part(dimension="flop", figure=_viewer_total("flops")),
    "viewer_bytes": Part(dimension="bytes", figure=_viewer_total("bytes")),
    "viewer_time": Part(dimension="s", figure=_viewer_total("time_s"), better="low"),
    "viewer_memory": Part(dimension="bytes", figure=_viewer_total("memory_bytes")),
    "viewer_layers_flops": Part(dimension="flop", figure=_viewer_layers("flops")),
    "viewer_layers_time": Part(dimension="s", figure=_viewer_layers("time_s"), better="low"),
    "viewer_weights": Part(dimension="bytes", figure=_viewer_weights),
    "viewer_rate": Part(dimension="flop/s", figure=_viewer_rate, better="high"),
    "viewer_throughput": Part(dimension="token/s", figure=_viewer_throughput, better="high"),
    "storage_time": Part(dimension="s", figure=_storage_time, better="low"),
    "memory_rate": Part(dimension="bytes/s", figure=_memory_rate, better="high"),
    "ridge": Part(dimension="flop/byte", figure=_ridge),
    "board_power": Part(dimension="W", figure=_board_power),
    "storage_rate": Part(dimension="bytes/s", figure=_storage, better="high"),
    "distinct_experts": Part(dimension="experts", figure=_distinct),
    "all_reduce": Part(dimension="s", figure=_collective, better="low"),
    **SYSTEM_PARTS,
}
