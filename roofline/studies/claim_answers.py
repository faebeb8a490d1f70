"""Which of our figures answers a published one: of a scenario, or of a single part of the model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from roofline.analysis import analyze, scaled_together, spread_of
from roofline.errors import InvalidSpecError, nearest
from roofline.quantity import Quantity, total
from roofline.report import Report
from roofline.scenario import Scenario

__all__ = ["ANSWERS", "UNITS", "Answer", "factor_of", "largest_batch", "together"]

#: Units of published figures: dimension and factor to SI; a share counts as a plain number.
UNITS: Final[Mapping[str, tuple[str, float]]] = {
    "s": ("s", 1.0), "ms": ("s", 1e-3), "us": ("s", 1e-6), "ns": ("s", 1e-9), "s/token": ("s", 1.0),
    "ms/token": ("s", 1e-3), "min": ("s", 60.0), "tok/s": ("token/s", 1.0), "tok": ("token", 1.0),
    "tokens": ("token", 1.0), "x": ("", 1.0), "": ("", 1.0), "%": ("", 0.01), "B": ("bytes", 1.0),
    "MB": ("bytes", 1e6), "GB": ("bytes", 1e9), "MiB": ("bytes", 2.0**20), "GiB": ("bytes", 2.0**30),
    "GFLOP": ("flop", 1e9), "TFLOP": ("flop", 1e12), "TFLOP/s": ("flop/s", 1e12), "GB/s": ("bytes/s", 1e9),
    "experts": ("experts", 1.0), "B params": ("parameters", 1e9), "FLOP/B": ("flop/byte", 1.0),
    "W": ("W", 1.0),
}  # fmt: skip


def factor_of(unit: str, dimension: str, where: str) -> float:
    """Return what a figure in that unit is multiplied by to be in SI units.

    Raises
    ------
    InvalidSpecError
        If there is no such unit, or it measures something else.
    """
    if unit not in UNITS:
        raise InvalidSpecError(f"{where}: no unit {unit!r}{nearest(unit, UNITS)}")
    found, factor = UNITS[unit]
    if found != dimension:
        raise InvalidSpecError(f"{where}: {unit!r} does not convert to {dimension or 'a plain number'}")
    return factor


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A figure of a report.

    Parameters
    ----------
    dimension : str
        As in `UNITS`.
    value, ideal : callable
        The figure, and the same at datasheet figures.
    better : str
        ``low`` for times, ``high`` for rates, ``exact`` for counts, which have no bound to beat.
    phase : str
        Whose bound binds it.
    """

    dimension: str
    value: Callable[[Report], Quantity]
    ideal: Callable[[Report], Quantity]
    better: Literal["low", "high", "exact"]
    phase: Literal["prefill", "decode"] = "decode"


def _held(report: Report, *tensors: str) -> Quantity:
    """Bytes of some tensors on one device and in the tiers beyond it; of all where none is named."""
    tiers = report.memory.used_bytes.values()
    return total(
        size
        for tier in tiers
        for name, size in tier.items()
        if name != "reserve" and (not tensors or name in tensors)
    )


def _cache(report: Report) -> Quantity:
    return _held(report, "kv_cache", "state")


def _weights(report: Report) -> Quantity:
    return _held(report, "weights", "expert_weights", "embedding")


def _ideal_tpot(report: Report) -> Quantity:
    return report.decode.ideal_s / report.decode.tokens


def _ideal_whole(report: Report) -> Quantity:
    steps = report.scenario.workload.decode_steps
    return report.prefill.ideal_s + steps * _ideal_tpot(report)


def _whole(report: Report) -> Quantity:
    steps = report.scenario.workload.decode_steps
    return report.ttft_s.value + steps * report.tpot_s.value


def _generated(report: Report) -> Quantity:
    workload = report.scenario.workload
    return workload.sequences * workload.output_tokens


def _prompts(report: Report) -> Quantity:
    workload = report.scenario.workload
    return workload.batch_size * workload.prompt_tokens


def _all_tokens(report: Report) -> Quantity:
    return _generated(report) + _prompts(report)


def _active_layers(report: Report) -> Quantity:
    """Parameters one token passes through, without embedding and head."""
    model = report.scenario.deployment.model
    around = total(
        weight.parameters for layer, _, weight, _ in model.weights() if layer in ("embedding", "head")
    )
    return model.active_parameters - around


