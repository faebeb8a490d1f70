"""What the fitted forms chose for one operator: tiles and occupancy, and what padding and joining cost."""

from dataclasses import dataclass
from typing import Final

from roofline.hardware import System
from roofline.quantity import ceil, maximum, total
from roofline.timing.cost import arithmetic, ceilings_of, engine_named
from roofline.timing.forms import Ceilings, Work, kernel_time
from roofline.timing.forms.matrix_product import chosen_tile, largest_tile
from roofline.timing.pass_time import Row
from roofline.timing.runtime import KernelFit, Runtime

__all__ = ["Tiling", "joining_share", "padding_loss", "tiling_of"]

_TILED: Final = "tiled_matrix_product"


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The kernel of one matrix product, as the fitted form takes it.

    Parameters
    ----------
    m, n, k : float
        Rows, columns and depth of the product on one rank.
    rows, columns, split : float
        Of a tile of the output, and thread blocks that share its reduction.
    padded_m : float
        m in whole tiles.
    blocks, units : float
        Thread blocks of the launch, and units that run one each.
    waves : float
        Turns the busiest unit takes, in whole blocks.
    bandwidth_share : float
        Share of the datasheet bandwidth that the launch reaches, fixed times included, 0..1.
    """

    m: float
    n: float
    k: float
    rows: float
    columns: float
    split: float
    padded_m: float
    blocks: float
    units: float
    waves: float
    bandwidth_share: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Launch:
    work: Work
    ceilings: Ceilings
    fit: KernelFit


def tiling_of(row: Row, system: System, runtime: Runtime) -> Tiling | None:
    """Return the kernel the fitted form takes for a row, or None where the form has no tiles.

    Parameters
    ----------
    row : Row
        Of a single point.
    runtime : Runtime
        Of the row's engine.

    References
    ----------
    docs/decisions/0003-latency-forms.md; Hong et al. 2023, FlashDecoding++, arXiv:2311.01282, section 4
    (flat products).
    """
    launch = _launch(row, system, runtime, row.operator.kind)
    if launch is None or launch.fit.form != _TILED:
        return None
    work, ceilings, fit = launch.work, launch.ceilings, launch.fit
    tile = chosen_tile(work, ceilings, fit.parameters, fit.choices)
    shape = {name: float(value) for name, value in work.shape.items()}
    row_tiles, column_tiles = ceil(shape["m"] / tile.rows), ceil(shape["n"] / tile.columns)
    blocks = shape["groups"] * row_tiles * column_tiles * tile.split
    units = float(ceilings.units)
    return Tiling(
        m=shape["m"],
        n=shape["n"],
        k=shape["k"],
        rows=tile.rows,
        columns=tile.columns,
        split=tile.split,
        padded_m=float(row_tiles * tile.rows),
        blocks=float(blocks),
        units=units,
        waves=float(ceil(blocks / units)),
        bandwidth_share=float(work.bytes / ceilings.bytes_per_s / row.cost.device_s),
    )


#: Rows that libraries without kernels for flat products pad m to (FlashDecoding++, section 4).
_PADDED_ROWS: Final = 64.0


def padding_loss(row: Row, system: System, runtime: Runtime) -> tuple[float, float] | None:
    """Return the bracket of the share of speed lost without a kernel for flat products, 0..1.

    Returns
    -------
    low : float
        At datasheet rates, operations on m padded to 64: nothing is lost while bytes bind.
    high : float
        Under the fit, the largest tile and an unsplit reduction for every shape, against the free
        menu.

    Notes
    -----
    None where the form has no tiles. FlashDecoding++ states more than 50 % for padded flat products
    and 50.25 % for one static dataflow (Hong et al. 2023, arXiv:2311.01282, abstract).
    """
    launch = _launch(row, system, runtime, row.operator.kind)
    if launch is None or launch.fit.form != _TILED:
        return None
    work, ceilings, fit = launch.work, launch.ceilings, launch.fit
    free = chosen_tile(work, ceilings, fit.parameters, fit.choices)
    fixed = largest_tile(work, ceilings, fit.parameters, fit.choices)
    more = ceil(work.shape["m"] / _PADDED_ROWS) * _PADDED_ROWS / work.shape["m"]
    compute_s, memory_s = row.cost.compute_s, row.cost.memory_s
    ideal = maximum(compute_s, memory_s) / maximum(more * compute_s, memory_s)
    return float(1.0 - ideal), 1.0 - free.time_s / fixed.time_s


def joining_share(row: Row, system: System, runtime: Runtime) -> tuple[float, float] | None:
    """Return the bracket of the share of a decode attention's time that joining split keys takes, 0..1.

    Returns
    -------
    low : float
        0: every split's softmax is rescaled for nothing, as with a maximum known beforehand.
    high : float
        Under the fit, against the same kernel without the join.

    Notes
    -----
    None where attention has no fit. FlashDecoding++ states about 20 % (arXiv:2311.01282, abstract).
    """
    launch = _launch(row, system, runtime, f"{row.operator.kind}_decode")
    if launch is None or "combine_s" not in launch.fit.parameters:
        return None
    joined, free = (
        kernel_time(
            launch.fit.form,
            work=launch.work,
            ceilings=launch.ceilings,
            parameters=parameters,
            choices=launch.fit.choices,
        )
        for parameters in (launch.fit.parameters, {**launch.fit.parameters, "combine_s": 0.0})
    )
    return 0.0, float(1.0 - free / joined)


def _launch(row: Row, system: System, runtime: Runtime, kind: str) -> _Launch | None:
    """One launch of a row as its form sees it; None where nothing is fitted."""
    fit, _ = runtime.fit_for(kind, row.operator.format)
    if fit is None:
        return None
    engine, device = engine_named(system, row.engine)
    _, peak = arithmetic(engine, row.operator.compute_format, runtime.runs_as)
    near = next(iter(device.memory))
    return _Launch(
        work=Work(
            flops=row.operator.flops,
            bytes=total(row.cost.near_bytes.values()),
            shape=row.operator.shape,
        ),
        ceilings=ceilings_of(engine, device, peak=peak, memory=near),
        fit=fit,
    )
