"""What a measured row of a table did: one adapter from its columns per kind of operator."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.timing.forms import Work
from roofline.timing.forms.matrix_product import GROUPED_ROWS

__all__ = [
    "SKEW",
    "attention",
    "batched",
    "collective",
    "encoder",
    "gemm",
    "grouped",
    "latent_decode",
    "latent_prefill",
    "rowwise",
]

Array = NDArray[np.float64]

#: A table's numeric columns by name.
Columns = Mapping[str, Array]


def gemm(column: Columns, bits: float, fed_bits: float) -> Work:
    """Return the work of matrix products with weights of `bits` and inputs of `fed_bits` bits."""
    m, n, k = column["m"], column["n"], column["k"]
    return Work(
        flops=2.0 * m * n * k,
        bytes=n * k * bits / 8.0 + m * k * fed_bits / 8.0 + 2.0 * m * n,
        shape={"m": m, "n": n, "k": k, "groups": 1.0, "weight_bits": bits, "activation_bits": fed_bits},
    )


def batched(column: Columns, bits: float, fed_bits: float) -> Work:
    """Return the work of `batch` equal products of two activations."""
    m, n, k, batch = column["m"], column["n"], column["k"], column["batch"]
    return Work(
        flops=2.0 * batch * m * n * k,
        bytes=batch * (m * k + n * k + m * n) * bits / 8.0,
        shape={"m": m, "n": n, "k": k, "groups": batch, "weight_bits": bits, "activation_bits": bits},
    )


def encoder(column: Columns, bits: float, fed_bits: float) -> Work:
    """Return the work of attention in which every query sees every key."""
    causal = attention(column, bits, fed_bits)
    pairs = column["q_len"] * column["kv_len"]
    heads, kv_heads = column["heads"], column["kv_heads"]
    rows = 4.0 * column["batch"] * column["head_dim"]
    return Work(
        flops=rows * heads * pairs,
        bytes=rows * (column["q_len"] * heads + column["kv_len"] * kv_heads),
        shape={**causal.shape, "pairs": pairs, "all_pairs": pairs},
    )


def attention(column: Columns, bits: float, fed_bits: float) -> Work:
    """Return the work of causal attention whose window, if any, is honoured.

    As the operator of the graph does, it reads new keys and values in 16 bits, past ones in `bits`, and
    writes the new ones in `bits`.
    """
    batch, heads, kv_heads, width = (column[name] for name in ("batch", "heads", "kv_heads", "head_dim"))
    queries, keys = column["q_len"], column["kv_len"]
    window = np.where(column["window"] > 0, column["window"], np.inf)
    past = np.maximum(keys - queries, 0.0)
    growing = np.clip(window - past, 0.0, queries)  # queries that do not fill the window yet
    pairs = growing * past + growing * (growing + 1.0) / 2.0
    pairs = pairs + np.where(queries > growing, (queries - growing) * np.minimum(window, keys), 0.0)
    all_pairs = queries * past + queries * (queries + 1.0) / 2.0
    visible = np.minimum(keys, window + queries - 1.0)
    return Work(
        flops=4.0 * batch * heads * width * pairs,
        bytes=2.0 * batch * kv_heads * width * (visible * bits / 8.0 + queries * 2.0)
        + 4.0 * batch * queries * heads * width,
        shape={
            "sequences": batch, "heads": heads, "kv_heads": kv_heads, "head_dim": width, "value_dim": width,
            "new_tokens": queries, "keys": visible, "pairs": pairs, "cache_bits": bits,
            "windowed": np.where(np.isfinite(window), 1.0, 0.0), "all_keys": keys, "all_pairs": all_pairs,
        },
    )  # fmt: skip


def latent_decode(column: Columns, bits: float, fed_bits: float) -> Work:
    """One latent of 576 elements serves as key and, its first 512, as value (arXiv:2405.04434)."""
    batch, heads, keys = column["batch"], column["heads"], column["kv_len"]
    one = np.ones_like(batch)
    return Work(
        flops=2.0 * batch * heads * keys * (576.0 + 512.0),
        bytes=batch * keys * 576.0 * bits / 8.0 + 2.0 * batch * heads * (576.0 + 512.0),
        shape={
            "sequences": batch, "heads": heads, "kv_heads": one, "head_dim": 576.0 * one,
            "value_dim": 512.0 * one, "new_tokens": one, "keys": keys, "pairs": keys, "cache_bits": bits,
        },
    )  # fmt: skip


def latent_prefill(column: Columns, bits: float, fed_bits: float) -> Work:
    """Expanded: every head has keys of 192 and values of 128 elements (arXiv:2405.04434)."""
    batch, heads, queries, keys = (column[name] for name in ("batch", "heads", "q_len", "kv_len"))
    pairs = queries * np.maximum(keys - queries, 0.0) + queries * (queries + 1.0) / 2.0
    one = np.ones_like(batch)
    return Work(
        flops=2.0 * batch * heads * pairs * (192.0 + 128.0),
        bytes=2.0 * batch * (keys + queries) * heads * (192.0 + 128.0),
        shape={
            "sequences": batch, "heads": heads, "kv_heads": heads, "head_dim": 192.0 * one,
            "value_dim": 128.0 * one, "new_tokens": queries, "keys": keys, "pairs": pairs,
            "cache_bits": bits,
        },
    )  # fmt: skip


def grouped(column: Columns, bits: float, fed_bits: float) -> Work:
    """Return the work of fused expert kernels on the busiest rank."""
    touched, assigned, *row_tiles = _expert_loads(column)
    hidden, inner, matrices = column["k"], column["n"], column["matrices"]
    own = inner / column["tp"]
    return Work(
        flops=2.0 * assigned * matrices * hidden * own,
        bytes=touched * matrices * hidden * own * bits / 8.0 + assigned * (2.0 * hidden + 3.0 * own) * 2.0,
        shape={
            "tokens": column["m"], "hidden_size": hidden, "intermediate_size": inner,
            "experts": column["experts"], "top_k": column["topk"], "tensor_ranks": column["tp"],
            "expert_ranks": column["ep"], "touched": touched, "matrices": matrices,
            "assigned": assigned, "weight_bits": bits, "activation_bits": fed_bits,
            **{f"row_tiles_{rows:.0f}": tiles for rows, tiles in zip(GROUPED_ROWS, row_tiles, strict=True)},
        },
    )  # fmt: skip


def collective(passes: float) -> Callable[[Columns, float, float], Work]:
    """Return an adapter of a collective that sends its message `passes` times around a ring."""

    def work(column: Columns, bits: float, fed_bits: float) -> Work:
        ranks = column["world"]
        sent = passes * column["bytes"] * (ranks - 1.0) / ranks
        return Work(flops=0.0, bytes=sent, shape={"ranks": ranks, "message_bytes": column["bytes"]})

    return work


def rowwise(column: Columns, bits: float, fed_bits: float) -> Work:
    """Return the work of a pass over rows that moves ``planes`` times its elements."""
    rows, columns = column["m"], column["n"]
    moved = column["planes"] * rows * columns * bits / 8.0
    return Work(flops=0.0 * moved, bytes=moved, shape={"rows": rows, "columns": columns})


#: Label of a benchmark's token distribution -> exponent of its power law, 0 for even.
SKEW: Final = {"balanced": 0.0, "power_law_1.01": 1.01, "power_law_1.2": 1.2}


def _power_law_loads(experts: int, exponent: float, assignments: float, tokens: float) -> Array:
    """Return tokens per expert, largest first, of a truncated power law at its quantiles.

    An expert gets a token at most once; what would exceed that is dealt to the others in proportion.
    """
    quantile = (np.arange(experts) + 0.5) / experts
    power = 1.0 - exponent
    most = max(0.8 * assignments, 2.0)
    load = (1.0 + quantile * (most**power - 1.0)) ** (1.0 / power)
    load = load * (assignments / load.sum())
    for _ in range(8):
        over = float(np.maximum(load - tokens, 0.0).sum())
        load = np.minimum(load, tokens)
        free = load < tokens
        if over < 1e-6 or not free.any():
            break
        load[free] += over * load[free] / load[free].sum()
    return np.sort(load)[::-1]


def _expert_loads(column: Columns) -> Array:
    """Return distinct experts, token-expert pairs and row tiles by rows, on the busiest expert-parallel rank.

    An expert that expects less than a token has a tile as often as it has a token.
    """
    seen: dict[tuple[float, ...], list[float]] = {}
    names = ("m", "experts", "topk", "ep", "skew")
    result = np.zeros((2 + len(GROUPED_ROWS), len(column["m"])))
    for row, key in enumerate(zip(*(column[name] for name in names), strict=True)):
        if key not in seen:
            tokens, experts, top_k, ranks, skew = (float(part) for part in key)
            seen[key] = (
                _even_loads(tokens * top_k, experts, ranks)
                if skew == 0.0
                else _skewed_loads(tokens, experts, top_k, ranks, skew)
            )
        result[:, row] = seen[key]
    return result


def _even_loads(pairs: float, experts: float, ranks: float) -> list[float]:
    """What `_expert_loads` returns for one shape where every expert gets as many tokens."""
    own_pairs = max(pairs / ranks, 1.0)
    touched = min(max(int(experts / ranks), 1), own_pairs)
    return [touched, own_pairs, *(touched * np.ceil(own_pairs / touched / rows) for rows in GROUPED_ROWS)]


def _skewed_loads(tokens: float, experts: float, top_k: float, ranks: float, skew: float) -> list[float]:
    """What `_expert_loads` returns for one shape where loads follow a power law.

    The busiest rank has the busiest expert, and others from all over the rest.
    """
    load = _power_law_loads(int(experts), skew, tokens * top_k, tokens)
    if ranks > 1:
        own = max(int(experts / ranks), 1)
        others = np.linspace(0, len(load) - 2, own - 1).astype(int)
        load = np.concatenate((load[:1], load[1:][others]))
    hit = 1.0 - np.exp(-load)
    tiles = [np.where(load < 1.0, hit, np.ceil(load / rows)) for rows in GROUPED_ROWS]
    return [max(float(hit.sum()), 1.0), float(load.sum()), *(max(float(each.sum()), 1.0) for each in tiles)]
