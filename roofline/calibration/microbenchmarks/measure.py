"""One run of measurements within a budget: tasks in turn, probes beside them, what to doubt."""

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from roofline.calibration.microbenchmarks.campaign import Campaign, Point, Probe
from roofline.calibration.microbenchmarks.designed_points import designed_points
from roofline.calibration.microbenchmarks.kernel_bench import KernelBench
from roofline.calibration.microbenchmarks.machine import Machine, busy_fraction
from roofline.errors import InvalidSpecError

__all__ = ["Budget", "Measured", "Task", "Told", "kernel_tasks", "measure", "refuse_busy", "run"]

#: Told what is about to be measured: how many are done, how many there are, and what it is.
Told = Callable[[int, int, str], None]

#: Changes of the probes between start and end beyond that are told.
_DRIFT: Final = 0.05
_BUSY: Final = 0.5
_MANY_SLOWED: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Time until which something new may be begun."""

    seconds: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """What is left [s]; below 0 when it is over."""
        return self.seconds - (time.monotonic() - self.began)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to measure, which writes down what it found by itself."""

    label: str
    run: Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run of measurements left.

    Parameters
    ----------
    left : int
        Tasks that the budget cut off.
    doubts : tuple of str
        What speaks against the measurements.
    failed : tuple of str
        Tasks this machine could not do, and why.
    launch_s : mapping of str to float
        The host's time for one small kernel [s], ``eager`` and in a ``graph``.
    """

    left: int
    doubts: tuple[str, ...]
    launch_s: Mapping[str, float]
    failed: tuple[str, ...] = ()


def refuse_busy(machine: Machine, even_if_busy: bool) -> float:
    """Return the share of the processors that others use.

    Raises
    ------
    InvalidSpecError
        If that is more than half, where the processor is what is measured and nobody insists.
    """
    busy = busy_fraction()
    if machine.kind == "cpu" and busy > _BUSY and not even_if_busy:
        raise InvalidSpecError(
            f"others use {busy:.0%} of this machine's processors: wait, or say --busy and get wide intervals"
        )
    return busy


def kernel_tasks(bench: KernelBench, campaign: Campaign, formats: tuple[str, ...]) -> list[Task]:
    """Return what is missing of the designed points, or was measured while others slowed the machine."""
    done = campaign.done()

    def measured(point: Point) -> None:
        before = bench.probe()
        kernel, times_s = bench.time(point)
        after = bench.probe()
        worse = Probe(
            product_s=max(before.product_s, after.product_s), read_s=max(before.read_s, after.read_s)
        )
        campaign.append(point, kernel=kernel, times_s=times_s, probe=worse)

    def task(point: Point) -> Task:
        return Task(label=point.label, run=lambda: measured(point))

    return [task(point) for point in designed_points(bench.machine, formats) if point.key not in done]


def run(tasks: Sequence[Task], budget: Budget, told: Told) -> Iterator[str]:
    """Run tasks in turn until they or the budget end, and yield after each why it failed, or nothing.

    A task that was begun is finished, so a run may be longer than its budget by one task.
    """
    for number, task in enumerate(tasks):
        if budget.left_s <= 0.0:
            return
        told(number, len(tasks), task.label)
        try:
            task.run()
        except (InvalidSpecError, RuntimeError) as error:
            yield f"{task.label}: {(str(error) or type(error).__name__).splitlines()[0]}"
        else:
            yield ""


def measure(
    bench: KernelBench,
    campaign: Campaign,
    tasks: Sequence[Task],
    *,
    budget: Budget,
    busy: float,
    told: Told = lambda done, total, what: None,
) -> Measured:
    """Run tasks in turn until they or the budget end, and note the run in the campaign.

    Parameters
    ----------
    busy : float
        Share of the processors that others used before, 0..1.

    Notes
    -----
    An interrupt ends it within a task, and the note is written all the same.
    """
    before = bench.probe()
    failed: list[str] = []
    ran = 0
    interrupted = True
    try:
        for reason in run(tasks, budget, told):
            ran += 1
            failed += [reason] if reason else []
        interrupted = False
    finally:
        after, launch_s = bench.probe(), bench.launch_s()
        doubts = _doubts(campaign, (before.product_s, before.read_s), (after.product_s, after.read_s), busy)
        campaign.note(
            {
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": " ".join(sys.argv),
                "machine": bench.machine.title,
                "engine": bench.machine.kind,
                "software": bench.machine.software,
                "python": platform.python_version(),
                "system": platform.platform(),
                "threads": bench.torch.get_num_threads(),
                "tasks_done": ran,
                "tasks_left": len(tasks) - ran,
                "interrupted": interrupted,
                "probe_before_s": vars(before),
                "probe_after_s": vars(after),
                "busy_fraction": busy,
                "launch_s": launch_s,
                "failed": failed,
                "doubts": doubts,
            }
        )
    return Measured(left=len(tasks) - ran, doubts=tuple(doubts), failed=tuple(failed), launch_s=launch_s)


def _doubts(
    campaign: Campaign, before: tuple[float, float], after: tuple[float, float], busy: float
) -> list[str]:
    doubts = []
    for what, first, last in zip(("products", "memory"), before, after, strict=True):
        drift = last / first - 1.0
        if abs(drift) > _DRIFT:
            doubts.append(f"the time of one fixed pass ({what}) changed by {drift:+.0%} from start to end")
    if busy > _BUSY / 2:
        doubts.append(f"others used {busy:.0%} of the processors before the start")
    chosen = campaign.chosen()
    points, slowed = len(chosen.undisturbed) + len(chosen.slowed), len(chosen.slowed)
    if slowed > _MANY_SLOWED * max(points, 1):
        used = "fitted all the same" if len(chosen.fitted) == points else "left out"
        doubts.append(
            f"{slowed} of {points} points were measured while something slowed the machine by more than "
            f"30 %, and are {used}; the same command measures them again"
        )
    return doubts
