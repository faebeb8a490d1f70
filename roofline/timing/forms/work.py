"""What a kernel has to do, the ceilings it runs under, and the pieces every latency form shares."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from roofline.quantity import Quantity, ceil, minimum, where

__all__ = ["Ceilings", "Form", "Work", "cached_share", "fastest", "waves"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Ceilings:
    """Datasheet limits of the engine that runs a kernel.

    Parameters
    ----------
    flops_per_s : Quantity
        Dense peak at the kernel's compute format [FLOP/s].
    bytes_per_s : Quantity
        Bandwidth of the memory it streams from, or of the link for a collective [B/s].
    units : Quantity
        Streaming multiprocessors, compute units or cores.
    cache_bytes : Quantity
        Last-level cache [B].
    vector_flops_per_s : Quantity
        Rate of the vector units, for kernels that leave the matrix units idle [FLOP/s].
    """

    flops_per_s: Quantity
    bytes_per_s: Quantity
    units: Quantity
    cache_bytes: Quantity
    vector_flops_per_s: Quantity = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """What one launch of a kernel does: operations, bytes through memory, and its shape."""

    flops: Quantity
    bytes: Quantity
    shape: Mapping[str, Quantity]


class Form(Protocol):
    """A latency form: work, ceilings, fitted parameters and discrete choices to seconds.

    With `warm`, bytes that a repeated timing loop would find in the last-level cache are charged at
    the cache's fitted rate; a pass over a whole model finds them evicted, so predictions are cold.
    """

    def __call__(
        self,
        work: Work,
        ceilings: Ceilings,
        parameters: Mapping[str, Quantity],
        choices: Mapping[str, float],
        warm: bool,
    ) -> Quantity:
        """Return the time of one launch [s]."""


def waves(items: Quantity, units: Quantity, rounding: float) -> Quantity:
    """Return how many work items in turn the busiest unit runs.

    Parameters
    ----------
    items : Quantity
        Work items (tiles, thread blocks) of the launch, > 0.
    units : Quantity
        Units that run them side by side, > 0.
    rounding : float
        1: whole waves, as with one thread block per tile; 0: the mean, as with persistent kernels
        that cut the last wave (stream-K, Osama et al. 2023, arXiv:2301.03598); between: a blend.
    """
    mean = items / units
    return where(mean <= 1.0, 1.0, (1.0 - rounding) * mean + rounding * ceil(mean))


def cached_share(working_set_bytes: Quantity, cache_bytes: Quantity) -> Quantity:
    """Return the share of a repeatedly read working set found in a cache: ``1/(1 + (x/C)**4)``.

    Notes
    -----
    An empirical step: 94 % at half the capacity, 50 % at the capacity, 6 % at twice. A device whose
    cache size is not published (0) finds nothing.
    """
    capacity = where(cache_bytes > 0, cache_bytes, 1.0)
    return where(cache_bytes > 0, 1.0 / (1.0 + (working_set_bytes / capacity) ** 4), 0.0)


#: Largest array of all menu entries at once; beyond it the menu is walked one entry at a time.
_STACKED_ELEMENTS: Final = 16_384


def fastest(
    menu: tuple[tuple[float, ...], ...],
    operands: Iterable[Quantity],
    time: Callable[..., Quantity],
) -> Quantity:
    """Return the smallest time over a menu of kernels.

    Parameters
    ----------
    menu : tuple of tuple of float
        One row of arguments of `time` per kernel.
    operands : iterable of Quantity
        Everything `time` broadcasts with; only their shapes are used.
    time : callable
        Time of one kernel [s], inf where it cannot run.

    Notes
    -----
    Few points are evaluated for the whole menu on one leading axis, many points entry by entry; the
    numbers are the same and memory stays that of one entry.
    """
    shape = np.broadcast_shapes(*(getattr(operand, "shape", ()) for operand in operands))
    if len(menu) * int(np.prod(shape)) <= _STACKED_ELEMENTS:
        columns = np.array(menu).T.reshape((len(menu[0]), len(menu)) + (1,) * len(shape))
        stacked: Any = time(*columns)
        return stacked.min(axis=0) if shape else float(stacked.min())
    result = time(*menu[0])
    for row in menu[1:]:
        result = minimum(result, time(*row))
    return result
