"""Tables of measured kernel times, read into the work and ceilings that latency forms take.

A table is one CSV per device and a ``sources.csv``; their columns are listed in calibrate/README.md.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.measurements.measured_work import SKEW
from roofline.calibration.measurements.operator_kinds import (
    FORMATS,
    KINDS,
    NARROW_BITS,
    NUMERIC,
    PLANES,
    describe,
)
from roofline.catalog.files import find
from roofline.catalog.hardware import load_device
from roofline.errors import InvalidSpecError, UnknownNameError
from roofline.graph.formats import format_named
from roofline.hardware.device import Device
from roofline.timing.forms import Ceilings, Work
from roofline.timing.runtime import BY_OPERAND

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Measurements",
    "beside_the_kernel",
    "completed",
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


def completed(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return a table with every column that `describe` reads, empty ones where it has none."""
    table = table.copy()
    for name in NUMERIC:
        if name not in table:
            table[name] = np.nan
    for name in ("kv_dtype", "kernel", "dist", "qc", "operands"):
        table[name] = table[name].fillna("").astype(str) if name in table else ""
    return table.assign(
        skew=table["dist"].map(SKEW).fillna(0.0),
        matrices=np.where(table["kernel"].str.contains("nongated"), 2.0, 3.0),
        planes=table["op"].map(PLANES),
        window=table["window"].fillna(0.0),
    )


def _load(folder: Path, path: Path, sources: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    table = _kept(completed(pd.read_csv(path, low_memory=False).merge(sources, on="src_id")))
    table = table.assign(op=operator_of(table["op"], table["kernel"]))
    table = table[table["op"].isin(list(KINDS)) & table["dtype"].isin(list(FORMATS))]
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


def _measured(device_name: str, device: Device, table: "pd.DataFrame") -> Measurements | None:
    first = table.iloc[0]
    kind, dtype = KINDS[str(first["op"])], str(first["dtype"])
    fewest = _FEWEST_COLLECTIVES if kind.link else _FEWEST_ROWS
    launch_bound = kind.name != "grouped_gemm" and table["latency_us"].min() > _LAUNCH_BOUND_US
    if len(table) < fewest or (launch_bound and FORMATS[dtype] != "fp32"):
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
        kind = KINDS[str(op)]
        part = _most_used(rows) if kind.by_kernel else rows
        label = FORMATS[str(dtype)]
        held = "*" if kind.every_format else FORMATS.get(str(cache), "bf16") if kind.cached else label
        name = str(software).partition(" ")[0] if age == "newest" else str(software)
        as_labelled = not kind.cached or label == "bf16"
        offered = [(held, as_labelled, part)]
        if kind.cached and format_named(label).bits <= NARROW_BITS:
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
