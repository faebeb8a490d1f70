"""The link between a CUDA device and its host: copies by size, as latency and bandwidth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from roofline.calibration.microbenchmarks.campaign import appended, first_quartile, raw_rows
from roofline.calibration.microbenchmarks.measure import Task
from roofline.calibration.microbenchmarks.measured_figures import ABOVE_BEST, measured_figure, measured_source
from roofline.errors import InvalidSpecError, optional

__all__ = [
    "Copies",
    "LinkFit",
    "cuda_copies",
    "fit_host_link",
    "fit_line",
    "host_link_file",
    "link_tasks",
    "peer_link_file",
]

#: Returns times [s] of copies of a direction, a kind of host memory and a size [B].
Copies = Callable[[str, str, int], Sequence[float]]

_COLUMNS: Final = ("direction", "memory", "size_bytes", "latency_us", "repeats", "software")
_DIRECTIONS: Final = ("host_to_device", "device_to_host")
_MEMORIES: Final = ("pinned", "pageable")
#: From what latency rules, by fours, to what bandwidth rules.
_SIZES: Final = tuple(4096 * 4**step for step in range(9))
_REPEATS: Final = 9
_DEVICE: Final = "cuda"
_FEWEST_SIZES: Final = 4


@dataclass(frozen=True, kw_only=True)
class LinkFit:
    """Latency and bandwidth of copies in one direction.

    Parameters
    ----------
    memory : {"pinned", "pageable"}
        Kind of host memory.
    error : float
        Median absolute relative error of the line on the copies it was fitted to.
    """

    direction: str
    memory: str
    latency_s: float
    bandwidth_bytes_per_s: float
    error: float
    points: int


def link_tasks(path: Path, copies: Copies, *, software: str) -> list[Task]:
    """Return the copies a raw table lacks, every size of one direction and memory after the other.

    Parameters
    ----------
    path : Path
        The raw table, in a folder that exists; the first quartile of the repeats is kept.
    software : str
        Framework and version.
    """
    done = {(row["direction"], row["memory"], int(row["size_bytes"])) for row in _own(path, software)}

    def measured(direction: str, memory: str, size: int) -> None:
        times = copies(direction, memory, size)
        latency = f"{first_quartile(times) * 1e6:.6g}"
        cells = (direction, memory, size, latency, len(times), software)
        appended(path, dict(zip(_COLUMNS, cells, strict=True)))

    def task(direction: str, memory: str, size: int) -> Task:
        return Task(
            label=f"host link, {direction.replace('_', ' ')}, {memory}, {size} B",
            run=lambda: measured(direction, memory, size),
        )

    return [
        task(direction, memory, size)
        for size in _SIZES
        for direction in _DIRECTIONS
        for memory in _MEMORIES
        if (direction, memory, size) not in done
    ]


def _own(path: Path, software: str) -> list[dict[str, str]]:
    return [row for row in raw_rows(path) if row["software"] == software]


def fit_host_link(path: Path, *, software: str) -> tuple[LinkFit, ...]:
    """Return a line for every direction and memory in a raw table.

    Raises
    ------
    InvalidSpecError
        If the times do not show a bandwidth.
    """
    rows = _own(path, software)
    fits = []
    for direction in _DIRECTIONS:
        for memory in _MEMORIES:
            own = [row for row in rows if (row["direction"], row["memory"]) == (direction, memory)]
            sizes = [float(row["size_bytes"]) for row in own]
            times = [float(row["latency_us"]) * 1e-6 for row in own]
            latency_s, rate, error = fit_line(sizes, times)
            fits.append(
                LinkFit(
                    direction=direction,
                    memory=memory,
                    latency_s=latency_s,
                    bandwidth_bytes_per_s=rate,
                    error=error,
                    points=len(own),
                )
            )
    return tuple(fits)


def fit_line(sizes_bytes: Sequence[float], times_s: Sequence[float]) -> tuple[float, float, float]:
    """Return latency [s], bandwidth [B/s] and median relative error of ``t = latency + bytes / bandwidth``.

    Raises
    ------
    InvalidSpecError
        If there are fewer than four sizes, or time does not grow with size.

    Notes
    -----
    Least squares of relative errors, neither parameter below zero: the smallest copy counts as much
    as the largest.

    References
    ----------
    Hockney 1994, doi:10.1016/S0167-8191(06)80021-9 (latency and asymptotic bandwidth).
    """
    with optional("a fit", extra="calibrate"):
        from scipy.optimize import nnls
    sizes, times = np.asarray(sizes_bytes, dtype=float), np.asarray(times_s, dtype=float)
    if len(np.unique(sizes)) < _FEWEST_SIZES:
        raise InvalidSpecError(
            f"host link: {len(np.unique(sizes))} sizes were copied; want at least {_FEWEST_SIZES}"
        )
    # In units of the largest copy, so that both columns are of one order.
    scale = float(sizes.max())
    (latency_s, largest_s), _ = nnls(
        np.stack([1.0 / times, sizes / scale / times], axis=1), np.ones(len(times))
    )
    if largest_s <= 0.0:
        raise InvalidSpecError("host link: copies take no longer the larger they are")
    errors = np.abs((latency_s + largest_s * sizes / scale) / times - 1.0)
    return float(latency_s), scale / float(largest_s), float(np.median(errors))


def host_link_file(fits: Sequence[LinkFit], *, device: str) -> str:
    """Return a link file of copies from pinned host memory to the device; the others are in its note.

    Notes
    -----
    Offloaded weights go in that direction. The figures are what copies reach, so a link's payload peak
    is somewhat higher.
    """
    used = next(one for one in fits if (one.direction, one.memory) == ("host_to_device", "pinned"))
    others = "; ".join(
        f"{one.direction.replace('_', ' ')}, {one.memory}: {one.bandwidth_bytes_per_s / 1e9:.4g} GB/s after "
        f"{one.latency_s * 1e6:.3g} us"
        for one in fits
        if one is not used
    )
    made = f"pinned, host to device, {used.points} sizes, median error of the line {used.error:.1%}"
    rate = measured_figure(used.bandwidth_bytes_per_s / 1e9, "GB/s", note=f"{made}; {others}")
    latency = measured_figure(used.latency_s * 1e6, "us", note=made)
    return f"""name = "Host link of {device}, measured"
