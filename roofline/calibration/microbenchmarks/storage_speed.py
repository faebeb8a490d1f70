"""Storage by block size, order and queue depth: read by fio where installed, else O_DIRECT, and fitted."""

import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from roofline.calibration.microbenchmarks.campaign import appended, raw_rows
from roofline.calibration.microbenchmarks.measure import Task
from roofline.calibration.microbenchmarks.measured_figures import measured_figure, measured_source
from roofline.errors import InvalidSpecError, optional
from roofline.hardware.storage import Storage

__all__ = ["StorageFit", "StorageSpeed", "fit_storage", "storage_file", "storage_speeds", "storage_tasks"]

_BLOCKS: Final = (4096, 16384, 65536, 262144, 1048576)
_DEPTHS: Final = (1, 4, 16)
_ORDERS: Final = ("random", "sequential")
_SECONDS: Final = 1.0
_SCRATCH_BYTES: Final = 2**28
_FEWEST_BLOCKS: Final = 3


@dataclass(frozen=True, kw_only=True)
class StorageSpeed:
    """One measured rate.

    Parameters
    ----------
    order : {"random", "sequential", "write"}
        Of reads; ``write`` is the scratch file written in order and synced.
    method : {"fio", "O_DIRECT", "fsync"}
    """

    order: str
    block_bytes: int
    queue_depth: int
    bytes_per_s: float
    method: str


@dataclass(frozen=True, kw_only=True)
class StorageFit:
    """`Storage` as its random reads show it.

    Parameters
    ----------
    error : float
        Median absolute relative error on the random reads it was fitted to.
    sequential_error : float
        The same on the reads in order, which were not.
    """

    storage: Storage
    error: float
    sequential_error: float
    points: int
    methods: tuple[str, ...]


@contextmanager
def storage_tasks(
    folder: Path, path: Path, *, size_bytes: int = _SCRATCH_BYTES, seconds: float = _SECONDS
) -> Iterator[list[Task]]:
    """Give what a raw table lacks of a folder's rates; the scratch file is removed at the end.

    Parameters
    ----------
    folder : Path
        A scratch file of `size_bytes` is made in it; reads go past the page cache.
    path : Path
        The raw table; rates of other folders stay in it.
    seconds : float
        Time for each of the 30 points [s].

    Raises
    ------
    InvalidSpecError
        If the folder cannot be written.
    """
    folder = folder.resolve()
    scratch = folder / "roofline_storage.tmp"
    done = {(one.order, one.block_bytes, one.queue_depth) for one in storage_speeds(path, folder)}

    def keep(speed: StorageSpeed) -> None:
        appended(path, {"folder": str(folder), **vars(speed), "date": date.today().isoformat()})

    def write() -> None:
        keep(_written(scratch, size_bytes))

    def read(order: str, block: int, depth: int) -> None:
        if not scratch.exists():
            _written(scratch, size_bytes)
        reader = _with_fio if shutil.which("fio") else _directly
        try:
            keep(reader(scratch, order, block, depth, size_bytes, seconds))
        except OSError as error:
            raise InvalidSpecError(f"{folder}: no direct reads there ({error.strerror})") from error

    def task(order: str, block: int, depth: int) -> Task:
        label = f"storage, {order} reads of {block} B, {depth} at once"
        return Task(label=label, run=lambda: read(order, block, depth))

    if not os.access(folder, os.W_OK):
        raise InvalidSpecError(f"{folder}: storage cannot be measured there (no folder that can be written)")
    tasks = [] if any(order == "write" for order, _, _ in done) else [Task(label="storage, write", run=write)]
    # Deep and large first: a budget then cuts what tells the curve least.
    tasks += [
        task(order, block, depth)
        for depth in sorted(_DEPTHS, reverse=True)
        for order in _ORDERS
        for block in sorted(_BLOCKS, reverse=True)
        if (order, block, depth) not in done
    ]
    try:
        yield tasks
    finally:
        scratch.unlink(missing_ok=True)


