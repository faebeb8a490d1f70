"""Matrix products with weights: tiles, split reductions and the fused expert kernels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from roofline.quantity import Quantity, ceil, maximum, minimum, smooth_maximum, total, where
from roofline.timing.forms.work import Ceilings, Work, cached_share, fastest, waves

__all__ = [
    "GROUPED_ROWS",
    "Tile",
    "chosen_tile",
    "grouped_matrix_product",
    "largest_tile",
    "tiled_matrix_product",
]

_STEP: Final = 64.0  # depth of one k step of a tile, as in CUTLASS's default thread block shapes
_TILES: Final = ((128.0, 256.0), (128.0, 128.0), (64.0, 128.0), (64.0, 64.0), (16.0, 64.0))
_SPLITS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_MENU: Final = tuple((rows, columns, split) for rows, columns in _TILES for split in _SPLITS)
#: Tiles of dispatch tables by m: none stands for rows, or columns, that follow m.
_BY_ROWS: Final = tuple((0.0, columns, 1.0) for columns in (64.0, 128.0, 256.0))
_BY_TABLE: Final = ((0.0, 0.0, 1.0),)
_MOST_ROWS: Final = 128.0
_USUAL_TILE: Final = 128.0 * 128.0
_ROTATED_COPIES: Final = 6.0  # weight copies the public timing loops behave as if they rotate
#: Rows of the tiles that fused expert kernels choose from.
GROUPED_ROWS: Final = (16.0, 32.0, 64.0, 128.0)
_GROUPED_COLUMNS: Final = 128.0
_GROUPED_MENU: Final = tuple((rows, _GROUPED_COLUMNS) for rows in GROUPED_ROWS)
#: Tiles of the Triton kernel where nobody tuned it: with no more tokens than experts, and with more.
_UNTUNED: Final = ((16.0, 32.0), (64.0, 64.0))
_VECTOR_BITS: Final = 128.0  # one vectorised load or store of a thread


def tiled_matrix_product(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return the time of ``C[m, n] = A[m, k] W[k, n]`` with the fastest tile and reduction split [s].

    Parameters
    ----------
    work : Work
        ``shape`` has m, n, k, groups, weight_bits and activation_bits.
    ceilings : Ceilings
    parameters : mapping
        ``compute_fraction`` e_c and ``memory_fraction`` e_m of the peaks; ``t0_s``, the fixed time;
        ``step_s``, the least time of one 64-deep step of a tile; ``tile_s``, what a tile takes to start
        and to store its result; ``split_s``, the fixed cost of a split reduction; ``cache_gain``, time
        of a byte found in cache over one from memory; ``extra_factor``, share of a separate
        (de)quantisation pass that is not hidden; ``row_s``, time a unit takes to quantise one row of
        activations, however short. ``tile_s`` and ``row_s`` may be absent: 0.
    choices : mapping
        ``wave_rounding``, see `waves`, and four that may be absent (0). ``dispatch``: 0, any tile and
        split; 1, as many rows as m needs in a power of two up to 128, any columns, reduction whole; 2,
        one tile by m. ``reread``: 0, operands come from memory once; 1, activations again for every
        column of tiles; 2, the cheaper of that and weights again for every row of tiles; of columns, or
        rows, that run at once the first to ask reads for all.
        ``launch_bound``: 1 where launches follow each other slower than short kernels run.
        ``tile_growth`` g: what a tile takes beside its steps grows with that power of its size.
    warm : bool
        See `Form`.

    Notes
    -----
    With tiles ``b_m x b_n``, split s (only where the tiles do not fill the units), waves w and
    ``K = 64 ceil(k / 64 s)``:

    ``t = t0 + q + min | w (| 2 b_m b_n K U / (e_c P), tau K/64 |_4 + t_tile (b_m b_n/2**14)**g),
    bytes/(e_m B) |_3 + [s > 1] (t_split + 4 s m n / B)``

    ``q = | x E/B, t_row m/U |_3``, its second term only where activations are narrower than 16 bits.
    E is ``3 m k`` bytes there (read and write of their quantisation), else ``2 n k`` where weights are.
    A row of its own for that quantisation would count it twice. Launch-bound, ``t = | t0, the rest
    |_3``. Operands read again count among the bytes unless the cache holds them. Alignment of m, n, k
    was tested and moves the residual by less than 2 %, so it is left out; power limits are inside e_c.

    References
    ----------
    Thakkar et al., CUTLASS, "Efficient GEMM in CUDA" (tile hierarchy, split-K); Osama et al. 2023,
    Stream-K, arXiv:2301.03598; docs/decisions/0003-latency-forms.md (form selection and ablation) and
    0006-matrix-products-by-dispatch.md (everything that may be absent).
    """
    tiled = _tiled(work, ceilings, parameters, choices, warm)
    return tiled.launched(fastest(tiled.menu, tiled.operands, tiled.time))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tiled:
    """A product: the kernels to choose from, the time of each [s], and what the launch adds to it.

    A kernel is tile rows, columns and split; `tile` puts in the rows and columns that follow m.
    """

    menu: tuple[tuple[float, float, float], ...]
    tile: Callable[[Quantity, Quantity], tuple[Quantity, Quantity]]
    operands: tuple[Quantity, ...]
    time: Callable[..., Any]
    launched: Callable[[Quantity], Quantity]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The kernel that `tiled_matrix_product` takes for one product.

    Parameters
    ----------
    rows, columns : float
        Of the output one thread block computes.
    split : float
        Thread blocks that share the reduction of one output tile.
    time_s : float
        Of the launch [s].
    """

    rows: float
    columns: float
    split: float
    time_s: float


def chosen_tile(
    work: Work, ceilings: Ceilings, parameters: Mapping[str, Quantity], choices: Mapping[str, float]
) -> Tile:
    """Return the fastest kernel of the menu for a single product, as a cold pass finds it."""
    tiled = _tiled(work, ceilings, parameters, choices, False)
    return min((_tile(tiled, row) for row in tiled.menu), key=lambda tile: tile.time_s)


def largest_tile(
    work: Work, ceilings: Ceilings, parameters: Mapping[str, Quantity], choices: Mapping[str, float]
) -> Tile:
    """Return the largest tile with its reduction whole: one dataflow for products of every shape."""
    return _tile(_tiled(work, ceilings, parameters, choices, False), _MENU[0])


def _tile(tiled: _Tiled, row: tuple[float, float, float]) -> Tile:
    time_s = float(tiled.launched(float(tiled.time(*row))))
    rows, columns = tiled.tile(row[0], row[1])
    return Tile(rows=float(rows), columns=float(columns), split=row[2], time_s=time_s)


def _tiled(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> _Tiled:
    shape = work.shape
    m, n, k, groups = shape["m"], shape["n"], shape["k"], shape["groups"]
    bandwidth, units = ceilings.bytes_per_s, ceilings.units
    per_unit = parameters["compute_fraction"] * ceilings.flops_per_s / units
    step, split_s, tile_s = parameters["step_s"], parameters["split_s"], parameters.get("tile_s", 0.0)
    weights = groups * n * k * shape["weight_bits"] / 8.0
    inputs = groups * m * k * shape["activation_bits"] / 8.0
    reached = parameters["memory_fraction"] * bandwidth
    memory = work.bytes / reached
    if warm:
        found = cached_share(work.bytes + (_ROTATED_COPIES - 1.0) * weights, ceilings.cache_bytes)
        memory = memory * (1.0 - found + found * parameters["cache_gain"])
    partial = 4.0 * groups * m * n / bandwidth
    rounding, reread = choices["wave_rounding"], choices.get("reread", 0.0)
    growth = choices.get("tile_growth", 0.0)
    menu, tile_of = _kernels(m, choices.get("dispatch", 0.0))
    missed_inputs = inputs * (1.0 - cached_share(inputs, ceilings.cache_bytes)) / reached
    missed_weights = weights * (1.0 - cached_share(weights, ceilings.cache_bytes)) / reached

    def time(rows: Quantity, columns: Quantity, split: Quantity) -> Quantity:
        rows, columns = tile_of(rows, columns)
        row_tiles, column_tiles = ceil(m / rows), ceil(n / columns)
        tiles = groups * row_tiles * column_tiles
        steps = ceil(k / (_STEP * split))
        around = tile_s * (rows * columns / _USUAL_TILE) ** growth
        tile = steps * smooth_maximum(2.0 * _STEP * rows * columns / per_unit, step, 4.0) + around
        again: Quantity = 0.0
        if reread:
            turns = maximum(tiles / units, 1.0)
            again = (minimum(column_tiles, turns) - 1.0) * missed_inputs
        if reread == _CHEAPER:
            again = minimum(again, (minimum(row_tiles, turns) - 1.0) * missed_weights)
        busy = smooth_maximum(waves(tiles * split, units, rounding) * tile, memory + again, 3.0)
        reduced = busy + where(split > 1.0, split_s + split * partial, 0.0)
        return where((split > 1.0) & (tiles > units), np.inf, reduced)

    quantised = shape["activation_bits"] < 16.0
    narrow = where(shape["weight_bits"] < 16.0, 2.0 * n * k, 0.0)
    extra = parameters["extra_factor"] * groups * where(quantised, 3.0 * m * k, narrow) / bandwidth
    if "row_s" in parameters:
        by_row = where(quantised, parameters["row_s"] * groups * m / units, 0.0)
        extra = smooth_maximum(extra, by_row, 3.0)
    t0, launch_bound = parameters["t0_s"], choices.get("launch_bound", 0.0)

    def launched(kernel: Quantity) -> Quantity:
        return smooth_maximum(t0, extra + kernel, 3.0) if launch_bound else t0 + extra + kernel

    return _Tiled(
        menu=menu,
        tile=tile_of,
        operands=(m, n, k, groups, memory, per_unit, step, split_s, tile_s, units),
        time=time,
        launched=launched,
    )


#: The choice of ``reread`` that takes the cheaper order, and of ``dispatch`` where rows follow m.
_CHEAPER: Final = 2.0
_ROWS_FOLLOW: Final = 1.0


def _kernels(
    m: Quantity, dispatch: float
) -> tuple[tuple[tuple[float, float, float], ...], Callable[[Quantity, Quantity], tuple[Quantity, Quantity]]]:
    """Return the kernels to choose from, and what puts in the rows and columns that follow m."""
    if not dispatch:
        return _MENU, lambda rows, columns: (rows, columns)
    fitting = minimum(2.0 ** ceil(np.log2(maximum(m, 1.0))), _MOST_ROWS)
    if dispatch == _ROWS_FOLLOW:
        least = maximum(fitting, 16.0)
        return _BY_ROWS, lambda rows, columns: (least, columns)
    narrow = where(m <= _MOST_ROWS, 64.0, 128.0)
    tall = maximum(fitting, 64.0)
    return _BY_TABLE, lambda rows, columns: (tall, narrow)


def grouped_matrix_product(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return the time of one fused mixture-of-experts kernel, activation included [s].

    Parameters
    ----------
    work : Work
        ``shape`` has tokens, hidden_size, intermediate_size (before sharding), experts, top_k,
        tensor_ranks, expert_ranks, touched (distinct experts on this rank), matrices, weight_bits and
        activation_bits; optional ``assigned`` (token-expert pairs on this rank, else the even share),
        ``routed`` (pairs the kernel is handed, else those of all ranks) and, of uneven loads,
        ``row_tiles_16`` to ``row_tiles_128``, row tiles of that many rows over the experts.
    ceilings : Ceilings
    parameters : mapping
        ``compute_fraction``, ``memory_fraction``, ``t0_s``, ``step_s`` and ``cache_gain`` as in
        `tiled_matrix_product`; ``activation_factor``, activation traffic over its least;
        ``routed_factor``, traffic of pairs routed to any rank; ``item_s``, fixed time of a tile;
        ``reread_factor``, share of an expert's weights that each of its row tiles but the first reads
        from memory again; ``unaligned_s``, time a unit takes longer for each pair whose narrow
        activations between the products are not whole vectors of 16 bytes (absent: 0).
    choices : mapping
        ``untuned``: 1 where tiles are 16 x 32 with no more tokens than experts on the rank and 64 x 64
        otherwise, else the fastest of several by 128 columns (absent: 0).
    warm : bool
        See `Form`.

    Notes
    -----
    A is ``assigned``, T ``touched``, D hidden, I the intermediate size of this rank, v the matrices,
    R the row tiles, ``T ceil(A/(T b))`` where loads are taken as equal:

    ``t = t0 + min over b of | sum over both products of w(R ceil(n'/128)) (t_item + tile(b, k')),
    (T v D I bits/8 (1 + c_re (R - T)/T) + c_act A (2D + 3I) 2) / (e_m B) |_2
    + c_all routed (D + 3I) 2 / B + [I unaligned] t_un A/U``

    The term of routed pairs is what kernels cost that move every one although this rank computes few of
    them; with a real all-to-all dispatch ``routed`` equals ``assigned``. Rows of the second product whose
    bytes are no multiple of 16 are quantised and loaded piece by piece by kernels that do not pad them.

    References
    ----------
    Gale et al. 2023, MegaBlocks, arXiv:2211.15841 (block-sparse grouped products); vllm-project/vllm 0.14,
    fused_moe.py, get_default_config (untuned tiles);
    docs/decisions/0003-latency-forms.md, docs/decisions/0005-attention-forms-and-their-transfer.md.
    """
    shape = work.shape
    hidden = shape["hidden_size"]
    inner = shape["intermediate_size"] / shape["tensor_ranks"]
    touched, matrices = shape["touched"], shape["matrices"]
    pairs = shape["tokens"] * shape["top_k"]
    assigned = shape.get("assigned", pairs / shape["expert_ranks"])
    bandwidth, units = ceilings.bytes_per_s, ceilings.units
    per_unit = parameters["compute_fraction"] * ceilings.flops_per_s / units
    step = parameters["step_s"]
    weights = touched * matrices * hidden * inner * shape["weight_bits"] / 8.0
    if warm:
        found = cached_share(weights, ceilings.cache_bytes)
        weights = weights * (1.0 - found + found * parameters["cache_gain"])
    moved = parameters["activation_factor"] * assigned * (2.0 * hidden + 3.0 * inner) * 2.0
    achieved = parameters["memory_fraction"] * bandwidth
    once = where(touched > 0, touched, 1.0)
    load = assigned / once
    item, reread = parameters.get("item_s", 0.0), parameters.get("reread_factor", 0.0)

    def time(rows: Quantity, columns: Quantity) -> Quantity:
        row_tiles = _row_tiles(shape, rows, touched * ceil(load / rows))
        per_step = smooth_maximum(2.0 * _STEP * rows * columns / per_unit, step, 4.0)
        up = ceil((matrices - 1.0) * inner / columns)
        down = ceil(hidden / columns)
        busy = waves(row_tiles * up, units, 0.5) * (item + ceil(hidden / _STEP) * per_step)
        busy = busy + waves(row_tiles * down, units, 0.5) * (item + ceil(inner / _STEP) * per_step)
        again = reread * maximum(row_tiles - touched, 0.0) / once
        return smooth_maximum(busy, (weights * (1.0 + again) + moved) / achieved, 2.0)

    routed = shape.get("routed", pairs) * (hidden + 3.0 * inner) * 2.0 / bandwidth
    operands = (
        touched, load, weights, moved, achieved, hidden, inner, matrices, per_unit, step, units, item, reread,
        _row_tiles(shape, GROUPED_ROWS[0], touched),
    )  # fmt: skip
    fixed = parameters["t0_s"] + parameters["routed_factor"] * routed
    if "unaligned_s" in parameters:
        narrow = shape["activation_bits"] < _VECTOR_BITS / 8.0
        unaligned = narrow & ((inner * shape["activation_bits"]) % _VECTOR_BITS > 0.0)
        fixed = fixed + where(unaligned, parameters["unaligned_s"] * assigned / units, 0.0)
    if choices.get("untuned", 0.0):
        few, many = (time(*tile) for tile in _UNTUNED)
        return fixed + where(shape["tokens"] <= shape["experts"] / shape["expert_ranks"], few, many)
    return fixed + fastest(_GROUPED_MENU, operands, time)


def _row_tiles(shape: Mapping[str, Quantity], rows: Quantity, even: Quantity) -> Quantity:
    """Return the row tiles of `rows` rows that were counted, else those of even loads."""
    if f"row_tiles_{GROUPED_ROWS[0]:.0f}" not in shape:
        return even
    return total(where(rows == each, shape[f"row_tiles_{each:.0f}"], 0.0) for each in GROUPED_ROWS)
