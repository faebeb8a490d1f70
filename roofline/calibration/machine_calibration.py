"""A campaign of kernels, host time and links on this machine, made into profiles of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from roofline.calibration.fits.fitting import rounded
from roofline.calibration.fits.profile_files import profile_text
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
from roofline.calibration.microbenchmarks.machine import (
    THIS_MACHINE,
    Machine,
    device_file,
    import_torch,
    machine_name,
)
from roofline.calibration.microbenchmarks.measure import (
    Budget,
    Task,
    Told,
    kernel_tasks,
    measure,
    refuse_busy,
)
from roofline.calibration.microbenchmarks.memory_speed import memory_speeds
from roofline.calibration.table_calibration import Calibrated, calibrate_table
from roofline.catalog.files import read_toml
from roofline.catalog.sourced import validated
from roofline.catalog.user_folder import write_own
from roofline.errors import InvalidSpecError, MissingDependencyError
from roofline.graph.formats import format_named
from roofline.timing.runtime import HostTime, Runtime

__all__ = ["calibrate_machine"]

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
            written.append(write_own(folder / "hardware" / "links" / f"{name}_host_link.toml", text))
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
    written = [write_own(hardware / "cpus" / f"{THIS_MACHINE}.toml", text)]
    if linked:
        written.append(write_own(hardware / "links" / f"{linked}.toml", peer_link_file(bus)))
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