def storage_speeds(path: Path, folder: Path) -> tuple[StorageSpeed, ...]:
    """Return the rates of one folder in a raw table."""
    return tuple(
        StorageSpeed(
            order=row["order"],
            block_bytes=int(row["block_bytes"]),
            queue_depth=int(row["queue_depth"]),
            bytes_per_s=float(row["bytes_per_s"]),
            method=row["method"],
        )
        for row in raw_rows(path)
        if row["folder"] == str(folder.resolve())
    )


def fit_storage(speeds: Iterable[StorageSpeed], *, name: str, capacity_bytes: float) -> StorageFit:
    """Return the bandwidth, request time and useful queue depth that describe measured rates.

    Parameters
    ----------
    speeds : iterable of StorageSpeed
        Random reads are fitted, reads in order are compared; the write rate is taken as it is.

    Raises
    ------
    InvalidSpecError
        If random reads of fewer than three block sizes, or no write, were measured.

    Notes
    -----
    Least squares of the logarithms of `Storage.read_rate`, for every queue depth that was measured as
    the last that helps.
    """
    with optional("a fit", extra="calibrate"):
        from scipy.optimize import least_squares
    measured = tuple(speeds)
    random_reads = [one for one in measured if one.order == "random"]
    written = [one.bytes_per_s for one in measured if one.order == "write"]
    blocks = {one.block_bytes for one in random_reads}
    if len(blocks) < _FEWEST_BLOCKS or not written:
        raise InvalidSpecError(
            f"storage: random reads of {len(blocks)} block sizes and {len(written)} writes were measured; "
            f"want {_FEWEST_BLOCKS} and 1: give it more minutes"
        )

    def described(point: np.ndarray, depth: float) -> Storage:
        return Storage(
            name=name,
            read_bandwidth_bytes_per_s=float(np.exp(point[0])),
            read_latency_s=float(np.exp(point[1])),
            queue_depth=depth,
            write_bandwidth_bytes_per_s=written[-1],
            capacity_bytes=capacity_bytes,
        )

    def misses(point: np.ndarray, depth: float, reads: list[StorageSpeed]) -> np.ndarray:
        storage = described(point, depth)
        predicted = storage.read_rate(
            access_bytes=np.array([float(one.block_bytes) for one in reads]),
            queue_depth=np.array([float(one.queue_depth) for one in reads]),
        )
        return np.asarray(np.log(predicted / np.array([one.bytes_per_s for one in reads])))

    best = max(one.bytes_per_s for one in random_reads)
    slowest = max(one.block_bytes / one.bytes_per_s for one in random_reads if one.block_bytes == min(blocks))
    start = np.log([best, slowest])
    depths = sorted({float(one.queue_depth) for one in random_reads})
    fits = [
        (least_squares(misses, start, args=(depth, random_reads), loss="soft_l1", f_scale=0.2), depth)
        for depth in depths
    ]
    found, depth = min(fits, key=lambda made: float(made[0].cost))
    in_order = [one for one in measured if one.order == "sequential"]

    def error(reads: list[StorageSpeed]) -> float:
        return float(np.median(np.abs(np.expm1(misses(found.x, depth, reads))))) if reads else float("nan")

    return StorageFit(
        storage=described(found.x, depth),
        error=error(random_reads),
        sequential_error=error(in_order),
        points=len(random_reads),
        methods=tuple(sorted({one.method for one in measured})),
    )


