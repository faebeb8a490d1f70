"""Calibration: a campaign on this machine, or somebody's table, made into profiles of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

from roofline.calibration.fits.fitting import rounded
from roofline.calibration.fits.own_fits import OwnFit, Refused, fit_operators, set_aside, write_fits
from roofline.calibration.fits.own_speeds import fit_whole_models
from roofline.calibration.fits.profile_files import profile_text
from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.microbenchmarks.campaign import Campaign
from roofline.calibration.microbenchmarks.collective_speed import bus_bytes_per_s, collective_tasks
from roofline.calibration.microbenchmarks.host_speed import HOST_TABLE, host_tasks, host_times
from roofline.calibration.microbenchmarks.kernel_bench import KernelBench
from roofline.calibration.microbenchmarks.link_speed import (
    LinkFit,
    cuda_copies,
    fit_host_link,
    host_link_file,
    link_tasks,
    peer_link_file,
)
from roofline.calibration.microbenchmarks.machine import Machine, device_file, import_torch, this_machine
from roofline.calibration.microbenchmarks.measure import (
    Budget,
    Task,
    Told,
    kernel_tasks,
    measure,
    refuse_busy,
    run,
)
from roofline.calibration.microbenchmarks.memory_speed import MemorySpeed, memory_speeds
from roofline.calibration.microbenchmarks.storage_speed import (
    StorageFit,
    StorageSpeed,
    fit_storage,
    storage_file,
    storage_speeds,
    storage_tasks,
)
from roofline.catalog.files import fold, read_toml
from roofline.catalog.hardware import load_device
from roofline.catalog.sourced import validated
from roofline.errors import FileFormatError, InvalidSpecError, MissingDependencyError, UnknownNameError
from roofline.graph.formats import format_named
from roofline.timing.runtime import HostTime, Runtime

__all__ = [
    "THIS_MACHINE",
    "Calibrated",
    "CalibratedStorage",
    "calibrate_machine",
    "calibrate_storage",
    "calibrate_table",
    "machine_name",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """What a calibration made.

    Parameters
    ----------
    written : tuple of Path
        Files it wrote or added to.
    doubts : tuple of str
        What speaks against the measurements.
    memory : tuple of MemorySpeed
        Rates of copies and reads by size; empty where only a table was fitted.
    host_link : tuple of LinkFit
        Copies between host and device; empty where there is no CUDA device.
    launch_s : mapping of str to float
        The host's time for one small kernel [s], ``eager`` and in a ``graph``; empty where nothing was run.
    left_out : tuple of str
        What this machine has nothing of to measure, and why.
    """

    fits: tuple[OwnFit, ...]
    refused: tuple[Refused, ...]
    written: tuple[Path, ...]
    doubts: tuple[str, ...] = ()
    memory: tuple[MemorySpeed, ...] = ()
    host_link: tuple[LinkFit, ...] = ()
    launch_s: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def calibrate_table(path: Path, folder: Path, said: dict[str, str] | None = None) -> Calibrated:
    """Fit somebody's own rows and write profiles below ``folder/fits``.

    Parameters
    ----------
    path : Path
        An operator table, or a whole-model table or output as validation takes them.
    said : mapping of str to str, optional
        Cells by column for rows where they are empty.

    Raises
    ------
    FileFormatError
        If it cannot be read.
    InvalidSpecError
        If nothing in it can be fitted; the text says why.
    """
    file = replace(read_measured_file(path), said=dict(said or {}))
    today = date.today().isoformat()
    if file.schema == "sources":
        raise FileFormatError(f"{path}: is a table of sources, not of measurements")
    with set_aside(folder):
        fit = fit_whole_models if file.schema == "whole_models" else fit_operators
        fits, refused, profiles = fit(file, today)
        if not fits:
            reasons = "; ".join(f"{one.what}: {one.reason}" for one in refused[:3]) or "no usable row"
            raise InvalidSpecError(f"{path}: nothing to fit ({reasons})")
        written = write_fits(profiles, folder)
    return Calibrated(fits=tuple(fits), refused=tuple(refused), written=tuple(written.values()))


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedStorage:
    """Measured rates of storage, and the file made of them.

    Parameters
    ----------
    fit : StorageFit or None
        None where too little was measured; `doubts` says so.
    left : int
        Points the budget cut off.
    """

    device: str
    speeds: tuple[StorageSpeed, ...]
    fit: StorageFit | None
    left: int
    written: tuple[Path, ...]
    doubts: tuple[str, ...]


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


#: Kernels before the other kinds of measurements: ceilings, and some products.
_FIRST_KERNELS: Final = 7
#: How often a run goes back to points that something slowed.
_ROUNDS: Final = 3
#: Fewest rows of a product whose rate may stand for a peak.
_MANY_ROWS: Final = 256


def calibrate_machine(
    machine: Machine,
    folder: Path,
    *,
    seconds: float,
    device: str | None = None,
    threads: int | None = None,
    even_if_busy: bool = False,
    ranks: int | None = None,
    told: Told = lambda done, total, what: None,
) -> Calibrated:
    """Measure this machine within a budget and fit everything measured so far.

    Parameters
    ----------
    folder : Path
        Gets ``campaigns/<device>/`` (raw), ``fits/<device>/pytorch.toml``, a link file where there is a
        host link, and a hardware file where the machine has none. It is one of the catalogue's folders.
    device : str, optional
        Catalogue name of this machine, where its own name is not known.
    threads : int, optional
        Processors to use; all of them where None. Fewer than all keeps clear of what else runs.
    even_if_busy : bool
        Measure although others use the machine.
    ranks : int, optional
        Measure collectives between that many; by default all CUDA devices, and none on other engines.

    Raises
    ------
    RooflineError
        If the machine is busy, torch is missing, or too little was measured to fit anything.
    """
    torch = import_torch()
    name = machine_name(device, machine)
    budget, busy = Budget(seconds=seconds), refuse_busy(machine, even_if_busy)
    if threads is not None:
        torch.set_num_threads(threads)
    campaign = Campaign(folder=folder / "campaigns" / name, device=name)
    campaign.start(machine)
    bench = KernelBench(torch, machine)
    formats, unmeasured = bench.formats()
    left_out = list(unmeasured)
    others = [*host_tasks(machine, campaign.folder / HOST_TABLE)]
    if machine.kind == "cuda":
        others += link_tasks(campaign.folder / _LINK_TABLE, cuda_copies(torch), software=machine.software)
    else:
        left_out.append(f"host link: {machine.kind} works in the host's memory")
    found = ranks or (torch.cuda.device_count() if machine.kind == "cuda" else 1)
    if found > 1 or ranks is not None:
        others += collective_tasks(machine, campaign, ranks=found, budget=budget, told=told)
    else:
        left_out.append("collectives: there is one device (--ranks 2 measures between processes)")
    doubts: list[str] = []
    remaining = 0
    launch_s: Mapping[str, float] = {}
    for turn in range(_ROUNDS):
        kernels = kernel_tasks(bench, campaign, formats)
        tasks: Sequence[Task] = [*kernels[:_FIRST_KERNELS], *others, *kernels[_FIRST_KERNELS:]]
        if not tasks or (turn > 0 and budget.left_s <= 0.0):
            break
        measured = measure(bench, campaign, tasks, budget=budget, busy=busy, told=told)
        doubts, launch_s = list(measured.doubts), measured.launch_s
        left_out += measured.failed
        remaining = measured.left
        if remaining:
            doubts.append(f"{remaining} of {len(tasks)} measurements are left; the same command goes on")
        others = []
    try:
        made = _fitted(machine, campaign, folder, doubts, left_out)
    except InvalidSpecError as error:
        if not remaining:
            raise
        raise InvalidSpecError(
            f"{error}; {remaining} measurements are left: the same command goes on"
        ) from error
    return replace(made, launch_s=launch_s)


_LINK_TABLE: Final = "host_link.csv"


def _fitted(
    machine: Machine,
    campaign: Campaign,
    folder: Path,
    doubts: list[str],
    left_out: list[str],
) -> Calibrated:
    """Fit everything that a campaign holds and write it into the catalogue folder."""
    name = campaign.device
    written = [campaign.table]
    if name == THIS_MACHINE:
        written += _describe(machine, campaign, folder)
    host_link: tuple[LinkFit, ...] = ()
    if machine.kind == "cuda":
        try:
            host_link = fit_host_link(campaign.folder / _LINK_TABLE, software=machine.software)
        except InvalidSpecError as error:
            doubts.append(str(error))
        else:
            text = host_link_file(host_link, device=name)
            written.append(_kept(folder / "hardware" / "links" / f"{name}_host_link.toml", text))
    made = calibrate_table(campaign.fitted_table(), folder)
    try:
        for path in made.written:
            _with_host(path, machine, campaign)
    except (MissingDependencyError, InvalidSpecError) as error:
        doubts.append(f"host time is not known: {error}")
    return Calibrated(
        fits=made.fits,
        refused=made.refused,
        written=(*written, *made.written),
        doubts=tuple(doubts),
        memory=memory_speeds(campaign.chosen().fitted),
        host_link=host_link,
        left_out=tuple(left_out),
    )


def _kept(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _describe(machine: Machine, campaign: Campaign, folder: Path) -> list[Path]:
    """Write a hardware file with the best rates of the campaign, and a link file where ranks talked."""
    peaks: dict[str, float] = {}
    bandwidth = bus = 0.0
    rows = campaign.rows()
    for row in rows:
        bus = max(bus, bus_bytes_per_s(row))
        if row["op"] == "gemm" and float(row["m"]) >= _MANY_ROWS:
            m, n, k = (float(row[key]) for key in ("m", "n", "k"))
            rate = 2.0 * m * n * k / (float(row["latency_us"]) * 1e-6)
            peaks[row["dtype"]] = max(peaks.get(row["dtype"], 0.0), rate)
        if row["op"] == "gemm":
            weights = float(row["n"]) * float(row["k"]) * format_named(row["dtype"]).bits / 8.0
            bandwidth = max(bandwidth, weights / (float(row["latency_us"]) * 1e-6))
    # The operands of small passes are many, and no cache holds them together either.
    bandwidth = max(bandwidth, *(one.bytes_per_s for one in memory_speeds(rows)), 0.0)
    if not peaks or bandwidth <= 0.0:
        raise InvalidSpecError(
            "no ceiling is known yet: no large product or no read beyond the caches was measured; "
            "give the budget some more minutes"
        )
    hardware = folder / "hardware"
    linked = f"{THIS_MACHINE}_peer_link" if bus > 0.0 else ""
    text = device_file(
        machine, name=THIS_MACHINE, peaks_flops_per_s=peaks, bytes_per_s=bandwidth, peer_link=linked
    )
    written = [_kept(hardware / "cpus" / f"{THIS_MACHINE}.toml", text)]
    if linked:
        written.append(_kept(hardware / "links" / f"{linked}.toml", peer_link_file(bus)))
    return written


def _with_host(path: Path, machine: Machine, campaign: Campaign) -> None:
    """Put this machine's host times into a profile that was just written."""
    runtime = validated(Runtime, read_toml(path), path.name)
    beside: Any = "sum" if machine.kind == "cpu" else "max"
    idle = replace(runtime, host=HostTime(composition={"decode": beside, "prefill": "sum"}))
    path.write_text(profile_text(idle), encoding="utf-8")
    times = host_times(campaign.folder / HOST_TABLE, machine, campaign.device, path.stem)
    measured: dict[str, Any] = {name: rounded(value) for name, value in times.items()}
    host = replace(
        idle.host,
        **measured,
        basis="measured",
        points=len(times),
        source="own measurement: decoders too small to keep the device busy",
    )
    path.write_text(profile_text(replace(idle, host=host)), encoding="utf-8")


