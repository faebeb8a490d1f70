"""What a row of an operator table is: its kind of kernel, the work in it and the ceilings it ran under."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from roofline.calibration.measurements import measured_work
from roofline.catalog.hardware import load_link
from roofline.errors import InvalidSpecError
from roofline.graph.formats import format_named
from roofline.hardware.device import Device
from roofline.timing.cost import arithmetic
from roofline.timing.forms import Ceilings, Work
from roofline.timing.runtime import BY_OPERAND

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMATS", "KINDS", "NARROW_BITS", "NUMERIC", "PLANES", "ROTATED", "Kernels", "describe"]


def _ceilings(device: Device, operand: str, link: bool) -> Ceilings:
    engine = next(iter(device.engine.values()))
    bandwidth = next(iter(device.memory.values())).bandwidth_bytes_per_s
    if link:
        if not device.link:
            raise InvalidSpecError(f"{device.name}: no link is known")
        use = "peer" if "peer" in device.link else "host"
        bandwidth = load_link(device.link[use]).value.bandwidth_bytes_per_s
    return Ceilings(
        flops_per_s=arithmetic(engine, operand)[1],
        bytes_per_s=bandwidth,
        units=engine.units,
        cache_bytes=engine.cache_bytes,
    )


@dataclass(frozen=True, kw_only=True)
class _Kind:
    name: str
    work: Callable[[measured_work.Columns, float, float], Work]
    family: tuple[str, ...]
    by_kernel: bool = False
    cached: bool = False
    link: bool = False
    every_format: bool = False
    resembles: str = ""


def _message(name: str, *, passes: float = 1.0, by_kernel: bool = False, resembles: str = "") -> _Kind:
    """Return a kind of message between ranks, whose bytes pass a link so many times."""
    return _Kind(
        name=name,
        work=measured_work.collective(passes),
        family=("bytes",),
        by_kernel=by_kernel,
        link=True,
        every_format=True,
        resembles=resembles,
    )


_SHAPE: Final = ("batch", "heads", "kv_heads", "head_dim")
KINDS: Final[dict[str, _Kind]] = {
    "gemm": _Kind(name="gemm", work=measured_work.gemm, family=("n", "k")),
    "attention_decode": _Kind(
        name="attention_decode", work=measured_work.attention, family=_SHAPE, by_kernel=True, cached=True
    ),
    "attention_prefill": _Kind(
        name="attention_prefill", work=measured_work.attention, family=_SHAPE, by_kernel=True, cached=True
    ),
    "mla_decode": _Kind(
        name="latent_attention_decode",
        work=measured_work.latent_decode,
        family=("heads", "batch"),
        cached=True,
    ),
    "mla_prefill": _Kind(
        name="latent_attention_prefill",
        work=measured_work.latent_prefill,
        family=("heads", "batch"),
        cached=True,
    ),
    "gemm_grouped": _Kind(
        name="grouped_gemm",
        work=measured_work.grouped,
        family=("n", "k", "experts", "topk", "tp", "ep"),
        by_kernel=True,
    ),
    "allreduce": _message("all_reduce", passes=2.0, by_kernel=True),
    "allgather": _message("all_gather"),
    "reducescatter": _message("reduce_scatter"),
    # DeepEP's kernels for few tokens: each rank sends its tokens to the experts that others hold.
    "moe_dispatch": _message("expert_dispatch", resembles="all_to_all"),
    "moe_combine": _message("expert_combine", resembles="all_to_all"),
    "alltoall": _message("all_to_all"),
    "sendrecv": _message("send_receive", passes=2.0),
    "norm": _Kind(name="norm", work=measured_work.rowwise, family=("m", "n"), every_format=True),
    "elementwise": _Kind(
        name="elementwise", work=measured_work.rowwise, family=("m", "n"), every_format=True
    ),
    # Of two operands: runtimes fuse it into the normalisation, so no model's prediction uses it.
    "add": _Kind(
        name="addition",
        work=measured_work.rowwise,
        family=("m", "n"),
        every_format=True,
        resembles="elementwise",
    ),
    **dict.fromkeys(
        ("copy", "read"),
        _Kind(name="elementwise", work=measured_work.rowwise, family=("m", "n"), every_format=True),
    ),
    "quantize": _Kind(
        name="quantise", work=measured_work.rowwise, family=("m", "n"), resembles="elementwise"
    ),
    # Few tables have these; elsewhere they run on the fit of what they resemble.
    "bmm": _Kind(
        name="batched_gemm", work=measured_work.batched, family=("n", "k", "batch"), resembles="gemm"
    ),
    "attention_encoder": _Kind(
        name="encoder_attention",
        work=measured_work.encoder,
        family=_SHAPE,
        cached=True,
        resembles="attention_prefill",
    ),
}

#: Label of a format in the tables -> ours; labels not listed here are not fitted.
FORMATS: Final = {
    "bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "sq": "int8",
    "int8_wo": "int8_wo", "int4_wo": "int4", "nvfp4": "nvfp4", "w4a16_mxfp4": "mxfp4", "fp32": "fp32",
    "fp8_channel": "fp8_channel", "fp8_static": "fp8_static", "w4afp8": "w4afp8",
    "w4a8_mxfp4_mxfp8": "w4a8_mxfp4_mxfp8",
}  # fmt: skip
_WEIGHT_ONLY: Final = ("int8_wo", "int4", "mxfp4")
#: Operands of attention of up to that width are multiplied as such; the key of its fit names them too.
NARROW_BITS: Final = 8.0

#: What a table says of operands that were used in turn, more of them than a cache holds.
ROTATED: Final = "rotated"

#: Planes of the hidden state that a pass moves, by the table's label: read and written; a quantisation
#: to 8 bits reads one of 16.
PLANES: Final = {"norm": 2.0, "elementwise": 3.0, "add": 3.0, "quantize": 3.0, "copy": 2.0, "read": 1.0}

NUMERIC: Final = (
    "m", "n", "k", "batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len", "window", "world",
    "bytes", "experts", "topk", "tp", "ep",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """Kernels of one kind and format: what they do, and the ceilings they run under.

    Parameters
    ----------
    engine : str
        What sort of engine ran them.
    resembles : str
        Kind whose fit serves where this kind has none; empty for none.
    """

    kind: str
    format: str
    engine: str
    work: Work
    ceilings: Ceilings
    resembles: str


def describe(device: Device, op: str, dtype: str, kv_dtype: str, table: "pd.DataFrame") -> Kernels:
    """Return what the rows of one operator and format did; `table` comes from `completed`.

    Raises
    ------
    InvalidSpecError
        If there is no such operator, or the engine has no arithmetic for the format.
    UnknownNameError
        If there is no such format.
    """
    if op not in KINDS:
        raise InvalidSpecError(f"no operator {op!r} is predicted")
    kind = KINDS[op]
    weights = format_named("bf16" if kind.link else FORMATS.get(dtype, dtype))
    cache = format_named(FORMATS.get(kv_dtype, "bf16"))
    held = cache if kind.cached else weights
    narrow = (
        weights.operand
        and weights.name not in _WEIGHT_ONLY
        and (not kind.cached or weights.bits <= NARROW_BITS)
    )
    operand = weights.operand if narrow else "bf16"
    fed = format_named(weights.inputs) if weights.inputs else weights
    fed_bits = 16.0 if weights.name in _WEIGHT_ONLY else fed.bits
    label = held.name + (f"{BY_OPERAND}{operand}" if kind.cached and narrow else "")
    column = {name: table[name].to_numpy(float) for name in (*NUMERIC, "skew", "matrices", "planes")}
    ceilings = _ceilings(device, operand, kind.link)
    if (table["operands"] == ROTATED).all():
        ceilings = replace(ceilings, cache_bytes=0.0)
    return Kernels(
        kind=kind.name,
        format="*" if kind.every_format else label,
        engine=next(iter(device.engine.values())).kind,
        work=kind.work(column, held.bits, fed_bits),
        ceilings=ceilings,
        resembles=kind.resembles,
    )
