"""What one pass took and did, what a device holds, and one operator's row of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from roofline.graph.operator import Operator
from roofline.provenance import Basis
from roofline.quantity import Quantity, maximum, total, where
from roofline.timing.cost import COLLECTIVES, Cost

__all__ = ["BOUNDS", "TABLES", "MemoryUse", "PassTime", "Phase", "Row"]

Phase = Literal["prefill", "decode", "verification", "draft", "encode"]

#: What can bind a kernel or a result, in the order of their codes.
BOUNDS = ("memory", "compute", "overhead", "link", "transfer", "host")


#: What the time and traffic of a pass are broken down by.
TABLES = ("bound", "basis", "busy", "tensor", "tier")


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One operator of a pass with its cost; times are of all its launches on one rank [s].

    Parameters
    ----------
    cost : Cost
        Of one launch.
    launches : Quantity
        On one rank, for one microbatch.
    copies : Quantity
        Ranks and microbatches that do the same.
    """

    operator: Operator
    engine: str
    cost: Cost
    launches: Quantity
    ideal_s: Quantity
    time_s: Quantity
    copies: Quantity = 1.0

    @property
    def bound(self) -> Quantity:
        """What binds it, as a position in `BOUNDS`."""
        return _bound(self.cost, self.operator.kind in COLLECTIVES)


@dataclass(frozen=True, kw_only=True, eq=False)
class PassTime:
    """How long one forward pass takes, and what it did.

    Parameters
    ----------
    time_s, ideal_s, no_overlap_s : Quantity
        Under the runtime; at datasheet figures, everything inside a kernel overlapping; nothing
        overlapping [s].
    steady_s : Quantity
        Time per pass when passes follow each other through a pipeline [s].
    host_s : Quantity
        Time of the host that launches it [s].
    bound_s : mapping of bound to Quantity
        Device time by what bound the kernels [s].
    busy_s : mapping of stream to Quantity
        How long each stream is busy [s].
    basis_s : mapping of basis to Quantity
        Device time by what it rests on [s].
    flops : Quantity
        Operations on all devices [FLOP].
    bytes_by_tensor, bytes_by_tier : mapping of str to Quantity
        Traffic of all devices [B].
    spread : mapping of fit kind to (low, high)
        Log-quantiles of the fits used, and of the whole pass as ``pass_decode`` or ``pass_prefill``.
    activation_bytes : Quantity
        Largest input and output of one kernel, on one device [B].
    streams_s : mapping of layer to mapping of stream to Quantity
        How long all layers of a name keep each stream busy, waits in the engine's; only with rows [s].
    rows : tuple of Row
        Kept only where asked for.
    """

    time_s: Quantity
    ideal_s: Quantity
    no_overlap_s: Quantity
    steady_s: Quantity
    host_s: Quantity
    bound_s: Mapping[str, Quantity]
    busy_s: Mapping[str, Quantity]
    basis_s: Mapping[Basis, Quantity]
    flops: Quantity
    bytes_by_tensor: Mapping[str, Quantity]
    bytes_by_tier: Mapping[str, Quantity]
    spread: Mapping[str, tuple[float, float]]
    runs_as: Mapping[str, str]
    activation_bytes: Quantity
    streams_s: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryUse:
    """What one device holds, by tier and tensor, against what it has [B]."""

    used_bytes: Mapping[str, Mapping[str, Quantity]]
    capacity_bytes: Mapping[str, Quantity]

    @property
    def fits(self) -> Quantity:
        """1 where every tier holds what is placed in it, else 0."""
        result: Quantity = 1.0
        for tier, tensors in self.used_bytes.items():
            result = result * where(total(tensors.values()) <= self.capacity_bytes[tier], 1.0, 0.0)
        return result

    @property
    def shortfall_bytes(self) -> Mapping[str, Quantity]:
        """How much each tier lacks [B], 0 where it holds what is placed in it."""
        return {
            tier: maximum(total(tensors.values()) - self.capacity_bytes[tier], 0.0)
            for tier, tensors in self.used_bytes.items()
        }


def _bound(cost: Cost, link: bool) -> Quantity:
    """Code of what binds one launch."""
    far = maximum(0.0, *cost.transfer_s.values())
    code = 3.0 if link else where(cost.overhead_binds, 2.0, where(cost.compute_binds, 1.0, 0.0))
    return where(far > cost.device_s, 4.0, code)