def calibrate_storage(
    stored: Path, folder: Path, *, device: str, seconds: float, told: Told = lambda done, total, what: None
) -> CalibratedStorage:
    """Measure the storage that holds a folder within a budget, and write its file for a device.

    Parameters
    ----------
    stored : Path
        Folder on the storage in question.
    folder : Path
        Gets ``campaigns/<device>/storage.csv`` and ``hardware/storage/<device>_storage.toml``, which
        `roofline.catalog.hardware.load_system` takes in place of what the device file names.

    Raises
    ------
    InvalidSpecError
        If the folder cannot be written or has no direct reads.
    """
    import shutil

    table = folder / "campaigns" / device / "storage.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    budget, doubts = Budget(seconds=seconds), []
    with storage_tasks(stored, table) as tasks:
        outcomes = [*run(tasks, budget, told)]
    failed = [reason for reason in outcomes if reason]
    left = len(tasks) - len(outcomes)
    speeds = storage_speeds(table, stored)
    if not speeds and failed:
        raise InvalidSpecError(failed[0])
    doubts += failed
    if left:
        doubts.append(f"{left} of {len(tasks)} measurements are left; the same command goes on")
    name = f"Storage of {device}, measured"
    written = [table]
    try:
        fit = fit_storage(speeds, name=name, capacity_bytes=float(shutil.disk_usage(stored).total))
    except InvalidSpecError as error:
        return CalibratedStorage(
            device=device,
            speeds=speeds,
            fit=None,
            left=left,
            written=tuple(written),
            doubts=(*doubts, str(error)),
        )
    path = folder / "hardware" / "storage" / f"{device}_storage.toml"
    written.append(_kept(path, storage_file(fit, folder=stored)))
    return CalibratedStorage(
        device=device,
        speeds=speeds,
        fit=fit,
        left=left,
        written=tuple(written),
        doubts=tuple(doubts),
    )
