"""Tables of measured kernel times, read into the work and ceilings that latency forms take.

A table is one CSV per device and a ``sources.csv``; their columns are listed in calibrate/README.md.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.measurements import measured_work
from roofline.catalog.files import find
from roofline.catalog.hardware import load_device, load_link
from roofline.errors import InvalidSpecError, UnknownNameError
from roofline.graph.formats import format_named
from roofline.hardware.device import Device
from roofline.timing.cost import arithmetic
from roofline.timing.forms import Ceilings, Work
from roofline.timing.runtime import BY_OPERAND

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PLANES",
    "ROTATED",
    "Kernels",
    "Measurements",
    "beside_the_kernel",
    "completed",
    "describe",
    "operator_of",
    "read_tables",
    "software_of",
    "version",
]

Array = NDArray[np.float64]
Age = Literal["newest", "older"]

#: Rows of one group that are fitted: all there are of most products; more only cost time.
_MOST_ROWS: Final = 750
_FEWEST_ROWS: Final = 40
_FEWEST_COLLECTIVES: Final = 12
#: No kernel needs that long for its smallest shape: such a group timed its launches.
_LAUNCH_BOUND_US: Final = 100.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurements:
    """Measured times of one kind of kernel in one format, with one software on one device.

    Parameters
    ----------
    device, software : str
        Catalogue name of the device; framework and version.
    kind, format : str
        As in `KernelFit`.
    engine : str
        What sort of engine ran them.
    family : ndarray of int
        Rows of equal value differ only in what a shape family leaves free.
    times_s : ndarray
        Measured time [s].
    """

    device: str
    software: str
    kind: str
    format: str
    engine: str
    kernel: str
    source: str
    work: Work
    ceilings: Ceilings
    times_s: Array
    family: NDArray[np.int64]

    @property
    def framework(self) -> str:
        """Software without its version."""
        return self.software.partition(" ")[0]

    def rows(self, keep: NDArray[np.bool_]) -> "Measurements":
        """Return the rows where `keep` is true."""

        def part(value: Any) -> Any:
            return value[keep] if isinstance(value, np.ndarray) else value

        work = Work(
            flops=part(self.work.flops),
            bytes=part(self.work.bytes),
            shape={key: part(value) for key, value in self.work.shape.items()},
        )
        return replace(self, work=work, times_s=self.times_s[keep], family=self.family[keep])


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


_SHAPE: Final = ("batch", "heads", "kv_heads", "head_dim")
_KINDS: Final[dict[str, _Kind]] = {
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
    "allreduce": _Kind(
        name="all_reduce",
        work=measured_work.collective(2.0),
        family=("bytes",),
        by_kernel=True,
        link=True,
        every_format=True,
    ),
    "allgather": _Kind(
        name="all_gather", work=measured_work.collective(1.0), family=("bytes",), link=True, every_format=True
    ),
    "reducescatter": _Kind(
        name="reduce_scatter",
        work=measured_work.collective(1.0),
        family=("bytes",),
        link=True,
        every_format=True,
    ),
    # DeepEP's kernels for few tokens: each rank sends its tokens to the experts that others hold.
    "moe_dispatch": _Kind(
        name="expert_dispatch",
        work=measured_work.collective(1.0),
        family=("bytes",),
        link=True,
        every_format=True,
        resembles="all_to_all",
    ),
    "moe_combine": _Kind(
        name="expert_combine",
        work=measured_work.collective(1.0),
        family=("bytes",),
        link=True,
        every_format=True,
        resembles="all_to_all",
    ),
    "alltoall": _Kind(
        name="all_to_all", work=measured_work.collective(1.0), family=("bytes",), link=True, every_format=True
    ),
    "sendrecv": _Kind(
        name="send_receive",
        work=measured_work.collective(2.0),
        family=("bytes",),
        link=True,
        every_format=True,
    ),
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
_FORMATS: Final = {
    "bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block", "sq": "int8",
    "int8_wo": "int8_wo", "int4_wo": "int4", "nvfp4": "nvfp4", "w4a16_mxfp4": "mxfp4", "fp32": "fp32",
    "fp8_channel": "fp8_channel", "fp8_static": "fp8_static", "w4afp8": "w4afp8",
    "w4a8_mxfp4_mxfp8": "w4a8_mxfp4_mxfp8",
}  # fmt: skip
_WEIGHT_ONLY: Final = ("int8_wo", "int4", "mxfp4")
#: Operands of attention of up to that width are multiplied as such; the key of its fit names them too.
_NARROW_BITS: Final = 8.0

#: What a table says of operands that were used in turn, more of them than a cache holds.
ROTATED: Final = "rotated"

#: Planes of the hidden state that a pass moves, by the table's label: read and written; a quantisation
#: to 8 bits reads one of 16.
PLANES: Final = {"norm": 2.0, "elementwise": 3.0, "add": 3.0, "quantize": 3.0, "copy": 2.0, "read": 1.0}


_OF_EXPERTS: Final = ("moe_dispatch", "moe_combine")
#: Devices of one machine, joined by its switches; messages of experts beyond go through network cards.
_ONE_NODE: Final = 8.0


def beside_the_kernel(
    software: "pd.Series[str]",
    op: "pd.Series[str]",
    kernel: "pd.Series[str]",
    qc: "pd.Series[str]",
    world: "pd.Series[float]",
) -> NDArray[np.object_]:
    """Return why rows show something else than one kernel at work; empty where they do not.

    Parameters
    ----------
    software : Series of str
        As the source states it, with how it was timed.
    world : Series of float
        Ranks of a message.
    """
    gaps = software.str.contains("Frontier") & ~(
        kernel.str.contains("kernel_only") | software.str.contains("kernel time only")
    )
    eager = kernel.str.contains("custom_eager|CustomAllReduce_eager") & (
        ~software.str.contains("vllm 0.(?:12|20).0", regex=True)
    )
    between = software.str.startswith("NCCL via torch") & (
        (op != "sendrecv") | ~kernel.str.contains("dgx_dpn2")
    )
    between |= op.isin(_OF_EXPERTS) & (world > _ONE_NODE)
    reasons = np.full(len(op), "", dtype=object)
    reasons[between.to_numpy()] = "link between nodes is not described"
    reasons[qc.str.contains("below_roof").to_numpy()] = "marked as faster than memory allows"
    reasons[(gaps | eager | qc.str.contains("no_graph")).to_numpy()] = "timed with the host's launches"
    return reasons


def _kept(table: "pd.DataFrame") -> "pd.DataFrame":
    """Drop rows that do not show a kernel: host gaps, links between nodes, empty shapes, bad marks.

    TensorRT-LLM decode with 32 and more query heads per KV head is left out because its rows contradict
    each other (calibrate/README.md).
    """
    software, kernel = table["software"].astype(str), table["kernel"].astype(str)
    dropped = beside_the_kernel(software, table["op"], kernel, table["qc"].astype(str), table["world"]) != ""
    dropped |= (
        software.str.startswith("trtllm")
        & (table["op"] == "attention_decode")
        & (table["heads"] >= 32 * table["kv_heads"])
    ).to_numpy()
    for name in ("m", "kv_len", "q_len", "bytes"):
        dropped |= (table[name] <= 0).to_numpy()
    kept: pd.DataFrame = table[(table["latency_us"] > 0).to_numpy() & ~dropped]
    return kept


def operator_of(op: "pd.Series[str]", kernel: "pd.Series[str]") -> "pd.Series[str]":
    """Return the operators of a table, plain additions told from other elementwise kernels."""
    return op.mask((op == "elementwise") & (kernel == "add"), "add")


def version(text: str) -> list[int]:
    """Return the numbers in a software's name and version, which order versions."""
    return [int(part) for part in re.findall(r"\d+", text)]


