"""From a scenario to a report: the passes of a request, integrated over its generation."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast

import numpy as np

from roofline.decoding.decoding import Pass
from roofline.decoding.encoding import encode_passes, encoder_loaded
from roofline.quantity import Quantity, maximum, minimum, revised, total
from roofline.report import Interval, PhaseReport, Report
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment
from roofline.timing.pass_time import TABLES, MemoryUse, PassTime, Row
from roofline.timing.uncertainty import band, perturbations

__all__ = ["analyze", "analyze_decode", "scaled_together", "spread_of"]

#: Gauss-Legendre nodes over a generation: within 3e-4 of the sum over every token, host floors,
#: windows and budgets included (docs/formulas.md section 9).
NODES: Final = 16
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(NODES)
_POSITIONS, _SHARES = (_NODES + 1.0) / 2.0, _WEIGHTS / 2.0


def analyze(
    scenario: Scenario,
    *,
    axes: int = 0,
    intervals: bool = True,
    keep_rows: bool = True,
    tables: Collection[str] = TABLES,
) -> Report:
    """Return times, memory and bounds of a scenario.

    Parameters
    ----------
    scenario : Scenario
        Its numbers may be arrays that broadcast against each other.
    axes : int
        Dimensions of those arrays; 0 for a single point.
    intervals : bool
        Whether to evaluate the perturbations that intervals need.
    keep_rows : bool
        Whether to keep operator tables; only a single point has them.
    tables : collection of str
        Which breakdowns to make, of `TABLES`; the others stay empty.

    Notes
    -----
    A request's decode time is the integral of the iteration time over its generation at fixed
    Gauss-Legendre nodes, so output length may be an array too.
    """
    keep = _Keep(rows=keep_rows and axes == 0, tables=tables)
    prefill, decode = _prefill(scenario, axes, keep), _decode(scenario, axes, keep)
    moved_prefill, moved_decode = prefill, decode
    spread = _spread(prefill.timed + decode.timed) if intervals else {}
    if spread:
        moved = _scaled(scenario, perturbations(spread, axes + 1))
        moved_prefill, moved_decode = _prefill(moved, axes, _TIMES), _decode(moved, axes, _TIMES)
    return _report(scenario, prefill, decode, moved_prefill, moved_decode, axes)


def analyze_decode(
    scenario: Scenario, *, axes: int = 0, intervals: bool = True, tables: Collection[str] = TABLES
) -> tuple[PhaseReport, MemoryUse]:
    """Return the mean iteration of decoding and the memory in use, without any prefill.

    Parameters are those of `analyze`; activations are those of the decode passes.
    """
    decode = _decode(scenario, axes, _Keep(rows=False, tables=tables))
    moved = decode
    spread = _spread(decode.timed) if intervals else {}
    if spread:
        moved = _decode(_scaled(scenario, perturbations(spread, axes + 1)), axes, _TIMES)
    return _phase_report(decode, moved, axes), _memory(scenario, decode.timed, axes)


def spread_of(scenario: Scenario) -> dict[str, tuple[float, float]]:
    """Return the log-quantiles (low, high) of true over predicted time of each fit kind that is used."""
    return _spread(_prefill(scenario, 0, _TIMES).timed + _decode(scenario, 0, _TIMES).timed)


def scaled_together(scenario: Scenario, spread: Mapping[str, tuple[float, float]]) -> Scenario:
    """Return the scenario with those errors on one axis, as `perturbations` lays them out.

    Several scenarios so scaled share their errors: what a ratio of them is uncertain by is less than
    what each is.
    """
    return _scaled(scenario, perturbations(spread, 0))


@dataclass(frozen=True, kw_only=True)
class _Keep:
    """What a run keeps beside its times."""

    rows: bool
    tables: Collection[str]


_TIMES: Final = _Keep(rows=False, tables=())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Phase:
    """Sums over the passes of a phase, mean over the generation."""

    time_s: Quantity
    ideal_s: Quantity
    no_overlap_s: Quantity
    host_s: Quantity
    flops: Quantity
    tables: Mapping[str, Mapping[str, Quantity]]
    tokens: Quantity
    runs_as: Mapping[str, str]
    rows: tuple[tuple[Row, ...], ...]
    timed: tuple[tuple[Pass, PassTime], ...]


def _prefill(scenario: Scenario, axes: int, keep: _Keep) -> _Phase:
    first = scenario.prefill_deployment or scenario.deployment
    workload = scenario.workload
    passes = (*encode_passes(first, workload), *scenario.decoding.prefill(first, workload))
    timed = _timed(passes, keep)
    return _phase(timed, 1.0, _mean(axes), steady=False)


def _decode(scenario: Scenario, axes: int, keep: _Keep) -> _Phase:
    workload = scenario.workload
    positions = _POSITIONS.reshape((NODES,) + (1,) * axes)
    generated = workload.generated_at(positions)
    iteration = scenario.decoding.iteration(scenario.deployment, workload, generated)
    return _phase(_timed(iteration.passes, keep), iteration.tokens, _mean(axes), steady=True)


def _timed(passes: Iterable[Pass], keep: _Keep) -> tuple[tuple[Pass, PassTime], ...]:
    return tuple(
        (part, part.deployment.time(part.step, part.phase, keep_rows=keep.rows, tables=keep.tables))
        for part in passes
    )


def _spread(timed: tuple[tuple[Pass, PassTime], ...]) -> dict[str, tuple[float, float]]:
    """The widest log-quantiles of each fit kind that has any."""
    spread: dict[str, tuple[float, float]] = {}
    for _, time in timed:
        for kind, (low, high) in time.spread.items():
            had = spread.get(kind, (0.0, 0.0))
            spread[kind] = (min(low, had[0]), max(high, had[1]))
    return {kind: bounds for kind, bounds in spread.items() if bounds != (0.0, 0.0)}


def _mean(axes: int) -> Callable[[Quantity], Quantity]:
    """Mean over the generation axis, which stands right before the user's axes."""
    weights = _SHARES.reshape((NODES,) + (1,) * axes)

    def mean(value: Quantity) -> Quantity:
        if np.ndim(value) <= axes:
            return value
        array = np.asarray(value)
        alike = array.shape[-(axes + 1)] == 1
        summed = np.squeeze(array, -(axes + 1)) if alike else np.sum(array * weights, axis=-(axes + 1))
        return cast(Quantity, summed) if summed.ndim else float(summed)

    return mean


