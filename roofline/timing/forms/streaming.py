"""Kernels described by bytes alone: the roofline with overhead, row-wise passes, collectives."""

from collections.abc import Mapping
from dataclasses import replace

from roofline.quantity import Quantity, minimum, smooth_maximum, where
from roofline.timing.forms.work import Ceilings, Work, cached_share

__all__ = ["overhead_roofline", "rowwise_pass", "two_protocol_collective", "vector_roofline"]


def overhead_roofline(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return ``t0 + |F / (e_c P), B / (e_m W)|_r`` [s], the roofline with a fixed time per kernel.

    Parameters
    ----------
    work : Work
    ceilings : Ceilings
    parameters : mapping
        ``t0_s``, ``compute_fraction``, ``memory_fraction``.
    choices : mapping
        ``exponent`` r: 1 adds both terms, large takes the longer.
    warm : bool
        Ignored.

    References
    ----------
    Williams et al. 2009, doi:10.1145/1498765.1498785 (roofline).
    """
    compute = work.flops / (parameters["compute_fraction"] * ceilings.flops_per_s)
    memory = work.bytes / (parameters["memory_fraction"] * ceilings.bytes_per_s)
    return parameters["t0_s"] + smooth_maximum(compute, memory, choices["exponent"])


def vector_roofline(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return the roofline with a fixed time per kernel of a kernel that uses vector units only [s].

    Parameters are those of `overhead_roofline`, but that ``compute_fraction`` is of the vector rate:
    kernels that widen 4-bit blocks or FP8 as they go leave a processor's matrix units idle.
    """
    vector = replace(ceilings, flops_per_s=ceilings.vector_flops_per_s)
    return overhead_roofline(work, vector, parameters, choices, warm)


def rowwise_pass(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return ``t0 + bytes / (e_m B)`` [s]: normalisation, elementwise and quantisation passes.

    Parameters
    ----------
    work : Work
    ceilings : Ceilings
    parameters : mapping
        ``t0_s``, ``memory_fraction``, ``cache_gain``.
    choices : mapping
        None.
    warm : bool
        See `Form`.
    """
    memory = work.bytes / (parameters["memory_fraction"] * ceilings.bytes_per_s)
    if warm:
        found = cached_share(work.bytes, ceilings.cache_bytes)
        memory = memory * (1.0 - found + found * parameters["cache_gain"])
    return parameters["t0_s"] + memory


def two_protocol_collective(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return the time of a collective, the faster of a bulk and a low-latency protocol [s].

    Parameters
    ----------
    work : Work
        ``bytes`` is what each rank sends over its link; ``shape`` has ranks.
    ceilings : Ceilings
        ``bytes_per_s`` of the link, one direction.
    parameters : mapping
        ``latency_s`` alpha and ``bandwidth_fraction`` e of the bulk protocol on two ranks;
        ``latency_exponent`` and ``bandwidth_exponent`` on ``ranks / 2``; ``fast_latency``, latency
        of the other protocol over alpha, <= 1; ``fast_bandwidth``, its rate over e, <= 1;
        ``crossing_factor``, time of a byte among more than two ranks over that between two, beside the
        exponent, where pairs sit behind a switch or socket of their own (absent: 1).
    choices : mapping
        None.
    warm : bool
        Ignored.

    Notes
    -----
    ``t = min(alpha r^x + c bytes r^y / (e L), f_l alpha r^x + c bytes r^y / (f_b e L))``, r = ranks/2,
    c = 1 on two ranks.

    References
    ----------
    Hockney 1994, doi:10.1016/S0167-8191(06)80021-9 (alpha-beta); Thakur et al. 2005,
    doi:10.1177/1094342005051521 (ring collectives); NVIDIA nccl-tests, PERFORMANCE.md (bus bandwidth
    factors); docs/decisions/0003-latency-forms.md.
    """
    pairs = work.shape["ranks"] / 2.0
    rate = parameters["bandwidth_fraction"] * ceilings.bytes_per_s
    crossing = where(pairs > 1.0, parameters.get("crossing_factor", 1.0), 1.0)
    transfer = work.bytes / rate * crossing * pairs ** parameters["bandwidth_exponent"]
    latency = parameters["latency_s"] * pairs ** parameters["latency_exponent"]
    fast = latency * parameters["fast_latency"] + transfer / parameters["fast_bandwidth"]
    return minimum(latency + transfer, fast)
