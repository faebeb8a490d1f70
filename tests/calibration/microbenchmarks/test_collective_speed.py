from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.microbenchmarks.campaign import Campaign, Point
from roofline.calibration.microbenchmarks.collective_speed import (
    bus_bytes_per_s,
    collective_points,
    collective_tasks,
)
from roofline.calibration.microbenchmarks.machine import Machine
from roofline.calibration.microbenchmarks.measure import Budget
from roofline.calibration.table_calibration import calibrate_table
from roofline.errors import InvalidSpecError

pytest.importorskip("pandas")
pytest.importorskip("scipy")

_MACHINE = Machine(
    kind="cpu", title="x", device=None, cores=1, cache_bytes=0.0, memory_bytes=2**30, software="pytorch 9.9",
)  # fmt: skip


def test_messages_go_round_the_ring_as_nccl_tests_counts_them() -> None:
    # An all-reduce of 1 MB among 4 ranks sends 2 x 3/4 MB per rank; an all-gather half of that.
    row = {"world": "4", "bytes": "1000000", "latency_us": "1000"}

    np.testing.assert_allclose(bus_bytes_per_s({"op": "allreduce", **row}), 1.5e9, rtol=1e-12)
    np.testing.assert_allclose(bus_bytes_per_s({"op": "allgather", **row}), 0.75e9, rtol=1e-12)
    assert bus_bytes_per_s({"op": "gemm"}) == 0.0


def test_slow_messages_through_the_host_are_fitted_too(tmp_path: Path) -> None:
    """150 us and 0.5 GB/s: 300 times what a link between devices takes for a small message."""
    campaign = Campaign(folder=tmp_path / "campaign", device="rtx-4090")
    campaign.start(_MACHINE)
    for point in collective_points("gloo", 2):
        sent = point.shape["bytes"] * (1.0 if point.op == "allreduce" else 0.5)
        campaign.append(point, kernel="gloo", times_s=[150e-6 + sent / 0.5e9] * 5)
    made = calibrate_table(campaign.table, tmp_path)

    assert {fit.kind for fit in made.fits} == {"all_reduce", "all_gather"}
    assert made.refused == ()
    assert max(fit.after for fit in made.fits) < 0.1


def test_two_processes_are_measured_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    campaign = Campaign(folder=tmp_path, device="box")
    campaign.start(_MACHINE)
    points = collective_points("gloo", 2)[:4]
    campaign.append(points[0], kernel="gloo", times_s=[1e-3])

    def tasks() -> list[str]:
        made = collective_tasks(_MACHINE, campaign, ranks=2, budget=Budget(seconds=60.0), points=points)
        for task in made:
            task.run()
        return [task.label for task in made]

    assert tasks() == ["collectives of 2 ranks over gloo"]
    assert campaign.done() == {point.key for point in points}
    assert [row["kernel"] for row in campaign.rows()] == ["gloo"] * 4
    assert tasks() == []


def test_one_rank_talks_to_nobody(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="at least 2 ranks, got 1"):
        collective_tasks(
            _MACHINE, Campaign(folder=tmp_path, device="box"), ranks=1, budget=Budget(seconds=1.0)
        )


def test_an_unknown_collective_has_no_call() -> None:
    torch = pytest.importorskip("torch")
    from roofline.calibration.microbenchmarks.collective_speed import message_times

    with pytest.raises(ValueError, match="process group"):
        message_times(torch, "cpu", Point(op="allreduce", dtype="bf16", shape={"world": 2, "bytes": 16}))