def _phase(
    timed: tuple[tuple[Pass, PassTime], ...],
    tokens: Quantity,
    mean: Callable[[Quantity], Quantity],
    *,
    steady: bool,
) -> _Phase:
    def over(value: Callable[[PassTime], Quantity]) -> Quantity:
        return total(mean(part.count * value(time)) for part, time in timed)

    def table(name: str) -> dict[str, Quantity]:
        keys = dict.fromkeys(key for _, time in timed for key in getattr(time, name))

        def entry(time: PassTime, key: str) -> Quantity:
            value: Quantity = getattr(time, name).get(key, 0.0)
            return value

        return {key: over(partial(entry, key=key)) for key in keys}

    host_s = total(mean(part.count * part.host_s) for part, _ in timed)
    extra = host_s + total(mean(part.count * part.device_s) for part, _ in timed)
    return _Phase(
        time_s=over(lambda time: time.steady_s if steady else time.time_s) + extra,
        ideal_s=over(lambda time: time.ideal_s),
        no_overlap_s=over(lambda time: time.no_overlap_s),
        host_s=over(lambda time: time.host_s) + host_s,
        flops=over(lambda time: time.flops),
        tables={
            name: table(name) for name in ("bytes_by_tensor", "bytes_by_tier", "bound_s", "busy_s", "basis_s")
        },
        tokens=mean(tokens),
        runs_as={key: value for _, time in timed for key, value in time.runs_as.items()},
        rows=tuple(_mean_rows((part, time), mean) for part, time in timed),
        timed=timed,
    )


def _mean_rows(pair: tuple[Pass, PassTime], mean: Callable[[Quantity], Quantity]) -> tuple[Row, ...]:
    part, time = pair
    count = mean(part.count)
    return tuple(
        revised(row, **{name: count * getattr(row, name) for name in ("launches", "ideal_s", "time_s")})
        for row in (_over_generation(row, mean) for row in time.rows)
    )


