"""Rates of this machine's storage, made into the storage file of a device."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from roofline.calibration.microbenchmarks.measure import Budget, Told, run
from roofline.calibration.microbenchmarks.storage_speed import (
    StorageFit,
    StorageSpeed,
    fit_storage,
    storage_file,
    storage_speeds,
    storage_tasks,
)
from roofline.catalog.user_folder import write_own
from roofline.errors import InvalidSpecError

__all__ = ["CalibratedStorage", "calibrate_storage"]


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
    fit, written = None, [table]
    try:
        fit = fit_storage(speeds, name=name, capacity_bytes=float(shutil.disk_usage(stored).total))
    except InvalidSpecError as error:
        doubts.append(str(error))
    else:
        path = folder / "hardware" / "storage" / f"{device}_storage.toml"
        written.append(write_own(path, storage_file(fit, folder=stored)))
    return CalibratedStorage(
        device=device,
        speeds=speeds,
        fit=fit,
        left=left,
        written=tuple(written),
        doubts=tuple(doubts),
    )