def software_of(text: str) -> str:
    """Return framework and version; libraries and profilers get the name of what they measured."""
    if "eager fp32" in text:
        return f"torch_eager {_version_text(text)}"
    if text.startswith("torch profiler hooks"):
        return "torch_profiler (version not recorded)"
    if text.startswith(("sarathi", "torch", "NCCL via")):
        return "torch (version not recorded)"
    if "Frontier" in text:
        return "vllm_kernels (version not recorded)"
    if text.startswith(("DeepGEMM", "flashinfer", "FlashAttention")):
        return "flashinfer (version not recorded)"
    return text.partition(" eager")[0].partition(";")[0]


def _version_text(text: str) -> str:
    match = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", text)
    return match[0] if match else ""


_NUMERIC: Final = (
    "m", "n", "k", "batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len", "window", "world",
    "bytes", "experts", "topk", "tp", "ep",
)  # fmt: skip


def completed(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table with every column that `describe` reads, empty ones where it has none."""
    table = table.copy()
    for name in _NUMERIC:
        if name not in table:
            table[name] = np.nan
    for name in ("kv_dtype", "kernel", "dist", "qc", "operands"):
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    return table.assign(
        skew=table["dist"].map(measured_work.SKEW).fillna(0.0),
        matrices=np.where(table["kernel"].str.contains("nongated"), 2.0, 3.0),
        planes=table["op"].map(PLANES),
        window=table["window"].fillna(0.0),
    )


def _load(folder: Path, path: Path, sources: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    table = _kept(completed(pd.read_csv(path, low_memory=False).merge(sources, on="src_id")))
    table = table.assign(op=operator_of(table["op"], table["kernel"]))
    table = table[table["op"].isin(list(_KINDS)) & table["dtype"].isin(list(_FORMATS))]
    table = table.assign(
        software=table["software"].map(software_of),
        origin=table["source"] + "@" + table["source_commit"].str.slice(0, 7),
    )
    collective = table["op"].isin(["allreduce", "allgather", "reducescatter", "alltoall"])
    kept: pd.DataFrame = table[~(collective & (table["dtype"] == "int8"))]
    return kept


def _of_age(table: "pd.DataFrame", age: Age) -> "pd.DataFrame":
    """Keep the newest version of each framework, separately per operator and format, or all before it."""
    framework = table["software"].str.split().str[0]
    keys = [framework, table["op"], table["dtype"], table["kv_dtype"]]
    best = table.groupby(keys)["software"].transform(lambda names: max(names.unique(), key=version))
    kept: pd.DataFrame = table[(table["software"] == best) == (age == "newest")]
    return kept


def _by_channel(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the rows of the Triton kernel that runs experts with a scale per channel, labelled as such.

    From vLLM 0.24 on the rows labelled ``fp8`` are of a kernel for one scale per tensor, 4 times slower on
    H100 at the same bytes; checkpoints with a scale per channel cannot use it.
    """
    rows: pd.DataFrame = table[
        (table["op"] == "gemm_grouped") & (table["dtype"] == "fp8") & (table["kernel"] == "vllm_fused_moe")
    ]
    return rows.assign(dtype="fp8_channel")


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
    if op not in _KINDS:
        raise InvalidSpecError(f"no operator {op!r} is predicted")
    kind = _KINDS[op]
    weights = format_named("bf16" if kind.link else _FORMATS.get(dtype, dtype))
    cache = format_named(_FORMATS.get(kv_dtype, "bf16"))
    held = cache if kind.cached else weights
    narrow = (
        weights.operand
        and weights.name not in _WEIGHT_ONLY
        and (not kind.cached or weights.bits <= _NARROW_BITS)
    )
    operand = weights.operand if narrow else "bf16"
    fed = format_named(weights.inputs) if weights.inputs else weights
    fed_bits = 16.0 if weights.name in _WEIGHT_ONLY else fed.bits
    label = held.name + (f"{BY_OPERAND}{operand}" if kind.cached and narrow else "")
    column = {name: table[name].to_numpy(float) for name in (*_NUMERIC, "skew", "matrices", "planes")}
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


def _measured(device_name: str, device: Device, table: "pd.DataFrame") -> Measurements | None:
    first = table.iloc[0]
    kind, dtype = _KINDS[str(first["op"])], str(first["dtype"])
    fewest = _FEWEST_COLLECTIVES if kind.link else _FEWEST_ROWS
    launch_bound = kind.name != "grouped_gemm" and table["latency_us"].min() > _LAUNCH_BOUND_US
    if len(table) < fewest or (launch_bound and _FORMATS[dtype] != "fp32"):
        return None
    if len(table) > _MOST_ROWS:
        table = table.sample(_MOST_ROWS, random_state=0)
    described = describe(device, str(first["op"]), dtype, str(first["kv_dtype"]), table)
    column = {name: table[name].to_numpy(float) for name in kind.family}
    family = [
        crc32("_".join(f"{column[name][row]:.0f}" for name in kind.family).encode())
        for row in range(len(table))
    ]
    return Measurements(
        device=device_name,
        software=str(first["software"]),
        kind=described.kind,
        format=described.format,
        engine=described.engine,
        kernel=str(table["kernel"].mode().iloc[0]),
        source=", ".join(sorted(table["origin"].unique())),
        work=described.work,
        ceilings=described.ceilings,
        times_s=table["latency_us"].to_numpy(float) * 1e-6,
        family=np.array(family, dtype=np.int64),
    )


def _most_used(table: "pd.DataFrame") -> "pd.DataFrame":
    """Keep the kernel with most rows, the faster of two with as many."""
    counts = table.groupby("kernel")["latency_us"].agg(["size", "median"])
    order = counts.sort_values(["size", "median"], ascending=[False, True])
    kept: pd.DataFrame = table[table["kernel"] == order.index[0]]
    return kept


def _groups(table: "pd.DataFrame", age: Age) -> Iterator["pd.DataFrame"]:
    """One table per software, kind and format; of several that give one key, the most suitable.

    The newest rows of a framework are one software, though the version differs from format to format.
    """
    chosen: dict[tuple[str, ...], tuple[bool, int, pd.DataFrame]] = {}
    for (op, software, dtype, cache), rows in table.groupby(["op", "software", "dtype", "kv_dtype"]):
        kind = _KINDS[str(op)]
        part = _most_used(rows) if kind.by_kernel else rows
        label = _FORMATS[str(dtype)]
        held = "*" if kind.every_format else _FORMATS.get(str(cache), "bf16") if kind.cached else label
        name = str(software).partition(" ")[0] if age == "newest" else str(software)
        as_labelled = not kind.cached or label == "bf16"
        offered = [(held, as_labelled, part)]
        if kind.cached and format_named(label).bits <= _NARROW_BITS:
            # Attention on 16-bit operands is preferred; where it was not timed, its narrow kernel serves.
            offered = [(held, False, part.assign(dtype="bf16")), (held + BY_OPERAND, True, part)]
        for format, preferred, rows_of in offered:
            key = (str(op), name, format)
            rank = preferred and len(part) >= _FEWEST_ROWS
            if key not in chosen or (rank, len(part)) > chosen[key][:2]:
                chosen[key] = (rank, len(part), rows_of)
    for _, _, part in chosen.values():
        yield part


def read_tables(
    folder: Path, devices: tuple[str, ...] = (), *, age: Age = "newest"
) -> Iterator[Measurements]:
    """Yield the fitted groups of every device table whose device is in the hardware catalogue.

    Parameters
    ----------
    folder : Path
        Holds one CSV per device, named like the device, and ``sources.csv``.
    devices : tuple of str
        Only these tables, by file stem; empty means all.
    age : ``newest`` or ``older``
        Of each framework the newest version alone, or every version before it.

    Raises
    ------
    InvalidSpecError
        If the folder holds no ``sources.csv``.
    """
    import pandas as pd

    if not (folder / "sources.csv").is_file():
        raise InvalidSpecError(f"{folder}: want a folder of measurement tables with sources.csv")
    sources = pd.read_csv(folder / "sources.csv")
    for path in sorted(folder.glob("*.csv")):
        if path.stem == "sources" or (devices and path.stem not in devices):
            continue
        try:
            name = find(path.stem, "devices").stem
        except UnknownNameError:
            continue
        device = load_device(name).value
        table = _load(folder, path, sources)
        labelled = (table, _by_channel(table))
        for rows in (rows for part in labelled for rows in _groups(_of_age(part, age), age)):
            group = _measured(name, device, rows)
            if group is not None:
                yield group
