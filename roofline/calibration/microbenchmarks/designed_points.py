"""The shapes a calibration measures: few, and chosen so that each parameter of a form shows in some."""

from typing import Final

from roofline.calibration.microbenchmarks.campaign import Point
from roofline.calibration.microbenchmarks.machine import Machine

__all__ = ["MEMORY_SHARE", "designed_points"]

# Fifteen products span a model's: few and many rows, wide, deep and square (reference shapes are those
# of 1 to 70 billion parameter decoders); more rows follow at the one shape whose weights are largest.
_WIDE: Final = ((4096, 4096), (14336, 4096), (4096, 14336), (1024, 8192), (8192, 1024))
_ROWS: Final = (1, 16, 256)
_FEW_ROWS: Final = (2, 4, 8, 32, 64, 128)
_MANY_ROWS: Final = (512, 1024, 4096)
_HEADS: Final = ((32, 8, 128), (16, 16, 64), (32, 4, 128))
_PASS_ROWS: Final = {1: (1, 16, 256, 2048, 8192), 2: (1, 16, 256, 1024)}
#: Operands of one point may fill that share of the memory.
MEMORY_SHARE: Final = 0.15
#: Columns of a pass over memory, and how many of its rows are the smallest pass: 1 MiB of 16 bits.
_COLUMNS: Final = 4096
_LEAST_ROWS: Final = 128
#: The largest pass is beyond that many last-level caches, where memory has room for its copies.
_BEYOND_CACHES: Final = 4.0


def designed_points(machine: Machine, formats: tuple[str, ...]) -> tuple[Point, ...]:
    """Return the shapes to measure, ceilings first, then of every kind some: a budget may cut the rest.

    Parameters
    ----------
    formats : tuple of str
        Formats of products the machine can run, the one attention runs in first.

    Notes
    -----
    Processors get shapes half as wide, since they are a hundred times slower.
    """
    scale = 2 if machine.kind == "cpu" else 1
    products = _products(formats, scale)
    streams = _streams(machine, formats[0])
    ceilings = [*products.pop("ceilings"), *streams[-2:]]
    rounds = [
        products["first"],
        _attention("attention_decode", formats[0], scale),
        _attention("attention_prefill", formats[0], scale),
        [
            Point(op=op, dtype=formats[0], shape={"m": rows, "n": columns // scale})
            for op in ("norm", "elementwise")
            for columns in (1024, 4096, 8192)
            for rows in _PASS_ROWS[scale]
        ],
        streams[:-2],
        products["few"],
        products["many"],
    ]
    points = [*ceilings]
    while any(rounds):
        for kind in rounds:
            points += kind[:3]
            del kind[:3]
    return tuple(points)


def _products(formats: tuple[str, ...], scale: int) -> dict[str, list[Point]]:
    def gemm(dtype: str, rows: int, outputs: int, inputs: int) -> Point:
        return Point(op="gemm", dtype=dtype, shape={"m": rows, "n": outputs // scale, "k": inputs // scale})

    return {
        "ceilings": [gemm(dtype, _MANY_ROWS[-1] // scale**2, 4096, 4096) for dtype in formats],
        "first": [gemm(dtype, rows, n, k) for rows in _ROWS for n, k in _WIDE for dtype in formats],
        "few": [gemm(dtype, rows, 14336, 4096) for rows in _FEW_ROWS for dtype in formats],
        "many": [
            gemm(dtype, rows, 4096, 4096)
            for rows in _MANY_ROWS
            for dtype in formats
            if rows != _MANY_ROWS[-1] // scale**2 and (dtype == formats[0] or rows < _MANY_ROWS[-1])
        ],
    }


def _attention(op: str, dtype: str, scale: int) -> list[Point]:
    decode = op == "attention_decode"
    return [
        Point(
            op=op,
            dtype=dtype,
            shape={
                "batch": batch, "heads": heads, "kv_heads": kv, "head_dim": width,
                "q_len": 1 if decode else keys, "kv_len": keys,
            },
        )
        for keys in ((128, 512, 1024, 4096, 16384) if decode else (128, 512, 1024, 2048, 4096))
        for batch in ((1, 4, 16) if decode else (1, 4))
        for heads, kv, width in _HEADS
        if (
            batch * keys <= 65536 // (scale if keys > 1024 else 1)
            if decode
            else batch * keys * keys <= 4096**2 // scale**2
        )
    ]  # fmt: skip


def _streams(machine: Machine, dtype: str) -> list[Point]:
    """Return copies and reads of 1 MiB, 4 MiB and so on, until no cache holds them."""
    points: list[Point] = []
    rows, size_bytes = _LEAST_ROWS, 2.0**20
    most_bytes = MEMORY_SHARE * machine.memory_bytes / 2.0
    while size_bytes <= max(most_bytes, 2.0**20):
        points += [Point(op=op, dtype=dtype, shape={"m": rows, "n": _COLUMNS}) for op in ("copy", "read")]
        if size_bytes >= max(_BEYOND_CACHES * machine.cache_bytes, 2.0**28):
            break
        rows, size_bytes = 4 * rows, 4.0 * size_bytes
    return points
