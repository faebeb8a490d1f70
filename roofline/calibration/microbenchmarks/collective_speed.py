"""Times of collectives over the devices of this machine, or over processes where asked for."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from roofline.calibration.microbenchmarks.campaign import Campaign, Point
from roofline.calibration.microbenchmarks.machine import Machine, import_torch
from roofline.calibration.microbenchmarks.measure import Budget, Task, Told
from roofline.errors import InvalidSpecError

__all__ = ["bus_bytes_per_s", "collective_points", "collective_tasks"]

#: Collectives and how often their message goes around a ring of r ranks, times (r - 1) / r: nccl-tests'
#: bus bandwidth.
_ROUNDS: Final = {"allreduce": 2.0, "allgather": 1.0, "reducescatter": 1.0}
#: Messages go by fours from 1 KiB to 16 MiB between processes, to 256 MiB between devices.
_STEPS: Final = {"gloo": 8, "nccl": 10}
#: Gloo scatters nothing.
_OPS: Final = {"gloo": ("allreduce", "allgather"), "nccl": ("allreduce", "allgather", "reducescatter")}
_REPEATS: Final = 9
_WARM_UP: Final = 2
_TIMEOUT: Final = timedelta(seconds=60)
_LOOK_EVERY_S: Final = 0.2


def collective_points(backend: str, ranks: int) -> tuple[Point, ...]:
    """Return the messages to measure with ``nccl`` or ``gloo``.

    A message is counted as nccl-tests does: an all-gather's is the whole result, a reduce-scatter's
    the whole input.
    """
    return tuple(
        Point(op=op, dtype="bf16", shape={"world": ranks, "bytes": 1024 * 4**step})
        for step in range(_STEPS[backend])
        for op in _OPS[backend]
    )


def bus_bytes_per_s(row: Mapping[str, str]) -> float:
    """Return what each rank of a measured row sent per time [B/s]; 0 for rows of other operators."""
    if row["op"] not in _ROUNDS:
        return 0.0
    ranks = float(row["world"])
    sent = _ROUNDS[row["op"]] * float(row["bytes"]) * (ranks - 1.0) / ranks
    return sent / (float(row["latency_us"]) * 1e-6)


def collective_tasks(
    machine: Machine,
    campaign: Campaign,
    *,
    ranks: int,
    budget: Budget,
    told: Told = lambda done, total, what: None,
    points: Sequence[Point] | None = None,
) -> list[Task]:
    """Return one task that times what a campaign lacks of the collectives: nccl on CUDA, else gloo.

    Parameters
    ----------
    ranks : int
        One process each, and on CUDA one device, >= 2.
    points : sequence of Point, optional
        Messages to measure; the designed ones where None.

    Raises
    ------
    InvalidSpecError
        If there are fewer than two ranks.

    Notes
    -----
    Calls are timed one by one and without a graph, so small messages hold the host's launch. Gloo talks
    over the loopback: that shows how processes of one machine talk, not a network.
    """
    if ranks < 2:
        raise InvalidSpecError(f"collectives: want at least 2 ranks, got {ranks}")
    backend = "nccl" if machine.kind == "cuda" else "gloo"
    done = campaign.done()
    wanted = collective_points(backend, ranks) if points is None else points
    asked = [point for point in wanted if point.key not in done]
    if not asked:
        return []
    label = f"collectives of {ranks} ranks over {backend}"
    return [Task(label=label, run=lambda: _spawned(backend, ranks, campaign, asked, budget, told))]


def _spawned(
    backend: str, ranks: int, campaign: Campaign, asked: list[Point], budget: Budget, told: Told
) -> None:
    """Run the ranks until they or the budget end; the first rank writes each message down at once."""
    torch = import_torch()
    before = len(campaign.rows())
    with TemporaryDirectory() as scratch:
        running = torch.multiprocessing.spawn(
            _rank, (ranks, backend, scratch, campaign, asked), nprocs=ranks, join=False
        )
        try:
            while not running.join(timeout=_LOOK_EVERY_S):
                count = len(campaign.rows()) - before
                told(count, len(asked), asked[min(count, len(asked) - 1)].label)
                if budget.left_s <= 0.0:
                    return
        except Exception as error:  # a rank's own error arrives as text
            reason = str(error).strip().splitlines()[-1]
            raise InvalidSpecError(f"{backend} failed: {reason}") from error
        finally:
            for process in running.processes:
                process.terminate()


def _rank(rank: int, ranks: int, backend: str, scratch: str, campaign: Campaign, asked: list[Point]) -> None:
    """Run every message on one rank."""
    torch = import_torch()
    if backend == "gloo":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(rank)
    torch.distributed.init_process_group(
        backend,
        init_method=f"file://{Path(scratch).as_posix()}/ranks",
        rank=rank,
        world_size=ranks,
        timeout=_TIMEOUT,
    )
    try:
        for point in asked:
            times_s = message_times(torch, "cuda" if backend == "nccl" else "cpu", point)
            if rank == 0:
                campaign.append(point, kernel=backend, times_s=times_s)
    finally:
        torch.distributed.destroy_process_group()


def message_times(torch: Any, where: str, point: Point) -> list[float]:
    """Return times of one collective among the ranks of this process's group [s]."""
    ranks, together = point.shape["world"], torch.distributed
    whole = torch.zeros(point.shape["bytes"] // 2 // ranks * ranks, dtype=torch.bfloat16, device=where)
    own = whole.chunk(ranks)[0].clone()
    calls: dict[str, Callable[[], Any]] = {
        "allreduce": lambda: together.all_reduce(whole),
        "allgather": lambda: together.all_gather(list(whole.chunk(ranks)), own),
        "reducescatter": lambda: together.reduce_scatter_tensor(own, whole),
    }
    times = []
    for turn in range(_REPEATS + _WARM_UP):
        together.barrier()
        if where == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        calls[point.op]()
        if where == "cuda":
            torch.cuda.synchronize()
        if turn >= _WARM_UP:
            times.append(time.perf_counter() - start)
    return times
