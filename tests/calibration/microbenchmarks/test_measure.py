import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.microbenchmarks.campaign import Campaign, Point, Probe
from roofline.calibration.microbenchmarks.designed_points import designed_points
from roofline.calibration.microbenchmarks.kernel_bench import KernelBench
from roofline.calibration.microbenchmarks.machine import Machine, device_file
from roofline.calibration.microbenchmarks.measure import Budget, Task, kernel_tasks, measure, refuse_busy
from roofline.errors import InvalidSpecError

_MACHINE = Machine(
    kind="cpu", title='Some "Fast" CPU', device=None, cores=4, cache_bytes=2**25, memory_bytes=2**35,
    software="pytorch 2.0",
)  # fmt: skip


_FORMATS = ("bf16", "fp32")


def test_ceilings_come_first_and_every_kind_early_so_that_a_budget_cuts_none_off() -> None:
    points = designed_points(_MACHINE, _FORMATS)

    assert [(point.op, point.dtype) for point in points[:4]] == [
        ("gemm", "bf16"),
        ("gemm", "fp32"),
        ("copy", "bf16"),
        ("read", "bf16"),
    ]
    assert points[0].shape["m"] >= 256
    assert {point.op for point in points[:16]} == {
        "gemm", "attention_decode", "attention_prefill", "norm", "copy", "read",
    }  # fmt: skip


def test_there_are_as_many_points_as_promised() -> None:
    points = designed_points(_MACHINE, _FORMATS)

    assert len([p for p in points if p.dtype == "bf16" and p.op == "gemm"]) >= 15
    assert 30 <= len([p for p in points if p.op == "attention_decode"]) <= 60


def test_copies_and_reads_go_from_a_mebibyte_to_beyond_the_caches() -> None:
    sizes = [2 * point.shape["m"] * point.shape["n"] for point in designed_points(_MACHINE, _FORMATS)
             if point.op == "read"]  # fmt: skip

    # 32 MiB of cache: 1, 4, 16, 64 and 256 MiB; the largest is a ceiling, so it comes first.
    assert sorted(sizes) == [2**20 * 4**step for step in range(5)]


def test_no_point_is_designed_twice() -> None:
    points = designed_points(_MACHINE, _FORMATS)

    assert len({point.key for point in points}) == len(points)


def test_a_campaign_knows_what_it_has_and_drops_a_torn_line(tmp_path: Path) -> None:
    campaign = Campaign(folder=tmp_path, device="box")
    first, second = designed_points(_MACHINE, _FORMATS)[:2]
    campaign.start(_MACHINE)
    campaign.append(first, kernel="linear", times_s=[3e-6, 1e-6, 2e-6])
    with campaign.table.open("a") as stream:
        stream.write("box,gemm,bf16,,1,40")

    assert campaign.done() == {first.key}
    campaign.start(_MACHINE)
    campaign.append(second, kernel="linear", times_s=[1e-6])
    assert campaign.done() == {first.key, second.key}


def test_a_machine_without_a_file_gets_one_that_loads(tmp_path: Path) -> None:
    from roofline.catalog.hardware import load_device

    text = device_file(_MACHINE, name="box", peaks_flops_per_s={"bf16": 1e11}, bytes_per_s=1e10)
    path = tmp_path / "box.toml"
    path.write_text(text)
    device = load_device(str(path)).value

    peak = device.engine["cpu"].peak_flops_per_s["bf16"]["fp32"]
    np.testing.assert_allclose(peak, 1.05e11, rtol=1e-4)
    np.testing.assert_allclose(device.memory["ddr"].bandwidth_bytes_per_s, 1.05e10, rtol=1e-4)


_ONE = Machine(
    kind="cpu", title="x", device=None, cores=1, cache_bytes=0.0, memory_bytes=2**30, software="x",
)  # fmt: skip


def test_points_are_measured_on_this_machine() -> None:
    bench = KernelBench(pytest.importorskip("torch"), _ONE)
    heads = {"batch": 1, "heads": 4, "kv_heads": 2, "head_dim": 8}
    for op, shape in (
        ("gemm", {"m": 2, "n": 8, "k": 8}),
        ("norm", {"m": 2, "n": 8}),
        ("elementwise", {"m": 2, "n": 8}),
        ("copy", {"m": 2, "n": 8}),
        ("read", {"m": 2, "n": 8}),
        ("attention_decode", {**heads, "q_len": 1, "kv_len": 4}),
        ("attention_prefill", {**heads, "q_len": 4, "kv_len": 4}),
    ):
        _, times = bench.time(Point(op=op, dtype="fp32", shape=shape))
        assert times
        assert min(times) > 0


