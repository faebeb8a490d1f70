"""This machine: its engine, caches, versions, how busy it is, and a device file where it has none."""

import os
import platform
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from roofline.calibration.microbenchmarks.measured_figures import (
    ABOVE_BEST,
    measured_figure,
    measured_source,
)
from roofline.catalog.files import fold
from roofline.catalog.hardware import load_device
from roofline.catalog.wild_names import device_called
from roofline.errors import UnknownNameError, optional

__all__ = [
    "THIS_MACHINE",
    "Machine",
    "busy_fraction",
    "device_file",
    "import_torch",
    "machine_name",
    "this_machine",
    "wait_for",
]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What runs the benchmarks.

    Parameters
    ----------
    kind : {"cpu", "cuda", "mps"}
        Torch's name of the engine; ROCm is ``cuda`` there.
    title : str
        What the maker calls it.
    device : str or None
        Its catalogue name, None where it has no file.
    cores : int
        Processors this process may use.
    cache_bytes, memory_bytes : float
        Last-level cache and memory [B]; 0 where not known.
    software : str
        Framework and version.
    """

    kind: str
    title: str
    device: str | None
    cores: int
    cache_bytes: float
    memory_bytes: float
    software: str


def import_torch() -> Any:
    """Return torch.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    with optional("measuring this machine", extra="calibrate"):
        import torch
    return torch


def wait_for(torch: Any, kind: str) -> None:
    """Wait until an engine of torch has done everything it was given."""
    if kind == "cuda":
        torch.cuda.synchronize()
    elif kind == "mps":
        torch.mps.synchronize()


def this_machine(kind: str | None = None) -> Machine:
    """Return the machine, with the first accelerator torch finds unless a kind is given."""
    torch = import_torch()
    found = kind or ("cuda" if torch.cuda.is_available() else "mps" if _has_mps(torch) else "cpu")
    if found == "cuda":
        properties = torch.cuda.get_device_properties(0)
        title = str(properties.name)
        cache, memory = float(getattr(properties, "L2_cache_size", 0)), float(properties.total_memory)
    else:
        title = _processor()
        cache, memory = _last_level_cache(), float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        device: str | None = device_called(title)
    except UnknownNameError:
        device = None
    return Machine(
        kind=found,
        title=title,
        device=device,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cache_bytes=cache,
        memory_bytes=memory,
        software=f"pytorch {torch.__version__}",
    )


#: Where a machine is in no catalogue, its file is called that.
THIS_MACHINE: Final = "this_machine"


def machine_name(device: str | None, machine: Machine | None = None) -> str:
    """Return the catalogue name of a machine: the one given, else its own, else `THIS_MACHINE`.

    Parameters
    ----------
    device : str or None
        A name or alias of the catalogue.
    machine : Machine, optional
        The one that is meant; the one this runs on where None.

    Raises
    ------
    UnknownNameError
        If no device is called that.
    """
    if device is None or fold(device) == fold(THIS_MACHINE):
        return (machine or this_machine()).device or THIS_MACHINE
    try:
        return load_device(device).name
    except UnknownNameError as error:
        raise UnknownNameError(
            f"--device: {error}; a machine that is in no catalogue goes without it and becomes {THIS_MACHINE}"
        ) from None


def _has_mps(torch: Any) -> bool:
    return bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available())


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    return found[1].strip() if found else platform.processor() or platform.machine()


def _last_level_cache() -> float:
    sizes = []
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        found = re.match(r"(\d+)([KM])", _read(str(index)))
        if found:
            sizes.append(float(found[1]) * (2**10 if found[2] == "K" else 2**20))
    return max(sizes, default=0.0)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def busy_fraction() -> float:
    """Return how much of the processors others use, from the load of the last minute; 0 is idle."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return 0.0


def device_file(
    machine: Machine,
    *,
    name: str,
    peaks_flops_per_s: dict[str, float],
    bytes_per_s: float,
    peer_link: str = "",
) -> str:
    """Return a device file for a machine that is in no catalogue, its ceilings from the best rates seen.

    Parameters
    ----------
    peer_link : str
        Catalogue name of the link between its processes; empty for none.

    Notes
    -----
    A measured best is a lower bound of a ceiling, so `ideal` times made with this file are too long,
    by the share of the peak that no kernel reaches.
    """
    best = "best rate measured, plus 5 %"
    peaks = "\n".join(
        f"{format}.fp32 = {measured_figure(ABOVE_BEST * rate / 1e9, 'GFLOP/s', note=best)}"
        for format, rate in peaks_flops_per_s.items()
    )
    link = f'link = {{ peer = "{peer_link}" }}\n' if peer_link else ""
    slowest = min(peaks_flops_per_s.values())
    return f"""name = "{machine.title.replace('"', "")}"
vendor = "{machine.title.split()[0].replace('"', "").removesuffix("(R)")}"
architecture = "{platform.machine()}"
kind = "cpu"
year = {date.today().year}
aliases = ["{name}"]
{link}
[engine.cpu]
kind = "cpu"
units = {measured_figure(str(machine.cores), note="processors this process may use")}
cache = {measured_figure(machine.cache_bytes / 2**20, "MiB", note="last-level cache as the system states it")}
vector = {measured_figure(ABOVE_BEST * slowest / 1e9, "GFLOP/s", note=best)}

[engine.cpu.peak]
{peaks}

[memory.ddr]
technology = "DDR"
capacity = {measured_figure(machine.memory_bytes / 2**30, "GiB", note="as the system states it")}
bandwidth = {measured_figure(ABOVE_BEST * bytes_per_s / 1e9, "GB/s", note=best)}

{measured_source()}"""