topology = "host"
bandwidth = {rate}
latency = {latency}

{measured_source()}"""


def peer_link_file(bytes_per_s: float) -> str:
    """Return a link file of processes of one machine, from the best rate at which one of them sent.

    Notes
    -----
    The rate is a ceiling, 5 % above the best; what a message takes before its first byte is in the fits
    of collectives.
    """
    best = "best bus bandwidth of a collective, plus 5 %"
    return f"""name = "Between processes of this machine, measured"
topology = "ring"
bandwidth = {measured_figure(ABOVE_BEST * bytes_per_s / 1e9, "GB/s", note=best)}
latency = {measured_figure(0.0, "us", note="in the fits of collectives")}

{measured_source()}"""


def cuda_copies(torch: Any) -> Copies:
    """Return what times copies on the first CUDA device, from one event to the next."""
    return partial(_copy_times, torch)


def _copy_times(torch: Any, direction: str, memory: str, size_bytes: int) -> list[float]:
    # Filled, so that no copy waits for the system to hand out pages.
    host = torch.ones(size_bytes, dtype=torch.uint8)
    if memory == "pinned":
        host = host.pin_memory()
    device = torch.ones(size_bytes, dtype=torch.uint8, device=_DEVICE)
    source, target = (host, device) if direction == "host_to_device" else (device, host)
    times = []
    for turn in range(_REPEATS + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        target.copy_(source, non_blocking=memory == "pinned")
        end.record()
        torch.cuda.synchronize()
        if turn > 0:
            times.append(start.elapsed_time(end) * 1e-3)
    return times
