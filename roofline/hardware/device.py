"""A device: engines that compute, memories they share, and what it draws and costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from pydantic import ConfigDict

from roofline.units import (
    Bytes,
    BytesPerSecond,
    Count,
    DollarsPerHour,
    FlopsPerSecond,
    Hertz,
    Seconds,
    Watts,
    file_key,
)

__all__ = ["FILE_CONFIG", "Device", "Engine", "Memory"]

#: How every specification class reads from a file: no unknown keys, names without unit suffix.
FILE_CONFIG = ConfigDict(extra="forbid", alias_generator=file_key, populate_by_name=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """Something that computes: a GPU, the CPU cores, an NPU.

    Parameters
    ----------
    kind : str
        What sort of engine it is; runtime profiles are looked up by it.
    peak_flops_per_s : mapping
        *Dense* matrix peak [FLOP/s] by operand format, then by accumulate format. A sparse figure
        is halved in the device file, with a note.
    vector_flops_per_s : Quantity
        Peak outside the matrix units, fp32 unless the file says otherwise [FLOP/s].
    units : Quantity
        Streaming multiprocessors, compute units or cores.
    cache_bytes : Quantity
        Last-level cache of this engine [B]; 0 when not published.
    clock_hertz : Quantity
        Boost clock the peaks are stated at [Hz]; 0 when not published.
    bandwidth_limit_bytes_per_s : Quantity or None
        Only where the engine alone cannot draw the memory's whole bandwidth [B/s].
    memories : tuple of str
        Names of the memories it addresses directly, nearest first; empty means all of the device.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FILE_CONFIG

    kind: Literal["gpu", "cpu", "npu", "tpu"]
    peak_flops_per_s: Mapping[str, Mapping[str, FlopsPerSecond]]
    vector_flops_per_s: FlopsPerSecond
    units: Count
    cache_bytes: Bytes = 0.0
    clock_hertz: Hertz = 0.0
    bandwidth_limit_bytes_per_s: BytesPerSecond | None = None
    memories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """A byte-addressable memory of a device.

    Parameters
    ----------
    capacity_bytes : Quantity
        Installed capacity [B], binary or decimal as the source states it.
    bandwidth_bytes_per_s : Quantity
        Peak of the interface [B/s].
    latency_s : Quantity
        Load-to-use latency [s]; 0 when not published.
    shared_bandwidth_bytes_per_s : Quantity or None
        What several engines that draw at once reach together [B/s]; None is the interface's peak.
    """

    __pydantic_config__: ClassVar[ConfigDict] = FILE_CONFIG

    capacity_bytes: Bytes
    bandwidth_bytes_per_s: BytesPerSecond
    technology: str = ""
    latency_s: Seconds = 0.0
    shared_bandwidth_bytes_per_s: BytesPerSecond | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Device:
    """One accelerator, processor or system-on-chip as its maker describes it.

    Parameters
    ----------
    engine : mapping of str to Engine
        The first engine is the one that runs a model unless a placement says otherwise.
    memory : mapping of str to Memory
        Nearest first; the first memory holds a model unless a placement says otherwise.
    link : mapping of str to str
        Link-file names by use: ``peer`` (to others of its kind), ``host``.
    storage : tuple of str
        Storage-file names that this device usually comes with.
    tdp_watts : Quantity or None
        Board or package power limit [W].
    """

    __pydantic_config__: ClassVar[ConfigDict] = FILE_CONFIG

    name: str
    vendor: str
    architecture: str
    kind: Literal["datacenter_gpu", "workstation_gpu", "consumer_gpu", "accelerator", "soc", "cpu"]
    year: int
    engine: Mapping[str, Engine]
    memory: Mapping[str, Memory]
    aliases: tuple[str, ...] = ()
    link: Mapping[str, str] = field(default_factory=dict)
    storage: tuple[str, ...] = ()
    tdp_watts: Watts | None = None
    price_dollars_per_hour: DollarsPerHour | None = None

    def led_by(self, engine: str) -> "Device":
        """Return the device with an engine as its first; the same where it has none of that name."""
        if engine not in self.engine:
            return self
        return replace(self, engine={engine: self.engine[engine], **self.engine})
