"""Attention: keys split over units for few queries, causal tiles for many, and which one runs."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from roofline.quantity import Quantity, ceil, maximum, minimum, smooth_maximum, where
from roofline.timing.forms.work import Ceilings, Work, cached_share, fastest, waves

__all__ = ["causal_attention", "split_attention"]

_KEYS: Final = 64.0  # keys per step of a tile
#: Head widths up to which tiles of equal size have the most keys, and half as many.
_NARROW: Final = 64.0
_USUAL: Final = 128.0
_WIDE: Final = 192.0  # heads wider than that are rare, and their kernels less tuned
_SPLIT_MENU: Final = tuple((2.0**power,) for power in range(7))


def split_attention(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return the time of attention of few queries over many keys, keys split over units [s].

    Parameters
    ----------
    work : Work
        ``shape`` has sequences, heads, kv_heads, head_dim, new_tokens, keys and cache_bits; optional
        ``windowed``, 1 where a window limits the keys.
    ceilings : Ceilings
    parameters : mapping
        ``memory_fraction``; ``t0_s``; ``item_s``, fixed time of one work item; ``step_s``, time of
        one 64-key step; ``combine_s``, joining the splits; ``cache_gain``; ``multi_head_factor``,
        item time where every query head has its own keys; ``sequence_s``, preparing a sequence and the
        partial results of its row tiles;
        ``compute_fraction``, of the matrix peak that a step's products reach (without it they are free).
    choices : mapping
        ``rows``, packed query rows of one item; ``window_rows``, the same under a window (1: some
        kernels pack no heads there); ``splits_alone``, 0 where keys that no heads share, or under a
        window, are never split; ``equal_tiles``, 1 where tiles hold 256 keys of heads up to 64 wide, 128
        of heads up to 128 and 64 of wider ones, in the same time (absent: 0).
    warm : bool
        See `Form`.

    Notes
    -----
    An item is one sequence, one KV head and up to ``rows`` of its ``new_tokens heads / kv_heads``
    packed query rows, R tiles of them. With ``T = ceil(keys/64)`` key tiles, split s up to T and waves w:

    ``step = | tau sqrt(d bits/2048), 2 rows 64 (d + d_v) U / (e_c P) |_3``
    ``t = t0 + t_seq sequences R/U + min over s of
    | w(items s) (t_item sqrt(d/128) + ceil(T/s) step) f, bytes/(e_m B) |_3 + [s > 1] t_combine``

    Tiles of equal size have D keys: T = ceil(keys/D), the step takes ``tau d D/16384 sqrt(bits/16)`` and the
    item t_item at every width. The products of a step fill whole tiles of rows, which is what binds where
    many heads share one latent, and on engines with little arithmetic. At s = 1 and short keys this is the
    known cost per sequence and KV head; the bytes are those of the operator. All keys are visited for every
    query: a causal mask among the new ones is ignored, which overstates the time only where they are a
    large share of the keys.
    Without ``splits_alone`` several new tokens are split as one is, where FlashAttention-2 splits for a
    single one: too fast over long keys.

    References
    ----------
    Dao et al. 2023, "Flash-Decoding for long-context inference" (split keys); Dao-AILab/flash-attention,
    flash_fwd_launch_template.h, run_mha_fwd_splitkv_dispatch (kBlockN: tiles of equal size); Ye et al. 2025,
    FlashInfer, arXiv:2501.01005 (packed query rows, load-balanced splits);
    docs/decisions/0003-latency-forms.md, docs/decisions/0005-attention-forms-and-their-transfer.md.
    """
    shape = work.shape
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    units = ceilings.units
    alone_whole = choices.get("splits_alone", 1.0) == 0.0
    packed = shape["new_tokens"] * heads / kv_heads
    windowed = shape.get("windowed", 0.0) > 0
    rows = where(windowed, choices["window_rows"], choices["rows"])
    row_tiles = shape["sequences"] * ceil(packed / rows)
    items = row_tiles * kv_heads
    depth, step_growth, item_growth = _key_tile(shape["head_dim"], choices.get("equal_tiles", 0.0))
    key_tiles = ceil(shape["keys"] / depth)
    products = 2.0 * rows * depth * (shape["head_dim"] + shape["value_dim"]) * units
    products = products / (parameters.get("compute_fraction", np.inf) * ceilings.flops_per_s)
    step = parameters["step_s"] * step_growth * (shape["cache_bits"] / 16.0) ** 0.5
    step = smooth_maximum(step, products, 3.0)
    most = where((heads == kv_heads) | windowed, 1.0, key_tiles) if alone_whole else key_tiles
    own_keys = where(heads == kv_heads, parameters["multi_head_factor"], 1.0)
    fixed, combine = parameters["item_s"] * item_growth, parameters["combine_s"]
    memory = work.bytes / (parameters["memory_fraction"] * ceilings.bytes_per_s)
    if warm:
        found = cached_share(work.bytes, ceilings.cache_bytes)
        memory = memory * (1.0 - found + found * parameters["cache_gain"])

    def time(wanted: Quantity) -> Quantity:
        split = maximum(minimum(wanted, most), 1.0)
        item = (fixed + ceil(key_tiles / split) * step) * own_keys
        busy = smooth_maximum(waves(items * split, units, 1.0) * item, memory, 3.0)
        return busy + where(split > 1.0, combine, 0.0)

    operands = (key_tiles, most, items, step, own_keys, fixed, combine, memory, units)
    prepared = parameters["t0_s"] + parameters["sequence_s"] * row_tiles / units
    return prepared + fastest(_SPLIT_MENU, operands, time)


