"""What a part of an operator costs on a system under a runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from roofline.errors import InvalidSpecError, nearest
from roofline.hardware import Device, Engine, System
from roofline.provenance import Basis
from roofline.quantity import Quantity, maximum, minimum, total, where
from roofline.timing.forms import Ceilings, Work, attention_time, kernel_time
from roofline.timing.placement import ACCESS_BYTES, HOST_ENGINE, QUEUE_DEPTH, Part
from roofline.timing.runtime import Runtime

__all__ = [
    "COLLECTIVES",
    "Cost",
    "arithmetic",
    "ceilings_of",
    "cost_of",
    "engine_named",
    "side_by_side_s",
    "tier_rate",
]

COLLECTIVES: Final = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_receive")

#: What runs a format that an engine lacks, nearest first: numbers are widened, never narrowed.
_WIDENED: Final = {
    "fp4": ("fp8", "bf16", "fp16", "fp32"),
    "fp6": ("fp8", "bf16", "fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "int4": ("int8", "bf16", "fp16", "fp32"),
    "int8": ("bf16", "fp16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "tf32": ("fp32",),
    "fp32": (),
}

#: A kernel that takes longer than this many times its operations and bytes is bound by neither.
_OVERHEAD_FACTOR: Final = 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """One launch of a part of an operator.

    Parameters
    ----------
    compute_s, memory_s : Quantity
        At datasheet peak and bandwidth of the near memory [s]; for a collective, `memory_s` is the
        link's time.
    device_s : Quantity
        Under the runtime: the fitted time, never below ``max(compute_s, memory_s)`` [s].
    transfer_s : mapping of tier to Quantity
        Time of bytes that come from a tier the engine does not address [s].
    near_bytes : mapping of memory to Quantity
        Traffic of memories the engine addresses, copies from farther tiers included [B].
    runs_as : str
        Arithmetic format it really runs in.
    basis : str
        What `device_s` rests on.
    low, high : float
        10 % and 90 % quantiles of the logarithm of true over predicted device time.
    compute_share, memory_share : Quantity
        Of the peak and of the bandwidth: what the fit says kernels of this kind reach.
    """

    compute_s: Quantity
    memory_s: Quantity
    device_s: Quantity
    transfer_s: Mapping[str, Quantity]
    near_bytes: Mapping[str, Quantity]
    runs_as: str
    basis: Basis
    fit_kind: str
    low: float
    high: float
    compute_share: Quantity = 1.0
    memory_share: Quantity = 1.0

    @property
    def compute_binds(self) -> object:
        """Whether operations take longer than bytes, each at the rate that is reached."""
        return self.compute_s / self.compute_share > self.memory_s / self.memory_share

    @property
    def overhead_binds(self) -> object:
        """Whether fixed times, waves and padding take longer than operations and bytes."""
        near = maximum(self.compute_s / self.compute_share, self.memory_s / self.memory_share)
        return self.device_s > _OVERHEAD_FACTOR * near

    @property
    def ideal_s(self) -> Quantity:
        """Everything overlaps [s]."""
        return maximum(self.compute_s, self.memory_s, *self.transfer_s.values())

    @property
    def no_overlap_s(self) -> Quantity:
        """Nothing overlaps [s]."""
        return total((self.compute_s, self.memory_s, *self.transfer_s.values()))


def arithmetic(engine: Engine, format: str, runs_as: Mapping[str, str] | None = None) -> tuple[str, Quantity]:
    """Return the format an engine really multiplies in, and its dense peak [FLOP/s].

    An engine that lacks a format runs the next wider one it has; the accumulate format is fp32 or
    int32 where there is a choice.

    Parameters
    ----------
    runs_as : mapping of format to str, optional
        As in `Runtime`: what the software chooses where the engine has it.

    Raises
    ------
    InvalidSpecError
        If the engine has no format wide enough.
    """
    if not format:
        return "vector", engine.vector_flops_per_s
    chosen, _, accumulator = (runs_as or {}).get(format, "").partition(".")
    if accumulator in engine.peak_flops_per_s.get(chosen, {}):
        return chosen, engine.peak_flops_per_s[chosen][accumulator]
    for candidate in (format, *_WIDENED.get(format, ())):
        rates = engine.peak_flops_per_s.get(candidate)
        if rates:
            return candidate, rates[next(name for name in ("fp32", "int32", *rates) if name in rates)]
        if candidate == "fp32":
            return "fp32", engine.vector_flops_per_s
    raise InvalidSpecError(f"engine {engine.kind}: no arithmetic for {format!r}")


def engine_named(system: System, name: str) -> tuple[Engine, Device]:
    """Return an engine of the device, or of the host as ``host.cpu``, and the device it belongs to.

    Raises
    ------
    InvalidSpecError
        If there is no such engine.
    """
    device, own = system.device, name
    if name.startswith(HOST_ENGINE) and system.host is not None:
        device, own = system.host, name.removeprefix(HOST_ENGINE)
    if own not in device.engine:
        known = [*system.device.engine]
        if system.host is not None:
            known += [f"{HOST_ENGINE}{other}" for other in system.host.engine]
        raise InvalidSpecError(f"{system.name}: there is no engine {name!r}{nearest(name, known)}")
    return device.engine[own], device


def tier_rate(system: System, tier: str, part: Part | None = None, *, sharers: Quantity = 1.0) -> Quantity:
    """Return the rate at which bytes arrive from a tier that an engine does not address [B/s].

    ``host`` is the host's first memory over the host link; ``storage`` its storage as the part reads
    it, over the same link where there is a host and the host does not compute itself. A memory of
    the device reaches an engine of the host over the host link. Each of `sharers` devices has a host
    link of its own; host memory and storage they share.

    Raises
    ------
    InvalidSpecError
        If the system has no such tier.
    """
    link = None if system.host is None or system.host_link is None else system.host_link
    on_host = part is not None and part.engine.startswith(HOST_ENGINE)
    if tier == "host" and system.host is not None and link is not None:
        memory = next(iter(system.host.memory.values()))
        return minimum(memory.bandwidth_bytes_per_s / sharers, link.bandwidth_bytes_per_s)
    if tier in system.device.memory and link is not None and on_host:
        return minimum(system.device.memory[tier].bandwidth_bytes_per_s, link.bandwidth_bytes_per_s)
    if tier == "storage" and system.storage is not None:
        rate = (
            system.storage.read_rate(access_bytes=ACCESS_BYTES, queue_depth=QUEUE_DEPTH)
            if part is None
            else system.storage.read_rate(
                access_bytes=part.access_bytes,
                queue_depth=part.queue_depth,
                range_bytes=part.range_bytes,
                issuer=part.issuer,
            )
        )
        if part is not None:
            rate = 1.0 / (1.0 / rate + part.read_s / part.access_bytes)
        if link is None:
            return rate
        return rate / sharers if on_host else minimum(rate / sharers, link.bandwidth_bytes_per_s)
    raise InvalidSpecError(f"{system.name}: there is no tier {tier!r}")


def cost_of(
    part: Part,
    system: System,
    runtime: Runtime,
    scale: Mapping[str, Quantity],
    *,
    sharers: Quantity = 1.0,
) -> Cost:
    """Return what one launch of a part costs.

    Parameters
    ----------
    sharers : Quantity
        Devices that work at once, each with its part, and share the host's processor and memory.
    runtime : Runtime
        Of the part's engine.
    scale : mapping of kind to Quantity
        Factors on the fitted time of an operator kind, for perturbations; 1 where absent.

    Notes
    -----
    Bytes from a tier that the engine does not address are copied to its nearest memory and read
    there. The write of the copy is left out: far tiers are at least 10 times slower than the memory,
    so the bias is below 10 % of a bound that rarely binds.
    """
    engine, device = engine_named(system, part.engine)
    kind = part.operator.kind
    if kind in COLLECTIVES:
        return _collective(part, engine, system, runtime, scale)
    runs_as, peak = arithmetic(engine, part.operator.compute_format, runtime.runs_as)
    names = dict(zip(device.memory, device.memory, strict=True))
    if device is not system.device:
        names = {"host": next(iter(device.memory))}
    first = next(iter(names))
    far = {name: size for name, size in part.tiers.items() if name not in names}
    near = {name: size for name, size in part.tiers.items() if name in names}
    if far:
        near[first] = total((near.get(first, 0.0), *far.values()))
    own = 1.0 / sharers if device is not system.device else 1.0
    rates = {name: _bandwidth(engine, device, names[name]) * own for name in near}
    compute_s = part.flops / (peak * own)
    memory_s = maximum(0.0, *(size / rates[name] for name, size in near.items()))
    ceilings = ceilings_of(engine, device, peak=peak, memory=names[first], share=own)
    work = Work(flops=part.flops, bytes=total(near.values()), shape=part.operator.shape)
    transfer = {name: size / tier_rate(system, name, part, sharers=sharers) for name, size in far.items()}
    return _timed(part, work, ceilings, runtime, scale, compute_s, memory_s, transfer, near, runs_as)


def side_by_side_s(times: Sequence[Quantity], costs: Sequence[Cost], system: System) -> Quantity:
    """Return how long parts on several engines take together [s].

    Parameters
    ----------
    times : sequence of Quantity
        What each takes alone [s].

    Notes
    -----
    The longest of them, and no less than their bytes over what a shared memory gives to several
    engines at once: ``max(t_1, ..., t_n, sum B_i / W_shared)`` (PowerInfer-2, Xue et al. 2024,
    arXiv:2406.06282, section 2.3.1: 43.9 and 56 GB/s alone, 59.6 GB/s together).
    """
    longest = maximum(*times)
    if len(times) < 2:
        return longest
    waits: list[Quantity] = []
    for name, memory in system.device.memory.items():
        users = [cost.near_bytes[name] for cost in costs if name in cost.near_bytes]
        if len(users) > 1:
            shared = memory.shared_bandwidth_bytes_per_s
            waits.append(total(users) / (memory.bandwidth_bytes_per_s if shared is None else shared))
    return maximum(longest, *waits)


def ceilings_of(
    engine: Engine, device: Device, *, peak: Quantity, memory: str, share: Quantity = 1.0
) -> Ceilings:
    """Return the datasheet limits of a share of an engine that multiplies at `peak`."""
    return Ceilings(
        flops_per_s=peak * share,
        vector_flops_per_s=engine.vector_flops_per_s * share,
        bytes_per_s=_bandwidth(engine, device, memory) * share,
        units=engine.units,
        cache_bytes=engine.cache_bytes,
    )


def _bandwidth(engine: Engine, device: Device, memory: str) -> Quantity:
    own = device.memory[memory].bandwidth_bytes_per_s
    limit = engine.bandwidth_limit_bytes_per_s
    return own if limit is None else minimum(own, limit)


def _collective(
    part: Part, engine: Engine, system: System, runtime: Runtime, scale: Mapping[str, Quantity]
) -> Cost:
    """Return what a collective costs.

    Over a star, an all-reduce is a message to the hub and one back (TPI-LLM, Li et al. 2024,
    arXiv:2410.00531, section 3.2); the hub's own link is not shared out, as there.
    """
    link = system.peer_link
    bandwidth = 1.0 if link is None else link.bandwidth_bytes_per_s
    latency = 0.0 if link is None else link.latency_s
    ranks = part.operator.shape["ranks"]
    sent = part.operator.written["message"]
    starry = link is not None and link.topology == "star" and part.operator.kind == "all_reduce"
    messages = 2.0 if starry else 1.0
    wire_s = where(ranks > 1, sent / bandwidth + messages * latency, 0.0)
    ceilings = Ceilings(flops_per_s=1.0, bytes_per_s=bandwidth, units=engine.units, cache_bytes=0.0)
    work = Work(flops=0.0, bytes=sent, shape=part.operator.shape)
    return _timed(part, work, ceilings, runtime, scale, 0.0, wire_s, {}, {}, "link")


def _timed(
    part: Part,
    work: Work,
    ceilings: Ceilings,
    runtime: Runtime,
    scale: Mapping[str, Quantity],
    compute_s: Quantity,
    memory_s: Quantity,
    transfer_s: Mapping[str, Quantity],
    near_bytes: Mapping[str, Quantity],
    runs_as: str,
) -> Cost:
    ideal = maximum(compute_s, memory_s)
    fitted = _fitted(part, work, ceilings, runtime)
    if fitted is None:
        return Cost(
            compute_s=compute_s, memory_s=memory_s, device_s=ideal, transfer_s=transfer_s,
            near_bytes=near_bytes, runs_as=runs_as, basis="datasheet", fit_kind="", low=0.0, high=0.0,
        )  # fmt: skip
    return Cost(
        compute_s=compute_s,
        memory_s=memory_s,
        device_s=maximum(fitted.time_s * scale.get(fitted.kind, 1.0), ideal),
        transfer_s=transfer_s,
        near_bytes=near_bytes,
        runs_as=runs_as,
        basis=fitted.basis,
        fit_kind=fitted.kind,
        low=fitted.low,
        high=fitted.high,
        compute_share=fitted.compute_share,
        memory_share=fitted.memory_share,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fitted:
    time_s: Quantity
    kind: str
    basis: Basis
    low: float
    high: float
    compute_share: Quantity
    memory_share: Quantity


_ATTENTION: Final = ("attention", "latent_attention")
_WIDENED_BY: Final = 0.1  # log error that each step back from an exact fit adds; an estimate


def _fitted(part: Part, work: Work, ceilings: Ceilings, runtime: Runtime) -> _Fitted | None:
    """Return the fitted time of an operator; attention has a fit for few and one for many queries."""
    kind, format = part.operator.kind, part.operator.format
    kinds = (f"{kind}_decode", f"{kind}_prefill") if kind in _ATTENTION else (kind,)
    found = [runtime.fit_for(name, format) for name in kinds]
    fits = [fit for fit, _ in found if fit is not None]
    if len(fits) < len(kinds):
        return None
    first, last = fits[0], fits[-1]
    if first is last:
        time_s = kernel_time(
            first.form, work=work, ceilings=ceilings, parameters=first.parameters, choices=first.choices
        )
    else:
        time_s = attention_time(first, last, work=work, ceilings=ceilings)
    return _Fitted(
        time_s=time_s,
        kind=first.kind if first is last else kind,
        basis=first.basis if first.basis == last.basis else "transferred",
        low=min(fit.low - _WIDENED_BY * steps for fit, steps in found if fit is not None),
        high=max(fit.high + _WIDENED_BY * steps for fit, steps in found if fit is not None),
        # Of attention, few queries are bound by the cache and many by products.
        compute_share=minimum(1.0, last.parameters.get("compute_fraction", 1.0)),
        memory_share=minimum(1.0, first.parameters.get("memory_fraction", 1.0)),
    )