def _over_generation(value: Any, mean: Callable[[Quantity], Quantity]) -> Any:
    """A row with every number replaced by its mean over the generation."""
    if isinstance(value, np.ndarray):
        return mean(value)
    if isinstance(value, Mapping):
        return {key: _over_generation(part, mean) for key, part in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return revised(
            value,
            **{name: _over_generation(getattr(value, name), mean) for name in value.__dataclass_fields__},
        )
    return value


def _scaled(scenario: Scenario, scale: Mapping[str, Quantity]) -> Scenario:
    def scaled(deployment: Deployment) -> Deployment:
        return replace(deployment, scale=scale)

    prefill = scenario.prefill_deployment
    return replace(
        scenario,
        deployment=scaled(scenario.deployment),
        decoding=scenario.decoding.with_deployments(scaled),
        prefill_deployment=None if prefill is None else scaled(prefill),
    )


def _report(
    scenario: Scenario,
    prefill: _Phase,
    decode: _Phase,
    moved_prefill: _Phase,
    moved_decode: _Phase,
    axes: int,
) -> Report:
    workload = scenario.workload
    steps = workload.decode_steps
    tpot = decode.time_s / decode.tokens
    tpot_moved = moved_decode.time_s / moved_decode.tokens
    tpot_ideal = decode.ideal_s / decode.tokens
    whole = prefill.time_s + steps * tpot
    whole_moved = moved_prefill.time_s + steps * tpot_moved
    generated = workload.sequences * workload.output_tokens
    prompts = workload.batch_size * (workload.prompt_tokens + workload.image_tokens)
    return Report(
        scenario=scenario,
        prefill=_phase_report(prefill, moved_prefill, axes),
        decode=_phase_report(decode, moved_decode, axes),
        ttft_s=_interval(moved_prefill.time_s, prefill.ideal_s, axes),
        tpot_s=_interval(tpot_moved, tpot_ideal, axes),
        end_to_end_s=_interval(whole_moved, prefill.ideal_s + steps * tpot_ideal, axes),
        output_tokens_per_s=generated / whole,
        total_tokens_per_s=(generated + prompts) / whole,
        decode_tokens_per_s=workload.sequences / tpot,
        memory=_memory(scenario, prefill.timed + decode.timed, axes),
        assumptions=(*scenario.assumptions, *_arithmetic_notes({**prefill.runs_as, **decode.runs_as})),
    )


def _interval(values: Quantity, ideal_s: Quantity, axes: int) -> Interval:
    """The interval of a time; each kind alone stays above the ideal time, several together need not."""
    value, low, high = band(values, axes)
    return Interval(value=value, low=maximum(low, minimum(ideal_s, value)), high=high)


def _phase_report(nominal: _Phase, moved: _Phase, axes: int) -> PhaseReport:
    return PhaseReport(
        time_s=_interval(moved.time_s, nominal.ideal_s, axes),
        ideal_s=nominal.ideal_s,
        no_overlap_s=nominal.no_overlap_s,
        host_s=nominal.host_s,
        flops=nominal.flops,
        tokens=nominal.tokens,
        runs_as=nominal.runs_as,
        rows=tuple(row for part in nominal.rows for row in part),
        **nominal.tables,  # type: ignore[arg-type]
    )


def _memory(scenario: Scenario, timed: tuple[tuple[Pass, PassTime], ...], axes: int) -> MemoryUse:
    """Memory at the end of the run, of every model that is loaded together.

    Activations are the largest of any pass that was timed.
    """
    working = maximum(*(_largest(time.activation_bytes, axes) for _, time in timed))
    target, workload = scenario.deployment, scenario.workload
    loaded = (*scenario.decoding.loaded(target, workload), *encoder_loaded(target, workload))
    return _together(part.memory(activation_bytes=working) for part in loaded)


def _largest(value: Quantity, axes: int) -> Quantity:
    """Largest over the generation axis."""
    return value if np.ndim(value) <= axes else cast(Quantity, np.max(value, axis=-(axes + 1)))


#: Kept once, however many models are loaded: they run one after another.
_NOT_TOGETHER: Final = ("reserve", "activations")


def _together(uses: Iterable[MemoryUse]) -> MemoryUse:
    used: dict[str, dict[str, Quantity]] = {}
    capacity: dict[str, Quantity] = {}
    for use in uses:
        capacity.update(use.capacity_bytes)
        for tier, tensors in use.used_bytes.items():
            here = used.setdefault(tier, {})
            for tensor, size in tensors.items():
                had = here.get(tensor, 0.0)
                here[tensor] = maximum(had, size) if tensor in _NOT_TOGETHER else had + size
    return MemoryUse(used_bytes=used, capacity_bytes=capacity)


def _arithmetic_notes(notes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"the engine has no {asked} arithmetic; it runs as {had}" for asked, had in notes.items())
