"""Print how fast the tool is on this machine: ``python benchmarks/speed.py [--quick]``.

Cold start of the command line by the clock and by processor time, one analysis, points per second of
a decode sweep with and without a runtime profile, and how many times that is a loop over single
points. Best of several runs, one thread; other load on the machine shows in the numbers, so compare
ratios between machines.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from roofline import Scenario, make_scenario
from roofline.analysis import analyze
from roofline.studies import sweep as sweeps
from roofline.studies.sweep import sweep, sweep_blocks


def best_s(work: Callable[[], object], runs: int) -> float:
    """Return the shortest of several runs after one that warms up [s]."""
    work()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def cold_start_s(runs: int) -> tuple[float, float]:
    """Return wall and processor time of a whole process that analyzes one point [s].

    Notes
    -----
    Of compiled modules, as an installation leaves them; compiling them again takes 0.3 of it more.
    """
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "roofline", "analyze", "llama-3.1-8b", "h100-sxm"]
    spent = []

    def once() -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    return best_s(once, runs), min(spent)


def points_per_s(scenario: Scenario, side: int, runs: int, *, intervals: bool) -> float:
    """Return points per second of a table over `side` x `side` batches and contexts."""
    axes = {"batch": np.arange(1.0, side + 1.0), "context": np.arange(1000.0, 1000.0 + side)}
    seconds = best_s(lambda: sweep(scenario, axes, phases="decode", intervals=intervals), runs)
    return side * side / seconds


def peak_bytes(scenario: Scenario) -> int:
    """Return the traced peak of a million points in blocks [B]."""
    axes = {"batch": np.arange(1.0, 1001.0), "context": np.arange(1000.0, 2000.0)}
    tracemalloc.start()
    for _ in sweep_blocks(scenario, axes, phases="decode"):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer points and runs")
    quick = parser.parse_args().quick
    runs, side = (2, 256) if quick else (7, 1024)
    plain = make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet")
    fitted = make_scenario("llama-3.1-8b", "h100-sxm")
    wall_s, processor_s = cold_start_s(runs)
    print(f"cold start, whole process          {1e3 * wall_s:8.0f} ms")
    print(f"cold start, processor time         {1e3 * processor_s:8.0f} ms")
    for name, scenario in (("datasheet", plain), (fitted.deployment.runtime.software, fitted)):
        fixed = scenario.replace_at("workload.context_tokens", 4096.0)
        point = best_s(lambda fixed=fixed: analyze(fixed), 10 * runs)
        bare = best_s(lambda fixed=fixed: analyze(fixed, intervals=False, keep_rows=False), 10 * runs)
        print(f"one analysis, {name:20s} {1e3 * point:8.2f} ms")
        for intervals in (False, True):
            rate = points_per_s(scenario, side, runs, intervals=intervals)
            bands = "with" if intervals else "without"
            print(
                f"decode sweep, {name}, {bands} intervals: {rate / 1e6:.2f} M points/s, "
                f"{rate * bare:.0f} x a loop"
            )
    for points in (8_192, 16_384, 32_768, 65_536):
        sweeps.POINTS = points
        rate = points_per_s(plain, side, runs, intervals=False)
        print(f"decode sweep, {points:6d} points at once: {rate / 1e6:.2f} M points/s")
    sweeps.POINTS = 32_768
    print(f"peak of a million points           {peak_bytes(plain) / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