def storage_file(fit: StorageFit, *, folder: Path) -> str:
    """Return a storage file of the catalogue with the figures of a fit and where they are from."""
    storage = fit.storage
    reads = " and ".join(method for method in fit.methods if method != "fsync")
    made = (
        f"random reads past the page cache by {reads}, {fit.points} points, median error {fit.error:.0%}; "
        f"reads in order, not fitted, {fit.sequential_error:.0%}"
    )
    synced, where = "one file written in order and synced", f"file system of {folder.resolve()}"
    return f"""name = {json.dumps(storage.name)}
read_bandwidth = {measured_figure(float(storage.read_bandwidth_bytes_per_s) / 1e6, "MB/s", note=made)}
write_bandwidth = {measured_figure(float(storage.write_bandwidth_bytes_per_s) / 1e6, "MB/s", note=synced)}
read_latency = {measured_figure(float(storage.read_latency_s) * 1e6, "us", note=made)}
queue_depth = {measured_figure(f"{storage.queue_depth:g}", note="deepest measured queue that still helped")}
capacity = {measured_figure(float(storage.capacity_bytes) / 1e9, "GB", note=where)}

{measured_source("roofline calibrate --storage")}"""


def _written(scratch: Path, size_bytes: int) -> StorageSpeed:
    """Write a scratch file and return the rate, synced."""
    part = os.urandom(2**20)
    began = time.monotonic()
    try:
        with scratch.open("wb") as stream:
            for _ in range(size_bytes // 2**20):
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise InvalidSpecError(
            f"{scratch.parent}: storage cannot be measured there ({error.strerror})"
        ) from error
    rate = size_bytes / (time.monotonic() - began)
    return StorageSpeed(order="write", block_bytes=2**20, queue_depth=1, bytes_per_s=rate, method="fsync")


def _with_fio(
    scratch: Path, order: str, block: int, depth: int, size_bytes: int, seconds: float
) -> StorageSpeed:
    engine = "libaio" if sys.platform.startswith("linux") else "posixaio"
    command = [
        "fio", "--name=roofline", f"--filename={scratch}", "--readonly", "--direct=1", "--output-format=json",
        f"--rw={'randread' if order == 'random' else 'read'}", f"--bs={block}", f"--iodepth={depth}",
        f"--ioengine={engine}", f"--size={size_bytes}", "--time_based", f"--runtime={seconds * 1e3:.0f}ms",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        rate = float(_json_of(done.stdout)["jobs"][0]["read"]["bw_bytes"])
    except (ValueError, KeyError, IndexError):
        reason = " ".join(done.stderr.strip().splitlines()[-1:]) or f"exit status {done.returncode}"
        raise InvalidSpecError(f"fio failed: {reason}") from None
    return StorageSpeed(order=order, block_bytes=block, queue_depth=depth, bytes_per_s=rate, method="fio")


def _json_of(text: str) -> Mapping[str, list[dict[str, dict[str, float]]]]:
    """Return the JSON of fio's output, which warnings may come before."""
    found: Mapping[str, list[dict[str, dict[str, float]]]] = json.loads(text[text.index("{") :])
    return found


def _directly(
    scratch: Path, order: str, block: int, depth: int, size_bytes: int, seconds: float
) -> StorageSpeed:
    """Read with one thread per place in the queue, past the page cache."""
    if not hasattr(os, "O_DIRECT"):
        raise InvalidSpecError("this system has no O_DIRECT: install fio")
    blocks = size_bytes // block
    handle = os.open(scratch, os.O_RDONLY | os.O_DIRECT)

    def reader(place: int) -> int:
        chosen = random.Random(place)
        buffer = mmap.mmap(-1, block)  # page-aligned, as direct reads want
        position, count, end = place * blocks // depth, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            position = chosen.randrange(blocks) if order == "random" else (position + 1) % blocks
            os.preadv(handle, [buffer], position * block)
            count += block
        return count

    try:
        start = time.monotonic()
        with ThreadPoolExecutor(depth) as pool:
            total = sum(pool.map(reader, range(depth)))
        rate = total / (time.monotonic() - start)
    finally:
        os.close(handle)
    return StorageSpeed(
        order=order, block_bytes=block, queue_depth=depth, bytes_per_s=rate, method="O_DIRECT"
    )
