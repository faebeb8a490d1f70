"""Bandwidth of memory against size, from the copies and reads of a campaign."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roofline.calibration.measurements.operator_kinds import PLANES
from roofline.graph.formats import format_named

__all__ = ["MemorySpeed", "memory_speeds"]


@dataclass(frozen=True, kw_only=True)
class MemorySpeed:
    """The rate of one pass over memory.

    Parameters
    ----------
    op : {"copy", "read"}
    size_bytes : float
        One operand [B].
    bytes_per_s : float
        Bytes moved per time [B/s]; a copy moves each byte twice.
    """

    op: str
    size_bytes: float
    bytes_per_s: float


def memory_speeds(rows: Iterable[Mapping[str, str]]) -> tuple[MemorySpeed, ...]:
    """Return the rates of the copies and reads among a campaign's rows, by operator and size.

    Notes
    -----
    A processor whose stores fetch their line first moves half as much again in a copy; that traffic
    is not counted, so its copies look slower than its reads.
    """
    speeds = []
    for row in rows:
        if row["op"] in ("copy", "read"):
            size_bytes = float(row["m"]) * float(row["n"]) * format_named(row["dtype"]).bits / 8.0
            time_s = float(row["latency_us"]) * 1e-6
            rate = PLANES[row["op"]] * size_bytes / time_s
            speeds.append(MemorySpeed(op=row["op"], size_bytes=size_bytes, bytes_per_s=rate))
    return tuple(sorted(speeds, key=lambda one: (one.op, one.size_bytes)))