def _transfer(report: Report) -> Quantity:
    """Seconds of a decode step in which storage or host memory is read."""
    return total(
        seconds for name, seconds in report.decode.busy_s.items() if name in ("storage", "host_link")
    )


def _count(
    value: Callable[[Report], Quantity], dimension: str, phase: Literal["prefill", "decode"]
) -> Answer:
    return Answer(dimension=dimension, value=value, ideal=value, better="exact", phase=phase)


ANSWERS: Final[Mapping[str, Answer]] = {
    "ttft": Answer(
        dimension="s", value=lambda r: r.ttft_s.value, ideal=lambda r: r.prefill.ideal_s,
        better="low", phase="prefill",
    ),
    "tpot": Answer(dimension="s", value=lambda r: r.tpot_s.value, ideal=_ideal_tpot, better="low"),
    "iteration": Answer(
        dimension="s", value=lambda r: r.decode.time_s.value, ideal=lambda r: r.decode.ideal_s, better="low"
    ),
    "end_to_end": Answer(dimension="s", value=_whole, ideal=_ideal_whole, better="low"),
    "transfer": Answer(dimension="s", value=_transfer, ideal=_transfer, better="low"),
    "decode_throughput": Answer(
        dimension="token/s",
        value=lambda r: r.scenario.workload.sequences / r.tpot_s.value,
        ideal=lambda r: r.scenario.workload.sequences / _ideal_tpot(r),
        better="high",
    ),
    "prefill_throughput": Answer(
        dimension="token/s",
        value=lambda r: _prompts(r) / r.ttft_s.value, ideal=lambda r: _prompts(r) / r.prefill.ideal_s,
        better="high", phase="prefill",
    ),
    "output_throughput": Answer(
        dimension="token/s", value=lambda r: _generated(r) / _whole(r),
        ideal=lambda r: _generated(r) / _ideal_whole(r), better="high",
    ),
    "total_throughput": Answer(
        dimension="token/s", value=lambda r: _all_tokens(r) / _whole(r),
        ideal=lambda r: _all_tokens(r) / _ideal_whole(r), better="high",
    ),
    "tokens_per_step": _count(lambda r: r.decode.tokens, "token", "decode"),
    "prefill_flops": _count(lambda r: r.prefill.flops, "flop", "prefill"),
    "decode_flops": _count(lambda r: r.decode.flops, "flop", "decode"),
    "weights": _count(_weights, "bytes", "decode"),
    "cache": _count(_cache, "bytes", "decode"),
    "memory": _count(_held, "bytes", "decode"),
    "decode_traffic": _count(lambda r: total(r.decode.bytes_by_tier.values()), "bytes", "decode"),
    "active_parameters": _count(
        lambda r: r.scenario.deployment.model.active_parameters, "parameters", "decode"
    ),
    "active_layer_parameters": _count(_active_layers, "parameters", "decode"),
}  # fmt: skip


#: The largest batch that is tried.
_MOST_SEQUENCES: Final = 1024


def largest_batch(scenario: Scenario) -> Scenario:
    """Return the scenario at the largest batch that fits in memory, 1,024 at most.

    Raises
    ------
    InvalidSpecError
        If not even one sequence fits.
    """
    batches = np.arange(1.0, _MOST_SEQUENCES + 1.0)
    report = analyze(
        scenario.replace_at("workload.batch_size", batches),
        axes=1,
        intervals=False,
        keep_rows=False,
        tables=(),
    )
    fitting = batches[np.broadcast_to(report.fits, batches.shape) > 0]
    if not fitting.size:
        raise InvalidSpecError(f"{scenario.deployment.model.name}: not one sequence fits in memory")
    return scenario.replace_at("workload.batch_size", float(fitting[-1]))


def together(scenarios: tuple[Scenario, ...]) -> tuple[Report, ...]:
    """Return reports in which every fit's error moves all scenarios alike, on one leading axis."""
    spread: dict[str, tuple[float, float]] = {}
    for scenario in scenarios:
        for kind, (low, high) in spread_of(scenario).items():
            had = spread.get(kind, (0.0, 0.0))
            spread[kind] = (min(low, had[0]), max(high, had[1]))
    return tuple(
        analyze(scaled_together(scenario, spread), axes=1, intervals=False, keep_rows=False)
        for scenario in scenarios
    )