def _key_tile(width: Quantity, equal: float) -> tuple[Quantity, Quantity, Quantity]:
    """Return the keys of a tile, and by what its step and its item take longer than at a width of 128."""
    if not equal:
        grown = (width / 128.0) ** 0.5
        return _KEYS, grown, grown
    depth = where(width <= _NARROW, 4.0, where(width <= _USUAL, 2.0, 1.0)) * _KEYS
    return depth, width * depth / (_USUAL * 2.0 * _KEYS), 1.0


def causal_attention(
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool,
) -> Quantity:
    """Return the time of attention of many queries, counted in causal tiles [s].

    Parameters
    ----------
    work : Work
        ``shape`` has sequences, heads, kv_heads, head_dim, value_dim, new_tokens, keys, pairs and
        cache_bits; optional ``all_keys`` and ``all_pairs``, the last two as if there were no window.
    ceilings : Ceilings
    parameters : mapping
        ``compute_fraction``; ``memory_fraction``; ``t0_s``; ``item_s``, fixed time of one work item;
        ``softmax_s``, softmax of a 128 x 64 tile, not overlapped with its products; ``cache_gain``;
        ``append_factor``, share not hidden of what writing the new keys and values moves;
        ``wide_factor``, time of a tile of heads wider than 192 over what its products say, where kernels
        run out of registers or have no narrow operands; ``masked_factor``, time of a tile outside the
        window over one inside, where such tiles are visited. The last three may be absent: 0, 1, 1.
    choices : mapping
        ``rows``, query rows of one item; ``packed``: 1 where the heads that share keys fill the rows
        of one item, 0 where each head has items of its own; ``windowed``: 0 where the kernel visits
        tiles of all keys, those outside the window in ``masked_factor`` of the time; ``padded``: 1 where
        the widths of heads are filled up to powers of two (absent: 0).
    warm : bool
        See `Form`.

    Notes
    -----
    An item spans ``rows kv_heads / heads`` queries when packed, else ``rows``. It visits the mean
    visible keys of a query and half a span more, in tiles of 64:

    ``tile = f_wide (2 rows 64 (d + d_v) U / (e_c P) + t_softmax rows/128)``
    ``moved = bytes + c_append sequences new kv_heads (d + d_v) (2 + bits/8)``
    ``t = t0 + | max(w(items) (t_item + mean tile), t_item + longest tile), moved/(e_m B) |_3``

    New keys and values are read in 16 bits and written in those of the cache, as libraries that time
    attention with the append do. The last query of a causal pass sees at most all keys, and at most
    twice the mean.

    References
    ----------
    Dao 2023, FlashAttention-2, arXiv:2307.08691 (parallel over query blocks); Shah et al. 2024,
    FlashAttention-3, arXiv:2407.08608 (softmax not hidden by the products);
    docs/decisions/0003-latency-forms.md, docs/decisions/0005-attention-forms-and-their-transfer.md.
    """
    shape = work.shape
    heads, kv_heads = shape["heads"], shape["kv_heads"]
    keys, pairs = shape["keys"], shape["pairs"]
    queries = maximum(shape["new_tokens"], 1.0)
    rows, packed = choices["rows"], choices["packed"] > 0
    span = rows * kv_heads / heads if packed else rows
    items = shape["sequences"] * (kv_heads if packed else heads) * ceil(queries / span)
    width = shape["head_dim"] + shape["value_dim"]
    filled = width
    if choices.get("padded", 0.0):
        filled = 2.0 ** ceil(np.log2(shape["head_dim"])) + 2.0 ** ceil(np.log2(shape["value_dim"]))
    products = 2.0 * rows * _KEYS * filled * ceilings.units
    tile = products / (parameters["compute_fraction"] * ceilings.flops_per_s)
    tile = tile + parameters["softmax_s"] * (rows / 128.0)
    tile = tile * where(shape["head_dim"] > _WIDE, parameters.get("wide_factor", 1.0), 1.0)

    def visited(keys: Quantity, pairs: Quantity) -> tuple[Quantity, Quantity]:
        seen = pairs / queries
        mean = ceil(minimum(seen + minimum(span, queries) / 2.0, keys) / _KEYS)
        return mean, ceil(minimum(keys, 2.0 * seen + span) / _KEYS)

    mean, longest = visited(keys, pairs)
    if choices["windowed"] == 0.0:
        masked = parameters.get("masked_factor", 1.0)
        every, last = visited(shape.get("all_keys", keys), shape.get("all_pairs", pairs))
        mean, longest = mean + masked * (every - mean), longest + masked * (last - longest)
    alone = parameters["item_s"] + longest * tile
    turns = waves(items, ceilings.units, 1.0)
    busy = where(turns > 1.0, maximum(turns * (parameters["item_s"] + mean * tile), alone), alone)
    appended = shape["sequences"] * shape["new_tokens"] * kv_heads * width * (2.0 + shape["cache_bits"] / 8.0)
    moved = work.bytes + parameters.get("append_factor", 0.0) * appended
    memory = moved / (parameters["memory_fraction"] * ceilings.bytes_per_s)
    if warm:
        found = cached_share(moved, ceilings.cache_bytes)
        memory = memory * (1.0 - found + found * parameters.get("cache_gain", 1.0))
    return parameters["t0_s"] + smooth_maximum(busy, memory, 3.0)