@pytest.mark.parametrize("dtype", ["fp8", "fp8_channel"])
def test_products_in_8_bits_convert_their_rows_and_run(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    try:
        kernel, calls = KernelBench(torch, _ONE).calls(
            Point(op="gemm", dtype=dtype, shape={"m": 16, "n": 32, "k": 64})
        )
        result = calls[0]()
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        pytest.skip(f"this torch does not multiply in 8 bits here: {error}")

    assert kernel == "scaled_mm"
    assert (tuple(result.shape), result.dtype) == ((16, 32), torch.bfloat16)


def test_operands_together_are_more_than_twice_the_cache() -> None:
    torch = pytest.importorskip("torch")
    machine = replace(_ONE, cache_bytes=1e6)
    _, calls = KernelBench(torch, machine).calls(
        Point(op="gemm", dtype="fp32", shape={"m": 1, "n": 256, "k": 256})
    )
    weights = {call.args[1].data_ptr() for call in calls}  # type: ignore[attr-defined]

    assert len(weights) * 256 * 256 * 4 > 2 * machine.cache_bytes


def test_points_beside_slow_probes_are_measured_again_and_the_better_row_is_kept(tmp_path: Path) -> None:
    campaign = Campaign(folder=tmp_path, device="box")
    campaign.start(_MACHINE)
    quick, slow = Probe(product_s=1e-3, read_s=2e-3), Probe(product_s=1e-3, read_s=3e-3)
    points = designed_points(_MACHINE, _FORMATS)
    for point in points[:10]:
        campaign.append(point, kernel="linear", times_s=[1e-3], probe=quick)
    disturbed = points[10]
    campaign.append(disturbed, kernel="linear", times_s=[5e-3], probe=slow)

    assert disturbed.key not in campaign.done()
    assert [row["latency_us"] for row in campaign.chosen().slowed] == ["5000"]
    assert len(campaign.chosen().fitted) == 10
    campaign.append(disturbed, kernel="linear", times_s=[2e-3], probe=quick)
    chosen = campaign.chosen()
    assert chosen.slowed == ()
    assert (len(chosen.fitted), chosen.fitted[-1]["latency_us"]) == (11, "2000")
    assert disturbed.key in campaign.done()
    assert len(campaign.rows()) == 12


def test_rows_of_another_version_are_another_campaign(tmp_path: Path) -> None:
    campaign = Campaign(folder=tmp_path, device="box")
    campaign.start(_MACHINE)
    campaign.start(_MACHINE)

    with pytest.raises(InvalidSpecError, match=r"measured with pytorch 2\.0, and this is pytorch 3\.0"):
        campaign.start(replace(_MACHINE, software="pytorch 3.0"))


def test_an_interrupt_keeps_what_was_measured_and_notes_the_run(tmp_path: Path) -> None:
    bench = KernelBench(pytest.importorskip("torch"), _ONE)
    campaign = Campaign(folder=tmp_path, device="box")
    campaign.start(_ONE)
    point = Point(op="norm", dtype="fp32", shape={"m": 2, "n": 8})

    def interrupted() -> None:
        raise KeyboardInterrupt

    tasks = [
        Task(label="one", run=lambda: campaign.append(point, kernel="x", times_s=[1e-6])),
        Task(label="two", run=interrupted),
        Task(label="three", run=lambda: None),
    ]
    with pytest.raises(KeyboardInterrupt):
        measure(bench, campaign, tasks, budget=Budget(seconds=60.0), busy=0.0)
    (run,) = json.loads((tmp_path / "campaign.json").read_text())

    assert campaign.done() == {point.key}
    assert (run["interrupted"], run["tasks_done"], run["tasks_left"]) == (True, 1, 2)


def test_a_task_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    bench = KernelBench(pytest.importorskip("torch"), _ONE)
    campaign = Campaign(folder=tmp_path, device="box")
    campaign.start(_ONE)
    ran: list[int] = []

    def fails() -> None:
        raise RuntimeError("out of memory\nand a page of advice")

    tasks = [Task(label="huge", run=fails), Task(label="small", run=lambda: ran.append(1))]
    measured = measure(bench, campaign, tasks, budget=Budget(seconds=60.0), busy=0.0)

    assert ran == [1]
    assert measured.failed == ("huge: out of memory",)


def test_a_spent_budget_begins_nothing(tmp_path: Path) -> None:
    bench = KernelBench(pytest.importorskip("torch"), _ONE)
    campaign = Campaign(folder=tmp_path, device="box")
    campaign.start(_ONE)
    tasks = kernel_tasks(bench, campaign, ("fp32",))
    measured = measure(bench, campaign, tasks, budget=Budget(seconds=-1.0), busy=0.0)

    assert measured.left == len(tasks)
    assert campaign.rows() == []


def test_a_busy_processor_is_refused_unless_one_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roofline.calibration.microbenchmarks.measure.busy_fraction", lambda: 0.9)

    with pytest.raises(InvalidSpecError, match="others use 90%"):
        refuse_busy(_MACHINE, False)
    assert refuse_busy(_MACHINE, True) == 0.9
    assert refuse_busy(replace(_MACHINE, kind="cuda"), False) == 0.9
